# SPDX-License-Identifier: Apache-2.0
"""How a source puts what it read into evidence: bounded, printable, never silent."""

from vmwarden.errors import Malformed
from vmwarden.model.evidence import Evidence, Subject, Value
from vmwarden.model.moment import Moment

#: characters of one value; DMI strings are at most 64, IANA names at most 40, and consoles have 80 columns
VALUE_CHARACTERS = 200
#: why a signal of the running machine is not in a recording
NOT_LIVE = "live only: a recorded tree has no running machine behind it"


def printable(data: bytes, what: str) -> str:
    """data as text: UTF-8, white space and trailing NULs around it removed.

    Raises Malformed for other encodings, control characters, and more than VALUE_CHARACTERS.
    Evidence is written by strangers and read by people on terminals.
    """
    try:
        return text(data.rstrip(b"\0").decode("utf-8").strip(), what)
    except UnicodeDecodeError as error:
        raise Malformed(f"{what}: not UTF-8") from error


def text(value: str, what: str) -> str:
    """value itself.  Raises Malformed for control characters and for more than VALUE_CHARACTERS."""
    if len(value) > VALUE_CHARACTERS:
        raise Malformed(f"{what}: {len(value)} characters, at most {VALUE_CHARACTERS} are believed")
    if not value.isprintable():
        raise Malformed(f"{what}: contains control characters")
    return value


def shorten(value: str) -> str:
    """value fit for one line of a report: VALUE_CHARACTERS at most, nothing that moves a cursor."""
    return "".join(c if c.isprintable() else "?" for c in value[:VALUE_CHARACTERS])


def declared(
    source: str, subject: Subject, value: Value, now: Moment, *, boot_frozen: bool = False
) -> Evidence:
    """One claim that nobody signed."""
    return Evidence(
        id=f"{source}/{subject}",
        subject=subject,
        source=source,
        value=value,
        observed_at_ms=now.utc_ms,
        observed_boot_ms=now.boot_ms,
        boot_frozen=boot_frozen,
    )


def unavailable(
    source: str, subject: Subject, reason: str, now: Moment, *, finding: str = "", boot_frozen: bool = False
) -> Evidence:
    """The absence of a claim, with the reason (shortened to be printed in one line)."""
    return Evidence(
        id=f"{source}/{subject}",
        subject=subject,
        source=source,
        unavailable=shorten(reason) or "no reason given",
        observed_at_ms=now.utc_ms,
        observed_boot_ms=now.boot_ms,
        boot_frozen=boot_frozen,
        finding=finding,
    )
