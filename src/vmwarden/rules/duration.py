# SPDX-License-Identifier: Apache-2.0
"""Durations as policies write them."""

import re

from vmwarden.errors import Malformed

_FORM = re.compile(r"^([0-9]{1,9})(ms|s|m|h|d)$")
_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def milliseconds(text: str) -> int:
    """Of "90s": 90000.  Raises Malformed."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise Malformed(f"{text!r} is not a duration", mend="write like 500ms, 60s, 10m, 24h, 7d")
    return int(match[1]) * _MS[match[2]]
