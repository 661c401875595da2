# SPDX-License-Identifier: Apache-2.0
"""What makes a list of time servers mean nothing: every mistake, with its mend.  What it needs to reach, and
how often."""

import base64
import binascii
import ipaddress
from collections.abc import Iterator
from typing import NamedTuple

from vmwarden.errors import Malformed
from vmwarden.model.time_servers import NTP_PORT, TimeServer, TrustedTime
from vmwarden.rules import duration

Path = tuple[str | int, ...]

#: what half of it is the uncertainty of: below 10 ms no honest network passes, beyond 2 s no slot is kept
ROUND_TRIP_MS = (10, 2_000)
#: questions within the time for which a stamp counts, so that one lost answer closes nothing
_QUESTIONS = 3
#: between rounds, milliseconds: not sooner than RFC 5905 section 7.2 has it (MINPOLL), and where nothing
#: waits for a stamp as often as its appendix A.5.7.1 begins with (64 s)
_LEAST_PERIOD_MS, _PERIOD_MS = 16_000, 64_000


class Flaw(NamedTuple):
    """path: keys as the author writes them, and indices."""

    path: Path
    message: str
    mend: str = ""


class Need(NamedTuple):
    """A way that a time server has to be reached by while the VM is closed: an entry of policy.reach."""

    server: int
    address: str
    tcp: int | None = None
    udp: int | None = None


def flaws(time: TrustedTime) -> Iterator[Flaw]:
    """In the order of the fields.  Whether an authority is a certificate at all, TLS says when it is used."""
    names: set[str] = set()
    places: dict[tuple[str, int], str] = {}
    keys: dict[str, str] = {}
    for index, server in enumerate(time.servers):
        path: Path = ("servers", index)
        if server.name in names:
            yield Flaw((*path, "name"), f"{server.name!r} is there twice", "one server, one vote")
        names.add(server.name)
        for field, address in (("address", server.address), ("ntp_address", server.ntp_address)):
            yield from _address((*path, field), address)
        place = ntp_place(server)
        if place in places:
            yield Flaw(path, f"is at the same address and port as {places[place]}", "one server, one vote")
        places.setdefault(place, server.name)
        for number, key in enumerate(server.keys):
            if not _is_base64(key.removeprefix("sha256:")):
                yield Flaw((*path, "keys", number), "is no SHA-256 in base64", "44 characters after sha256:")
            if keys.setdefault(key, server.name) != server.name:
                yield Flaw(
                    (*path, "keys", number), f"is a key of {keys[key]} too", "one server, one key, one vote"
                )
        if not server.keys and not time.authorities:
            yield Flaw(
                path,
                "has no keys, and there are no authorities: nobody could tell it from another",
                "pin its key under keys, or list the root of its certificate under authorities",
            )
    for index, authority in enumerate(time.authorities):
        if not _is_base64(authority):
            yield Flaw(("authorities", index), "is not base64", "openssl x509 -outform DER | base64 -w0")
    try:
        given = duration.milliseconds(time.round_trip)
    except Malformed as error:
        yield Flaw(("round_trip",), str(error), error.problems[0].mend)
        return
    least, most = ROUND_TRIP_MS
    if not least <= given <= most:
        yield Flaw(
            ("round_trip",), f"{time.round_trip} is not within {least}ms to {most}ms", "500ms is the default"
        )


def needs(time: TrustedTime) -> tuple[Need, ...]:
    """Two for each server, in order: its key establishment, and its NTP."""
    found = []
    for index, server in enumerate(time.servers):
        found.append(Need(index, server.address, tcp=server.port))
        found.append(Need(index, server.ntp_address or server.address, udp=server.ntp_port))
    return tuple(found)


def period_ms(recheck_ms: int | None) -> int:
    """Between rounds of questions.  recheck_ms: for so long a stamp counts; None = for ever."""
    return _PERIOD_MS if recheck_ms is None else max(_LEAST_PERIOD_MS, recheck_ms // _QUESTIONS)


def ntp_place(server: TimeServer) -> tuple[str, int]:
    """Address and port at which it gives the time; one address has one form."""
    return _one_form(server.ntp_address or server.address), server.ntp_port


def leads_there(server: TimeServer, *, name: str | None, port: int | None) -> bool:
    """Whether key establishment sends its clients where the policy has it give the time.

    name, port: as it says, None = nothing.  Its own name is where it is itself; other names nobody looks up.
    """
    address, listed = ntp_place(server)
    if (port or NTP_PORT) != listed:
        return False
    if name is None:
        return True
    itself = server.ntp_address is None and name.rstrip(".").lower() == server.name
    return itself or _one_form(name) == address


def _one_form(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text


def _address(path: Path, text: str | None) -> Iterator[Flaw]:
    if text is None:
        return
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        yield Flaw(path, f"{text!r} is no address", "a closed VM asks no DNS: write the address itself")
        return
    if address.is_multicast or address.is_unspecified:
        yield Flaw(path, f"{text} is nobody's address", "write that of the server")


def _is_base64(text: str) -> bool:
    try:
        return base64.b64encode(base64.b64decode(text, validate=True)).decode() == text
    except (binascii.Error, ValueError):
        return False
