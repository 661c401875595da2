# SPDX-License-Identifier: Apache-2.0
"""What all evidence on one subject adds up to."""

from enum import StrEnum

import msgspec

from vmwarden.model.evidence import Evidence, Proof, Subject, Value


class Standing(StrEnum):
    """Whether a fact can be relied upon."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    CONTRADICTED = "contradicted"


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """A value, unknown or contradicted, with the proof reached and the evidence behind it.

    at_least: the proof that evidence had to reach in order to count.
    proof: the strongest proof behind value; None unless known.
    signers: distinct keys that vouch for value.
    evidence: what counted.  discounted: what was there and did not count (too weak, too old,
    unavailable, refused), each with the stable finding id of why.
    good_until_boot_ms: the last CLOCK_BOOTTIME at which value still has all the support it needs, if
    nothing new comes; None unless known.
    """

    subject: Subject
    at_least: Proof
    standing: Standing
    value: Value = None
    proof: Proof | None = None
    signers: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    discounted: tuple[tuple[Evidence, str], ...] = ()
    good_until_boot_ms: int | None = None
