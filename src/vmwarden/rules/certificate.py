# SPDX-License-Identifier: Apache-2.0
"""When a time server's certificate counts, and whose key it is.

A certificate has dates, and the time is what the server is asked for (RFC 8915 section 8.5).  The local clock
cannot judge them: the host sets it.  So a chain has to be valid at a moment that is still possible, which is
one not below the floor; and each stamp that its holder then gives has to lie within its dates.  Who has got
hold of the key of an expired certificate can only give stamps from before its end, and those that are below
the floor count for nothing.
"""

import base64
from typing import NamedTuple

from vmwarden.rules.sha2 import sha256


def pin(spki: bytes) -> str:
    """How a policy names a key: of its SubjectPublicKeyInfo in DER."""
    return "sha256:" + base64.b64encode(sha256(spki).digest()).decode("ascii")


class Period(NamedTuple):
    """When a chain is valid: milliseconds since 1970, both included."""

    not_before_ms: int
    not_after_ms: int

    def possible(self, at_least_ms: int) -> bool:
        """Whether it may be valid now, or later.  at_least_ms: an instant that has certainly passed."""
        return self.not_after_ms >= max(at_least_ms, self.not_before_ms)

    def holds(self, utc_ms: int) -> bool:
        """Whether it is valid at that instant."""
        return self.not_before_ms <= utc_ms <= self.not_after_ms
