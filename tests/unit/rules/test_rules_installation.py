# SPDX-License-Identifier: Apache-2.0
"""Every state of the disk and its outcome."""

from dataclasses import dataclass

import msgspec
import pytest

from vmwarden.model.installed import Cell, Outcome, Slot, Unreadable
from vmwarden.model.policy import Valid
from vmwarden.model.verdict import Answer
from vmwarden.rules import canonical
from vmwarden.rules.installation import judge
from vmwarden.rules.trust import policy_findings
from vmwarden.testing.owners import owners, signed_policy
from vmwarden.testing.state import (
    confirmed,
    enrolled,
    enrolment,
    file,
    floors,
    identity,
    image,
    on_trial,
    policy,
)

ENFORCE, OBSERVE = policy(5, "enforce"), policy(5, "observe")
ELSEWHERE = msgspec.structs.replace(ENFORCE, vms=("other-*",))
OBSERVE_ELSEWHERE = msgspec.structs.replace(OBSERVE, vms=("other-*",))
#: well inside the period of all policies
UTC_MS = 1_798_800_000_000
JUNK = b"\x00\xffjunk"
LINK = Unreadable("is a symbolic link")
NOBODY = canonical.encode(owners("ada", policy_threshold=2))
STRANGERS = canonical.encode(owners("eve", "mal", policy_threshold=2))

Changes = dict[Slot, Cell]


@dataclass(frozen=True)
class Case:
    """state gives outcome, with exactly these findings that are no allow; infos are the others."""

    title: str
    state: dict[Slot, Cell]
    outcome: Outcome
    findings: tuple[str, ...] = ()
    infos: tuple[str, ...] = ()
    armed: bool = False
    confirmed: bool = False
    in_force: int | None = None
    trial: bool = False


def observing(title: str, changes: Changes, *findings: str, in_force: int | None = None) -> Case:
    """Of a VM with a confirmed observe policy, that is damaged: observes."""
    state = confirmed(OBSERVE) | changes
    return Case(title, state, Outcome.OBSERVE, findings, in_force=in_force)


def enforcing(title: str, changes: Changes, *findings: str) -> Case:
    """Of an armed VM: stays as it was."""
    state = confirmed(ENFORCE) | changes
    return Case(title, state, Outcome.ENFORCE, findings, armed=True, confirmed=True, in_force=5)


def closed(title: str, changes: Changes, *findings: str) -> Case:
    """Of an armed VM: closed."""
    return Case(title, confirmed(ENFORCE) | changes, Outcome.CLOSED, findings, armed=True)


