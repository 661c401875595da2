# SPDX-License-Identifier: Apache-2.0
"""What the kernel tells of the gate, and what leads around it."""

from typing import Any

import pytest

from tests.unit.warden.ward import Ward, policy
from vmwarden.model.flow import Flow
from vmwarden.model.link import Link, LinkEvent
from vmwarden.model.policy import Place, PlaceEntry, WrongRung
from vmwarden.model.posture import Posture
from vmwarden.model.verdict import Answer, Finding
from vmwarden.ports.gate import Heard

XDP = Finding(id="gate.around.xdp", answer=Answer.DENY, subject="eth0", source="gate")


def _acts(ward: Ward, *kinds: str) -> list[Any]:
    return [act for act in ward.gate.acts if act[0] in kinds]


def _quarantining() -> Ward:
    place = Place(
        any_of=(PlaceEntry(country="DE"),),
        wrong=(
            WrongRung(after="0s", posture=Posture.HELD),
            WrongRung(after="10s", posture=Posture.QUARANTINED),
        ),
    )
    return Ward(policy(place=place)).start()


def test_rules_that_somebody_changed_are_put_back_when_the_kernel_tells_of_it() -> None:
    ward = Ward().start()
    ward.round()
    ward.gate.tamper()
    ward.gate.told = Heard(touched=True)
    installs = len(_acts(ward, "install"))
    ward.warden.gate_event()
    assert len(_acts(ward, "install")) == installs + 1
    assert "gate.repaired" in ward.kinds()


def test_what_others_do_to_their_own_rules_costs_nothing() -> None:
    ward = Ward().start()
    ward.round()
    before = list(ward.gate.acts)
    ward.warden.gate_event()
    assert ward.gate.acts == before


@pytest.mark.parametrize(
    "told",
    [
        Heard(links=(LinkEvent(link=Link(index=2, name="eth0"), announce=True),)),
        Heard(lost=True),
    ],
)
def test_an_announcement_or_lost_events_ask_for_evidence_at_once(told: Heard) -> None:
    ward = Ward().start()
    ward.round()
    assert ward.warden.gather() is None
    ward.gate.told = told
    ward.warden.gate_event()
    assert ward.warden.gather() is not None
    assert "event" in ward.kinds()


def test_other_events_of_devices_ask_for_nothing() -> None:
    ward = Ward().start()
    ward.round()
    ward.gate.told = Heard(links=(LinkEvent(link=Link(index=9, name="veth9")),))
    ward.warden.gate_event()
    assert ward.warden.gather() is None


def test_ways_around_are_findings_while_the_vm_is_not_open() -> None:
    ward = Ward().start()
    ward.gate.ways = (XDP,)
    ward.round(country="FR")
    assert "gate.around.xdp" in ward.findings()
    ward.pass_time(2_000)
    assert _acts(ward, "cut_links") == [], "held: no device is switched off"


def test_from_quarantined_on_the_device_is_switched_off_and_on_again_when_all_is_well() -> None:
    ward = _quarantining()
    ward.gate.ways = (XDP,)
    ward.round(country="FR")
    ward.pass_time(12_000)
    assert _acts(ward, "cut_links") == [("cut_links", "eth0")]
    assert "gate.link-down" in ward.kinds()
    ward.pass_time(5_000)
    assert len(_acts(ward, "cut_links")) == 1, "once is enough"
    ward.round()
    assert _acts(ward, "mend_links") == [("mend_links", "eth0")]
    assert "gate.link-up" in ward.kinds()
    assert ward.gate.passing() == "open"


def test_without_a_way_around_no_device_is_switched_off() -> None:
    ward = _quarantining()
    ward.round(country="FR")
    ward.pass_time(12_000)
    assert _acts(ward, "cut_links") == []


def test_in_observe_mode_no_device_is_switched_off_and_nothing_is_listened_to() -> None:
    ward = Ward(policy(mode="observe")).start()
    ward.gate.ways = (XDP,)
    ward.round(country="FR")
    ward.pass_time(120_000)
    assert ward.gate.acts == []
    assert ward.warden.gate_filenos() == ()


def test_held_ends_no_flow_and_quarantined_ends_them_once() -> None:
    ward = _quarantining()
    ward.round()
    ward.pass_time(21_000)
    ward.round(country="FR")
    ward.pass_time(5_000)
    assert ward.flows.acts == []
    ward.pass_time(20_000)
    assert [act for act in ward.flows.acts if act[0] == "begin"] == [("begin", "payments", 7)]
    assert len(_acts(ward, "end_flows")) == 1
    assert ward.gate.acts.index(("flush",)) < ward.gate.acts.index(_acts(ward, "end_flows")[0])


def test_flows_that_are_left_are_ended_turn_by_turn_and_recorded() -> None:
    ward = _quarantining()
    ward.flows.alive = [
        Flow("tcp", bytes([192, 0, 2, 1]), 4000 + n, bytes([198, 51, 100, 1]), 443, uid=0)
        for n in range(2_500)
    ]
    ward.round(country="FR")
    ward.pass_time(11_000)
    assert ward.warden.tick_ms() == 0, "it is not finished: the loop comes back at once"
    ward.pass_time(4_000)
    assert ward.flows.alive == []
    assert ward.warden.tick_ms() > 0
    ended = [record.body for record in ward.journal.records if record.kind == "flows.ended"]
    assert ended == [{"ended": 2_500, "kept": 0, "refused": 0}]


def test_opening_again_ends_no_more_flows() -> None:
    ward = _quarantining()
    ward.round(country="FR")
    ward.pass_time(10_500, step_ms=500)
    ward.round()
    begun = len(ward.flows.acts)
    ward.pass_time(3_000)
    assert len(ward.flows.acts) == begun
    assert ward.gate.passing() == "open"


def test_flows_that_cannot_be_ended_are_recorded_and_close_nothing_less() -> None:
    ward = _quarantining()
    ward.flows.failing = "no tcp_diag"
    ward.round(country="FR")
    ward.pass_time(12_000)
    assert ward.gate.passing() == "manage"
    assert any(record.body.get("what") == "flows.ended" for record in ward.journal.records)


def test_status_says_what_is_out_of_reach() -> None:
    gate = Ward().start().warden.status().gate
    assert gate is not None
    assert gate.out_of_reach == ("serial line ttyS0",)
