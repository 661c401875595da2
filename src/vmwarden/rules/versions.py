# SPDX-License-Identifier: Apache-2.0
"""Dotted version numbers."""

import re
from functools import lru_cache

# At most eight numbers of at most twelve digits: more is not a version, and int() of a very long
# text is refused by Python itself.
_LEADING = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,12}){0,7})(?=$|\s)")


@lru_cache(maxsize=256)
def numbers(text: str) -> tuple[int, ...] | None:
    """(8, 2) of "8.2.0" and of "8.2 (Debian)"; None where no plain version leads the text.

    Trailing zeros say nothing and are left out.  "9.0-rc1" is None: it is older than 9.0, and how
    makers mark that differs.
    """
    match = _LEADING.match(text.strip())
    if match is None:
        return None
    parts = [int(part) for part in match[1].split(".")]
    while parts and parts[-1] == 0:
        parts.pop()
    return tuple(parts)


def reaches(found: str, wanted: str) -> bool | None:
    """Whether version found is wanted or newer, compared number by number; None: one is no version."""
    have, need = numbers(found), numbers(wanted)
    if have is None or need is None:
        return None
    return have >= need
