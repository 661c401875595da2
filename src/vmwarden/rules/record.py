# SPDX-License-Identifier: Apache-2.0
"""From what the warden wants to say to the bytes that are signed."""

from typing import Any

import msgspec

from vmwarden.errors import BugError, UntrustedInput
from vmwarden.model.journal import KINDS, RECORD_BYTES, Record
from vmwarden.model.moment import Moment
from vmwarden.rules import canonical

#: integers up to here are exact in readers that keep numbers as IEEE doubles (RFC 8259, section 6)
_EXACT = 2**53 - 1


def make(kind: str, body: dict[str, Any], now: Moment, *, seq: int) -> tuple[Record, bytes]:
    """The record as everybody will read it, and its canonical bytes.

    Raises BugError for a kind that is not in KINDS, for a body that has no canonical form (floats, big
    numbers, anything but text, numbers, truth values, lists and objects) and for more than RECORD_BYTES.
    """
    if kind not in KINDS:
        raise BugError(f"no kind of record is called {kind!r}")
    record = Record(
        seq=seq, utc_ms=now.utc_ms, boot_ms=now.boot_ms, boot_id=now.boot_id, kind=kind, body=body
    )
    try:
        _demand_plain(msgspec.to_builtins(record.body), kind)
        data = canonical.encode(record)
        if len(data) > RECORD_BYTES:
            raise BugError(f"a record {kind} of {len(data)} bytes, at most {RECORD_BYTES} are written")
        read = canonical.decode(data, Record, limit=RECORD_BYTES, what=f"a record {kind}")
    except (UntrustedInput, msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
        raise BugError(f"a record {kind} that cannot be written: {error}") from error
    return read, data


def _demand_plain(value: object, kind: str) -> None:
    """Floats and big numbers have no form that all readers of JSON agree on."""
    if isinstance(value, float) or (isinstance(value, int) and abs(value) > _EXACT):
        raise BugError(f"a record {kind} with the number {value!r}")
    if isinstance(value, dict):
        for one in value.values():
            _demand_plain(one, kind)
    elif isinstance(value, list | tuple):
        for one in value:
            _demand_plain(one, kind)
