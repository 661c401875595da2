# SPDX-License-Identifier: Apache-2.0
"""What a fence says."""

from enum import StrEnum

from vmwarden.model.wire import Wire


class Answer(StrEnum):
    """Three-valued; unknown is not deny, and never allow."""

    ALLOW = "allow"
    DENY = "deny"
    UNKNOWN = "unknown"


class Finding(Wire, frozen=True, kw_only=True):
    """One reason.  id is stable: tests, tickets and dashboards hang on it (docs/reference/findings.md).

    expected and found are for people; source names the source or signer that said so.
    """

    id: str
    answer: Answer
    subject: str = ""
    expected: str = ""
    found: str = ""
    source: str = ""


class Verdict(Wire, frozen=True, kw_only=True):
    """The answer of one fence with every finding, also those of an allow.

    good_until_boot_ms: an allow lapses at this CLOCK_BOOTTIME because its support runs out; None = no end.
    scheduled: a deny of the calendar: nothing is wrong, and no ladder follows.
    """

    fence: str
    answer: Answer
    findings: tuple[Finding, ...] = ()
    good_until_boot_ms: int | None = None
    scheduled: bool = False
