# SPDX-License-Identifier: Apache-2.0
"""Instants as policies write them."""

import re
from datetime import UTC, datetime
from functools import lru_cache

from vmwarden.errors import Malformed

_FORM = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2})?(Z|[+-][0-9]{2}:[0-9]{2})")
_MEND = "write like 2026-11-01T00:00Z or 2026-11-01T00:00:00+01:00"


@lru_cache(maxsize=64)
def milliseconds(text: str) -> int:
    """Since 1970, UTC.  Raises Malformed, also for dates that no calendar has.

    Remembered, because every turn asks for the two ends of the policy in force.
    """
    if _FORM.fullmatch(text) is None:
        raise Malformed(f"{text!r} is not an instant", mend=_MEND)
    try:
        return int(datetime.fromisoformat(text).timestamp()) * 1000
    except (ValueError, OverflowError) as error:
        raise Malformed(f"{text!r} is not an instant: {error}", mend=_MEND) from error


def text(utc_ms: int) -> str:
    """2026-11-01T00:00:00Z: whole seconds, rounded down; years 1 to 9999, others as plain milliseconds."""
    try:
        return datetime.fromtimestamp(utc_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{utc_ms} ms since 1970"
