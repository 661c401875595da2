# SPDX-License-Identifier: Apache-2.0
"""What the warden says: to the journal, bounded, and to people, in one line."""

from typing import Any

import msgspec

from vmwarden.model.decision import Decision
from vmwarden.model.verdict import Answer, Finding
from vmwarden.rules import canonical

#: bytes of the findings in one record, of the RECORD_BYTES that it may have
FINDINGS_BYTES = 48_000
#: characters of a reason that is recorded; reasons that are told on the console
REASON, TOLD_REASONS = 1_000, 12


def fitting(findings: tuple[Finding, ...]) -> dict[str, Any]:
    """findings as a record holds them: those that decided first, and how many had no room ("more")."""
    order = (Answer.DENY, Answer.UNKNOWN, Answer.ALLOW)
    kept: list[Any] = []
    used = 0
    for finding in sorted(findings, key=lambda one: order.index(one.answer)):
        short = msgspec.structs.replace(
            finding, expected=finding.expected[:REASON], found=finding.found[:REASON]
        )
        used += len(canonical.encode(short)) + 1
        if used > FINDINGS_BYTES:
            break
        kept.append(msgspec.to_builtins(short))
    more = len(findings) - len(kept)
    return {"findings": kept, **({"more": more} if more else {})}


def describe(decision: Decision, findings: tuple[Finding, ...], *, enforcing: bool) -> str:
    """One line that says what and exactly why."""
    verb = "posture" if enforcing else "observe: would take posture"
    # the console has room for what decided; the rest is for explain
    told = decision.findings if decision.answer is Answer.ALLOW else findings
    reasons = [f for f in told if f.answer is Answer.DENY] or [f for f in told if f.answer is Answer.UNKNOWN]
    more = f"; and {len(reasons) - TOLD_REASONS} more" if len(reasons) > TOLD_REASONS else ""
    shown = "; ".join(
        f.id
        + (
            f" (expected {f.expected[:REASON]}, found {f.found or 'nothing'})"
            if f.expected
            else f" ({f.found})"
            if f.found
            else ""
        )
        for f in reasons[:TOLD_REASONS]
    )
    return f"{verb} {decision.posture}: {decision.answer}" + (f": {shown}{more}" if shown else "")
