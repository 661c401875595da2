# SPDX-License-Identifier: Apache-2.0
"""Disks that are full, read-only, slow or damaged while the VM is armed."""

from pathlib import Path
from typing import Any

import pytest

from tests.unit.warden.ward import Ward, policy
from vmwarden.errors import ControlFailed
from vmwarden.model.escalation import Escalation
from vmwarden.model.policy import Policy
from vmwarden.rules.ruleset import NO_MANAGE, closed, intact
from vmwarden.store.layout import Layout
from vmwarden.warden.memory import Memory

GOOD = closed(policy(), users={})


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        "\n",
        GOOD[: GOOD.index("table inet vmwarden {")],
        GOOD[:-3],
        GOOD + GOOD,
        GOOD.replace("counter drop", "counter accept"),
        GOOD.replace("policy drop", "policy accept"),
        GOOD.replace("10.20.0.0/16", "10.20.0.0/6"),
        GOOD.replace("# vmwarden", "flush ruleset\n# vmwarden"),
        "table inet vmwarden {}\n",
        "\ufffd" * 100,
    ],
)
def test_a_damaged_boot_file_never_opens_an_armed_vm(damaged: str, tmp_path: Path) -> None:
    layout = Layout.below(tmp_path)
    layout.state.mkdir(parents=True, mode=0o700)
    layout.closed_rules.write_text(damaged)
    layout.closed_rules.chmod(0o600)

    assert not intact(damaged)
    assert Memory(layout).boot_rules() == NO_MANAGE


def test_the_boot_file_as_it_was_written_is_kept(tmp_path: Path) -> None:
    layout = Layout.below(tmp_path)
    layout.state.mkdir(parents=True, mode=0o700)
    layout.closed_rules.write_text(GOOD)
    layout.closed_rules.chmod(0o600)

    assert intact(GOOD)
    assert intact(NO_MANAGE)
    assert Memory(layout).boot_rules() == GOOD


def test_a_policy_that_cannot_be_installed_leaves_the_vm_closed() -> None:
    ward = Ward()

    def install(policy: Policy) -> None:
        raise ControlFailed("there is no user backup on this VM")

    ward.gate.install = install  # type: ignore[method-assign]
    ward.start()
    ward.round()

    assert ward.gate.passing() == "manage"
    assert ward.warden.status().posture == "held"
    assert ward.kinds().count("posture.failed") == 1

    del ward.gate.install
    ward.pass_time(2_000)
    assert ward.gate.passing() == "open", "the user is back"


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

    def lost(milliseconds: int, **words: Any) -> None:
        lease(milliseconds, **words)
        raise ControlFailed("renewing the lease: no answer within 2 s")

    ward.gate.lease = lost  # type: ignore[method-assign]
    ward.clock.advance(21_000)
    ward.warden.tick()
    ward.round(country="FR")

    assert ward.gate.passing() == "manage", "it may have taken place: it has to be flushed"
