# SPDX-License-Identifier: Apache-2.0
"""A restart on purpose: what is open stays open until there is a verdict, and no longer than the lease."""

import msgspec

from tests.unit.warden.ward import Ward, policy
from vmwarden.model.handover import Handover
from vmwarden.model.policy import Gate
from vmwarden.warden.gatekeeper import HANDOVER_MS


def _succeed(ward: Ward) -> Handover:
    """The program takes its own place; the watcher comes back."""
    word = ward.warden.hand_over()
    ward.build()
    ward.warden.start(word)
    ward.warden.watcher_connected()
    return word


def _open() -> Ward:
    ward = Ward().start()
    ward.round()
    assert ward.gate.passing() == "open"
    return ward


def test_open_stays_open_and_goes_on_with_a_verdict_of_its_own() -> None:
    ward = _open()
    taken = ward.kinds().count("posture.taken")
    word = _succeed(ward)
    assert ward.gate.passing() == "open"
    assert 0 < word.lease_until_boot_ms - ward.clock.now().boot_ms <= HANDOVER_MS
    ward.pass_time(3_000)
    assert ward.gate.passing() == "open"
    ward.round()
    ward.pass_time(HANDOVER_MS)
    assert ward.gate.passing() == "open"
    assert ward.kinds().count("posture.taken") == taken, "it was open all the time"
    assert "warden.handed-over" in ward.kinds()


def test_without_a_verdict_it_closes_when_the_lease_ends_and_holds() -> None:
    ward = _open()
    _succeed(ward)
    ward.pass_time(HANDOVER_MS - 1_000)
    assert ward.gate.passing() == "open"
    ward.pass_time(2_000)
    assert ward.gate.passing() == "manage"
    assert ward.warden.status().posture == "held"


def test_nothing_is_renewed_before_there_is_a_verdict() -> None:
    ward = _open()
    _succeed(ward)
    leases = [act for act in ward.gate.acts if act[0] == "lease"]
    ward.pass_time(HANDOVER_MS)
    assert [act for act in ward.gate.acts if act[0] == "lease"] == leases


def test_a_deny_closes_at_once() -> None:
    ward = _open()
    _succeed(ward)
    ward.round(country="FR")
    assert ward.gate.passing() == "manage"


def test_closed_stays_closed() -> None:
    ward = Ward().start()
    ward.round(country="FR")
    word = _succeed(ward)
    assert word.lease_until_boot_ms == 0
    ward.pass_time(1_000)
    assert ward.gate.passing() == "manage"
    assert [act for act in ward.gate.acts if act[0] == "lease"] == []


def test_a_policy_with_a_short_lease_is_handed_over_as_any_other() -> None:
    ward = Ward(policy(gate=Gate(lease="1s"))).start()
    ward.round()
    _succeed(ward)
    ward.pass_time(4_000, step_ms=300)
    assert ward.gate.passing() == "open"


def test_evidence_that_ends_ends_the_lease_that_is_handed_over() -> None:
    ward = _open()
    # the statement of the round lives for 60 s
    ward.pass_time(55_000)
    assert ward.gate.passing() == "open"
    word = ward.warden.hand_over()
    assert word.lease_until_boot_ms - ward.clock.now().boot_ms < 6_000


def test_a_lease_that_is_over_when_the_successor_starts_opens_nothing() -> None:
    ward = _open()
    word = ward.warden.hand_over()
    ward.clock.advance(HANDOVER_MS)
    ward.build()
    ward.warden.start(word)
    assert ward.gate.passing() == "manage"
    assert ward.warden.status().posture == "held"


def test_the_word_survives_the_way_through_the_kernel() -> None:
    word = _open().warden.hand_over()
    assert msgspec.json.decode(msgspec.json.encode(word), type=Handover) == word
