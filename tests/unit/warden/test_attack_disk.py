# SPDX-License-Identifier: Apache-2.0
"""Disks that are full, read-only, slow or damaged while the VM is armed."""

import msgspec
import pytest
from ward import FakeState, Ward, policy

from vmwarden.errors import ControlFailed, FileUnavailable
from vmwarden.model.escalation import Escalation
from vmwarden.model.installed import Change, Installed, Outcome, Pending
from vmwarden.model.moment import Moment
from vmwarden.model.verdict import Answer, Finding
from vmwarden.rules.ruleset import NO_MANAGE, closed, intact


class ReadOnly(FakeState):
    """A trial on a disk that takes no writes; load tells what it would be after the writes (store.installed)."""

    after: Installed | None = None

    def load(self, now: Moment) -> Installed:
        pending = self.installed.pending
        over = pending is not None and now.boot_ms >= pending.deadline_boot_ms
        return self.after if over and self.after is not None else self.installed

    def settle(self, now: Moment) -> tuple[Change, ...]:
        raise FileUnavailable("lock: read-only file system")

    revert_if_due = settle


def on_trial(ward: Ward, deadline_ms: int) -> Pending:
    return Pending(
        state="trial",
        document="0" * 64,
        name="payments",
        version=8,
        mode="observe",
        boot_id=ward.clock.now().boot_id,
        applied_boot_ms=ward.clock.now().boot_ms,
        applied_utc_ms=0,
        deadline_boot_ms=deadline_ms,
    )


def test_a_trial_ends_on_time_while_the_disk_takes_no_writes() -> None:
    ward = Ward()
    before = ward.state.installed
    state = ReadOnly(
        msgspec.structs.replace(
            before,
            outcome=Outcome.OBSERVE,
            policy=policy(mode="observe", version=8),
            pending=on_trial(ward, ward.clock.now().boot_ms + 10_000),
        )
    )
    state.after = before
    ward.state = state
    ward.build().start()
    assert ward.warden.status().mode == "observe"

    ward.pass_time(12_000)

    assert ward.warden.status().mode == "enforce"
    assert ward.gate.passing() == "manage"


def closed_without(rules: str) -> Ward:
    ward = Ward()
    why = Finding(id="policy.unreadable", answer=Answer.DENY, found="garbage")
    ward.state.installed = msgspec.structs.replace(
        ward.state.installed, outcome=Outcome.CLOSED, policy=None, findings=(why,)
    )
    ward.state.boot_rules = lambda: rules  # type: ignore[method-assign]
    return ward.start()


GOOD = closed(policy(), users={})


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        "\n",
        GOOD[: GOOD.index("table inet vmwarden {")],
        GOOD.replace("counter drop", "counter accept"),
        GOOD.replace("policy drop", "policy accept").replace("10.20.0.0/16", "10.20.0.0/6"),
        "table inet vmwarden {}\n",
        "\ufffd" * 100,
    ],
)
def test_a_damaged_boot_file_never_opens_an_armed_vm(damaged: str) -> None:
    assert not intact(damaged)

    ward = closed_without(damaged)
    ward.pass_time(2_000)

    assert ward.gate.acts[-1] == ("restore", NO_MANAGE)
    assert ward.gate.passing() == "manage"


def test_the_boot_file_as_it_was_written_is_kept() -> None:
    assert intact(GOOD)
    assert intact(NO_MANAGE)
    ward = closed_without(GOOD)

    assert ("restore", GOOD) in ward.gate.acts


def test_a_policy_that_cannot_be_installed_leaves_the_vm_closed() -> None:
    ward = Ward()

    def install(will: object) -> None:
        raise ControlFailed("there is no user backup on this VM")

    ward.gate.install = install  # type: ignore[method-assign, assignment]
    ward.start()
    ward.round()

    assert ward.gate.passing() == "manage"
    assert ward.warden.status().posture == "held"


def test_the_gate_closes_before_anything_is_written() -> None:
    ward = Ward().start()
    ward.round()
    seen: list[str] = []
    remember = ward.state.remember

    def slow(escalation: Escalation) -> None:
        seen.append(ward.gate.passing())
        remember(escalation)

    ward.state.remember = slow  # type: ignore[method-assign]
    ward.clock.advance(21_000)
    ward.round(country="FR")

    assert seen and set(seen) == {"manage"}


def test_closed_rules_that_an_earlier_life_left_behind_go_when_nothing_is_enforced() -> None:
    ward = Ward(policy(mode="observe"))
    ward.gate.restore(GOOD)  # vmwarden-closed at boot, and then the latch was found to be gone
    ward.gate.die()
    assert ward.gate.passing() == "manage"

    ward.start()

    assert ward.gate.passing() == "free"
    assert "gate.removed" in ward.kinds()


def test_observe_only_leaves_them_alone() -> None:
    ward = Ward(policy(mode="observe"), observe_only=True)
    ward.gate.restore(GOOD)
    ward.start()

    assert ward.gate.passing() == "manage"


def test_a_renewal_without_an_answer_is_ended_when_the_verdict_turns() -> None:
    ward = Ward().start()
    ward.round()
    lease = ward.gate.lease

    def lost(milliseconds: int, *, guarded: bool = False) -> None:
        lease(milliseconds, guarded=guarded)
        raise ControlFailed("renewing the lease: no answer within 2 s")

    ward.gate.lease = lost  # type: ignore[method-assign]
    ward.clock.advance(21_000)
    ward.warden.tick()
    ward.round(country="FR")

    assert ward.gate.passing() == "manage", "it may have taken place: it has to be flushed"