POLICY, PENDING, FLOORS = Slot.POLICY, Slot.PENDING, Slot.FLOORS
CASES = (
    Case("nothing at all", {}, Outcome.OBSERVE, infos=("enrolment.none",)),
    Case("an image with owners", image(), Outcome.OBSERVE, infos=("enrolment.none",)),
    Case(
        "enrolment damaged, never armed",
        enrolled() | {Slot.ENROLMENT: JUNK},
        Outcome.OBSERVE,
        ("enrolment.unreadable",),
    ),
    Case("enrolled without policy", enrolled(), Outcome.OBSERVE, infos=("policy.none",)),
    Case(
        "enrolled, owners gone",
        enrolled() | {Slot.OWNERS: None},
        Outcome.OBSERVE,
        ("owners.missing",),
        infos=("policy.none",),
    ),
    Case("observing", confirmed(OBSERVE), Outcome.OBSERVE, confirmed=True, in_force=5),
    observing("observing, damaged", {POLICY: JUNK}, "policy.unreadable"),
    observing("observing, for another VM", {POLICY: file(OBSERVE_ELSEWHERE)}, "policy.other-vm"),
    observing("observing, older put there", {POLICY: file(policy(4, "observe"))}, "policy.rolled-back"),
    observing(
        "observing, newer put there by hand",
        {POLICY: file(policy(6, "observe"))},
        "policy.unapplied",
        in_force=6,
    ),
    observing("observing, floors gone", {FLOORS: None}, "floors.missing", "policy.unapplied", in_force=5),
    Case(
        "observing, enforce put there by hand",
        confirmed(OBSERVE) | {POLICY: file(policy(6, "enforce"))},
        Outcome.ENFORCE,
        ("policy.unapplied",),
        in_force=6,
    ),
    enforcing("armed", {}),
    enforcing("latch removed", {Slot.ARMED: None}, "latch.missing"),
    enforcing("latch damaged", {Slot.ARMED: JUNK}, "latch.unreadable"),
    enforcing("latch a link", {Slot.ARMED: LINK}, "latch.unreadable"),
    enforcing("closed ruleset gone", {Slot.CLOSED: None}, "closed-rules.missing"),
    enforcing("identity gone", {Slot.IDENTITY: None}, "identity.missing"),
    enforcing("identity damaged", {Slot.IDENTITY: JUNK}, "identity.unreadable"),
    enforcing("identity readable by others", {Slot.IDENTITY: LINK}, "identity.unreadable"),
    enforcing("identity of another", {Slot.IDENTITY: identity("another")}, "identity.mismatch"),
    enforcing("note of a trial damaged while none runs", {PENDING: JUNK}, "pending.unreadable"),
    Case(
        "armed, newer enforce put there by hand",
        confirmed(ENFORCE) | {POLICY: file(policy(6, "enforce"))},
        Outcome.ENFORCE,
        ("policy.unapplied",),
        armed=True,
        in_force=6,
    ),
    closed("policy removed", {POLICY: None}, "policy.missing"),
    closed("policy and latch removed", {POLICY: None, Slot.ARMED: None}, "policy.missing", "latch.missing"),
    closed("policy and floors removed", {POLICY: None, FLOORS: None}, "floors.missing"),
    closed("policy damaged", {POLICY: JUNK}, "policy.unreadable"),
    closed("policy a link", {POLICY: LINK}, "policy.unreadable"),
    closed("policy not canonical", {POLICY: file(ENFORCE) + b"\n"}, "policy.unreadable"),
    closed("policy unsigned", {POLICY: signed_policy(ENFORCE)}, "policy.bad-signature"),
    closed("policy signed by strangers", {POLICY: file(ENFORCE, "eve", "mal")}, "policy.bad-signature"),
    closed("policy signed by too few", {POLICY: file(ENFORCE, "cyd", "eve")}, "policy.too-few-signatures"),
    closed("policy signed twice by one", {POLICY: file(ENFORCE, "cyd", "cyd")}, "policy.too-few-signatures"),
    closed("policy for another VM", {POLICY: file(ELSEWHERE)}, "policy.other-vm"),
    closed("older policy", {POLICY: file(policy(4, "enforce"))}, "policy.rolled-back"),
    closed("older observe policy", {POLICY: file(policy(4, "observe"))}, "policy.rolled-back"),
    closed("other content", {POLICY: file(policy(5, "enforce", name="else"))}, "policy.replaced"),
    closed("other content that observes", {POLICY: file(OBSERVE)}, "policy.replaced"),
    closed("newer observe put there by hand", {POLICY: file(policy(6, "observe"))}, "policy.unapplied"),
    closed("owners removed", {Slot.OWNERS: None}, "owners.missing"),
    closed("owners damaged", {Slot.OWNERS: JUNK}, "owners.unreadable"),
    closed("owners that nobody can satisfy", {Slot.OWNERS: NOBODY}, "owners.unreadable"),
    closed("owners older than seen", {FLOORS: floors(ENFORCE, owners_version=2)}, "owners.rolled-back"),
    closed("owners exchanged", {Slot.OWNERS: STRANGERS}, "policy.bad-signature"),
    closed("enrolment removed", {Slot.ENROLMENT: None}, "enrolment.missing"),
    closed("enrolment damaged", {Slot.ENROLMENT: JUNK}, "enrolment.unreadable"),
    closed("enrolled as another", {Slot.ENROLMENT: enrolment("web-1")}, "policy.other-vm"),
    closed("floors removed", {FLOORS: None}, "floors.missing"),
    closed("floors damaged", {FLOORS: JUNK}, "floors.unreadable"),
    closed("floors above the policy", {FLOORS: floors(policy(9, "enforce"))}, "policy.rolled-back"),
    Case(
        "enforce on trial, never armed",
        on_trial(policy(6, "enforce"), confirmed(OBSERVE)),
        Outcome.ENFORCE,
        in_force=6,
        trial=True,
    ),
    Case(
        "enforce on trial, damaged",
        on_trial(policy(6, "enforce"), confirmed(OBSERVE)) | {POLICY: JUNK},
        Outcome.CLOSED,
        ("policy.unreadable",),
    ),
    Case(
        "enforce on trial, the note of it damaged",
        on_trial(policy(6, "enforce"), confirmed(OBSERVE)) | {PENDING: JUNK},
        Outcome.ENFORCE,
        ("pending.unreadable", "policy.unapplied"),
        in_force=6,
    ),
    Case(
        "observe on trial, armed",
        on_trial(policy(6, "observe"), confirmed(ENFORCE)),
        Outcome.OBSERVE,
        armed=True,
        in_force=6,
        trial=True,
    ),
    Case(
        "observe on trial, armed, the note of it damaged",
        on_trial(policy(6, "observe"), confirmed(ENFORCE)) | {PENDING: JUNK},
        Outcome.CLOSED,
        ("pending.unreadable", "policy.unapplied"),
        armed=True,
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_outcome_of_every_state(case: Case) -> None:
    found = judge(case.state)
    assert found.outcome is case.outcome
    assert sorted(f.id for f in found.findings if f.answer is not Answer.ALLOW) == sorted(case.findings)
    assert tuple(f.id for f in found.findings if f.answer is Answer.ALLOW) == case.infos
    assert (found.armed, found.confirmed) == (case.armed, case.confirmed)
    assert (found.policy.version if found.policy else None) == case.in_force
    assert (found.pending is not None) == case.trial


def test_closed_says_why_first_and_as_a_deny() -> None:
    found = judge(confirmed(ENFORCE) | {POLICY: None})
    assert (found.findings[0].id, found.findings[0].answer) == ("policy.missing", Answer.DENY)


def test_expired_in_force_stays_in_force_and_says_so() -> None:
    found = judge(confirmed(ENFORCE))
    assert found.outcome is Outcome.ENFORCE
    assert found.policy is not None
    assert [f.id for f in policy_findings(found.policy, 1_830_000_000_000)] == ["policy.expired"]


def test_a_date_that_no_calendar_has_closes_nothing() -> None:
    odd = msgspec.structs.replace(ENFORCE, valid=Valid(from_="2026-02-31T00:00Z", until="2027-11-01T00:00Z"))
    found = judge(confirmed(odd))
    assert found.outcome is Outcome.ENFORCE
    assert [f.id for f in policy_findings(odd, UTC_MS)] == ["policy.period-unreadable"]
