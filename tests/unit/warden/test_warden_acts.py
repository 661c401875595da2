# SPDX-License-Identifier: Apache-2.0
"""What the warden does, and in which order."""

from typing import Any

import msgspec
import pytest

from tests.unit.warden.ward import Ward, policy, statement
from vmwarden.errors import UntrustedInput
from vmwarden.model.evidence import Evidence, Proof, Subject
from vmwarden.model.installed import Change, Installed, Outcome, Pending
from vmwarden.model.message import Declared, Event, RawStatement
from vmwarden.model.policy import Place, PlaceEntry, Trust, TrustedHost, UnknownRung, WrongRung
from vmwarden.model.posture import Posture
from vmwarden.model.verdict import Answer, Finding
from vmwarden.rules import canonical, instant
from vmwarden.testing.owners import public_line


def test_starts_held_and_opens_only_on_a_good_statement() -> None:
    ward = Ward().start()

    assert ward.gate.passing() == "manage"

    ward.round()

    assert ward.gate.passing() == "open"
    assert ward.services.opened == 1


def test_opening_is_recorded_before_the_lease() -> None:
    ward = Ward().start()
    seen: list[str] = []
    original = ward.gate.lease

    def lease(milliseconds: int, **words: Any) -> None:
        seen.append(ward.kinds()[-1])
        original(milliseconds, **words)

    ward.gate.lease = lease  # type: ignore[method-assign]
    ward.round()

    assert seen[0] == "posture.intent"


def test_closing_acts_before_it_records() -> None:
    ward = Ward().start()
    ward.round()
    seen: list[str] = []
    original = ward.gate.flush

    def flush() -> None:
        seen.append(ward.kinds()[-1])
        original()

    ward.gate.flush = flush  # type: ignore[method-assign]
    ward.clock.advance(21_000)
    ward.round(country="FR")

    assert seen[0] == "posture.taken", "the flush came after a record of the closing"
    assert ward.gate.passing() == "manage"


def test_wrong_place_steps_down_the_default_ladder_without_new_evidence() -> None:
    ward = Ward().start()
    ward.round(country="FR")

    assert ward.warden.status().posture == "held"

    ward.pass_time(40_000)
    ward.round(country="FR")
    ward.pass_time(21_000)

    assert ward.warden.status().posture == "quarantined"
    assert ward.warden.status().decision.answer is Answer.DENY


def test_silence_before_any_allow_stays_held_for_ever() -> None:
    ward = Ward().start()
    ward.pass_time(3_600_000, step_ms=30_000)

    assert ward.warden.status().posture == "held"
    assert ward.gate.passing() == "manage"


def test_evidence_that_is_not_renewed_ages_and_closes() -> None:
    ward = Ward().start()
    ward.round()
    closed_at = None
    for second in range(1, 1200):
        ward.pass_time(1_000)
        if ward.gate.passing() != "open":
            closed_at = second
            break

    assert closed_at is not None
    assert 60 <= closed_at <= 60 + 120 + 5, "recheck 60 s and the default grace of 2 min"


def test_recovers_by_itself_when_the_cause_is_gone() -> None:
    ward = Ward().start()
    ward.round()
    ward.clock.advance(21_000)
    ward.round(country="FR")
    assert ward.gate.passing() == "manage"

    ward.clock.advance(6_000)
    ward.round()

    assert ward.gate.passing() == "open"
    assert ward.state.remembered.incidents == ()


def test_a_lease_never_outlives_its_evidence() -> None:
    ward = Ward(policy(place=Place(any_of=(PlaceEntry(country="DE"),), recheck="2s"))).start()
    ward.round()
    _, ms, _ = ward.gate.acts[-1]

    assert isinstance(ms, int)
    assert ms <= 2_000


def test_frozen_between_computing_and_sending_closes_again() -> None:
    no_grace = (UnknownRung(after="0s", posture=Posture.HELD),)
    place = Place(any_of=(PlaceEntry(country="DE"),), recheck="10s", unknown=no_grace)
    ward = Ward(policy(place=place)).start()
    original = ward.gate.lease

    def lease(milliseconds: int, **words: Any) -> None:
        ward.clock.advance(30_000)
        original(milliseconds, **words)

    ward.gate.lease = lease  # type: ignore[method-assign]
    ward.round()

    assert ward.gate.passing() == "manage"


def test_a_slow_renewal_is_made_again_with_room_for_what_it_took() -> None:
    no_grace = (UnknownRung(after="0s", posture=Posture.HELD),)
    place = Place(any_of=(PlaceEntry(country="DE"),), recheck="2s", unknown=no_grace)
    ward = Ward(policy(place=place)).start()
    original = ward.gate.lease

    def lease(milliseconds: int, **words: Any) -> None:
        ward.clock.advance(40)
        original(milliseconds, **words)

    ward.gate.lease = lease  # type: ignore[method-assign]
    heard = ward.clock.now().boot_ms
    ward.round()

    assert ward.gate.passing() == "open"
    _, ms, _ = ward.gate.acts[-1]
    assert isinstance(ms, int)
    assert ward.clock.now().boot_ms + ms <= heard + 2_000


def test_observe_touches_nothing_and_says_what_it_would_do() -> None:
    ward = Ward(policy(mode="observe")).start()
    ward.round(country="FR")

    assert ward.gate.acts == []
    assert ward.services.opened == 0
    assert any("observe: would take posture held" in line for line in ward.said)
    assert ward.warden.status().mode == "observe"


def test_observe_only_overrules_an_enforce_policy_and_says_so() -> None:
    ward = Ward(policy(), observe_only=True).start()
    ward.round(country="FR")

    assert ward.gate.acts == []
    assert ward.warden.status().mode == "observe"
    assert ward.warden.status().armed


def test_a_full_journal_refuses_to_open_and_lets_close() -> None:
    ward = Ward().start()
    ward.round()
    ward.journal.capacity = 0
    ward.clock.advance(21_000)
    ward.round(country="FR")
    assert ward.gate.passing() == "manage", "closing needs no journal"

    ward.clock.advance(6_000)
    ward.round()
    assert ward.gate.passing() == "manage", "opening does"

    ward.journal.capacity = None
    ward.pass_time(2_000)
    assert ward.gate.passing() == "open"


def test_rules_that_somebody_took_away_come_back_with_the_next_tick() -> None:
    ward = Ward().start()
    ward.round()
    ward.gate.tamper()
    assert ward.gate.passing() == "free"

    ward.pass_time(1_000)

    assert ward.gate.passing() == "open"
    assert "gate.repaired" in ward.kinds()


def test_a_gate_that_fails_is_reported_and_tried_again() -> None:
    ward = Ward()
    ward.gate.failing = "no such kernel"
    ward.start()
    ward.round()
    assert not ward.warden.status().gate.installed  # type: ignore[union-attr]
    assert "posture.failed" in ward.kinds()
    assert ward.kinds().count("posture.failed") < 5, "once, not with every tick"

    ward.gate.failing = ""
    ward.pass_time(2_000)
    assert ward.gate.passing() == "open"


def test_armed_without_a_readable_policy_restores_the_boot_rules_and_stays_closed() -> None:
    ward = Ward()
    why = Finding(id="policy.unreadable", answer=Answer.DENY, found="garbage")
    ward.state.installed = msgspec.structs.replace(
        ward.state.installed, outcome=Outcome.CLOSED, policy=None, findings=(why,)
    )
    ward.start()
    ward.pass_time(10_000)

    assert ("restore", ward.state.boot_rules()) in ward.gate.acts
    assert ward.warden.status().posture == "quarantined"
    assert ward.warden.status().decision.answer is Answer.DENY
    assert any("policy.unreadable" in line for line in ward.said)


def test_reload_to_observe_removes_the_gate() -> None:
    ward = Ward().start()
    ward.round()
    ward.state.installed = msgspec.structs.replace(
        ward.state.installed, outcome=Outcome.OBSERVE, policy=policy(mode="observe", version=8), armed=False
    )
    ward.warden.reload()

    assert ward.gate.passing() == "free"
    assert "gate.removed" in ward.kinds()


def test_a_new_policy_forgets_what_hosts_said_that_it_does_not_trust() -> None:
    ward = Ward().start()
    ward.round()
    stranger = Trust(hosts=(TrustedHost(name="rack-8", key=public_line("rack-8")),))
    ward.state.installed = msgspec.structs.replace(
        ward.state.installed, policy=policy(version=8, trust=stranger)
    )
    ward.warden.reload()

    assert ward.gate.passing() == "manage"


def test_a_new_policy_that_trusts_the_same_host_loses_no_packet() -> None:
    ward = Ward().start()
    ward.round()
    before = len(ward.gate.acts)
    ward.state.installed = msgspec.structs.replace(ward.state.installed, policy=policy(version=8))
    ward.warden.reload()

    assert ward.gate.passing() == "open"
    assert ("flush",) not in ward.gate.acts[before:]


def test_an_unconfirmed_policy_is_reverted_by_the_tick() -> None:
    ward = Ward()
    trial = msgspec.structs.replace(
        ward.state.installed,
        pending=msgspec.convert(
            {
                "state": "trial",
                "document": "0" * 64,
                "name": "payments",
                "version": 7,
                "mode": "enforce",
                "boot_id": "boot-1",
                "applied_boot_ms": 50_000,
                "applied_utc_ms": 0,
                "deadline_boot_ms": 61_000,
            },
            Pending,
        ),
    )
    before = msgspec.structs.replace(
        ward.state.installed, outcome=Outcome.OBSERVE, policy=policy(mode="observe", version=6), armed=False
    )
    ward.state.installed = trial
    ward.start()
    ward.round()
    assert ward.gate.passing() == "open"

    ward.state.pending_changes = (Change("policy.reverted", {"to": 6}),)
    ward.state.installed = before
    ward.pass_time(1_000)

    assert ward.gate.passing() == "free"
    assert "policy.reverted" in ward.kinds()


def test_power_off_is_recorded_first_and_asked_once() -> None:
    ladder = (WrongRung(after="0s", posture=Posture.HELD), WrongRung(after="2m", posture=Posture.POWEROFF))
    ward = Ward(policy(place=Place(any_of=(PlaceEntry(country="DE"),), wrong=ladder))).start()

    def again() -> None:
        if ward.warden.gather_in_ms(ward.clock.now()) == 0:
            ward.round(country="FR")

    ward.pass_time(300_000, each=again)

    assert ward.power.offs == 1
    assert "posture.intent" in ward.kinds()


def test_services_that_do_not_start_are_recorded_and_the_gate_stays_open() -> None:
    ward = Ward()
    ward.services.failing = True
    ward.start()
    ward.round()

    assert ward.gate.passing() == "open"
    assert "posture.failed" in ward.kinds()


# -- what a captured watcher can try ---------------------------------------------------------------


def claim(**changes: object) -> Declared:
    piece = Evidence(
        id="dmi/place.country", subject=Subject.COUNTRY, source="dmi", value="DE", observed_boot_ms=10**12
    )
    return Declared(turn=1, source="dmi", evidence=(msgspec.structs.replace(piece, **changes),))


@pytest.mark.parametrize(
    "lie",
    [
        claim(proof=Proof.SIGNED),
        claim(proof=Proof.ATTESTED),
        claim(signer="SHA256:" + "A" * 43),
        claim(source="virtio-serial"),
    ],
)
def test_a_watcher_that_claims_proof_is_refused_and_adds_nothing(lie: Declared) -> None:
    ward = Ward().start()

    with pytest.raises(UntrustedInput):
        ward.declare(lie)

    ward.pass_time(5_000)
    assert ward.gate.passing() == "manage"


def test_declared_claims_do_not_satisfy_a_policy_that_wants_signed_ones() -> None:
    ward = Ward().start()
    ward.declare(claim())
    ward.pass_time(2_000)

    assert ward.gate.passing() == "manage"
    assert "place.country.too-weak" in ward.findings()


def test_the_watchers_clock_is_not_believed() -> None:
    ward = Ward(policy(place=Place(any_of=(PlaceEntry(country="DE"),), proof="declared"))).start()
    ward.declare(claim(observed_boot_ms=10**12))
    ward.pass_time(1_000)
    assert ward.gate.passing() == "open"

    ward.pass_time(400_000)

    assert ward.gate.passing() != "open", "evidence from the future would never age"


def test_a_statement_counts_once() -> None:
    ward = Ward().start()
    order = ward.order()
    ward.answer(order)
    assert order.challenge is not None
    again = statement("rack-7", ward.clock.now().utc_ms // 1000, nonce=order.challenge.nonce, country="DE")
    ward.pass_time(400_000)
    assert ward.gate.passing() == "manage" or ward.gate.passing() == "guarded"

    ward.warden.receive(
        canonical.encode(RawStatement(turn=99, source="virtio-serial", jws=again, boot_frozen=False))
    )

    assert ward.gate.passing() != "open"
    assert "statement.replayed" in ward.findings()


@pytest.mark.parametrize("data", [b"", b"{}", b"\x00" * 100, b'{"type":"gather","turn":1}', b"[" * 60_000])
def test_garbage_from_the_watcher_is_refused(data: bytes) -> None:
    ward = Ward().start()

    with pytest.raises(UntrustedInput):
        ward.warden.receive(data)


def test_more_sources_than_there_are_is_refused() -> None:
    ward = Ward().start()

    with pytest.raises(UntrustedInput, match="more than"):
        for number in range(1000):
            name = f"source-{number}"
            ward.declare(
                Declared(
                    turn=1,
                    source=name,
                    evidence=(Evidence(id=f"{name}/x", subject=Subject.CITY, source=name, value="x"),),
                )
            )


# -- time --------------------------------------------------------------------------------------------


def test_a_clock_set_to_2035_and_back_poisons_nothing() -> None:
    ward = Ward().start()
    ward.round()
    floor = ward.state.floor
    ward.clock.step_utc(9 * 365 * 86_400_000)
    ward.pass_time(10_000)
    assert ward.gate.passing() == "open", "the stamp of the host is trusted, the local clock is not asked"
    assert ward.state.floor == floor

    ward.build().start()
    ward.warden.watcher_connected()
    ward.pass_time(2_000)
    ward.clock.step_utc(-9 * 365 * 86_400_000)
    ward.round()

    assert ward.gate.passing() == "open"


def test_a_clock_set_back_revives_no_static_statement_from_before_the_policy() -> None:
    ward = Ward(policy(place=Place(any_of=(PlaceEntry(country="DE"),), proof="signed"))).start()
    long_ago = ward.clock.now().utc_ms // 1000 - 400 * 86_400
    ward.clock.step_utc(-400 * 86_400_000)
    old = statement("rack-7", long_ago, country="DE")
    ward.warden.receive(canonical.encode(RawStatement(turn=1, source="fw_cfg", jws=old, boot_frozen=True)))

    assert ward.gate.passing() == "manage"
    assert "statement.time-unknown" in ward.findings()


def test_a_trusted_host_far_in_the_future_moves_the_floor_to_the_policys_end_at_most() -> None:
    ward = Ward().start()
    order = ward.order()
    assert order.challenge is not None
    late = statement("rack-7", 4_000_000_000, nonce=order.challenge.nonce, country="DE")
    ward.warden.receive(
        canonical.encode(RawStatement(turn=1, source="virtio-serial", jws=late, boot_frozen=False))
    )

    assert ward.state.floor <= instant.milliseconds(policy().valid.until)


def test_an_event_asks_at_once() -> None:
    ward = Ward().start()
    ward.round()
    assert ward.warden.gather() is None

    ward.warden.receive(canonical.encode(Event(kind="link", detail="eth0")))

    assert ward.warden.gather() is not None
    assert "event" in ward.kinds()


def test_a_restart_of_the_warden_begins_in_held_and_remembers_the_incident() -> None:
    ward = Ward().start()
    ward.round(country="FR")
    ward.pass_time(30_000)
    ward.build()
    ward.gate.die()
    ward.start()
    ward.round(country="FR")
    ward.pass_time(31_000)

    assert ward.warden.status().posture == "quarantined", "30 s before the restart and 31 s after it"


def test_not_enrolled_observes_and_asks_nothing_of_the_host() -> None:
    ward = Ward()
    ward.state.installed = Installed(outcome=Outcome.OBSERVE)
    ward.start()

    assert ward.order().challenge is None
    assert ward.gate.acts == []
    assert ward.warden.status().vm == ""


def test_a_restart_does_not_open_by_the_grace_of_an_earlier_allow() -> None:
    ward = Ward().start()
    ward.round()
    ward.gate.die()
    ward.build().start()
    ward.pass_time(30_000)

    assert ward.gate.passing() == "manage"


def test_what_commands_did_is_recorded_once() -> None:
    ward = Ward()
    ward.state.by_commands = (Change("policy.applied", {"version": 7}),)
    ward.start()
    ward.warden.reload()

    assert ward.kinds().count("policy.applied") == 1


def test_what_commands_did_is_kept_while_the_journal_is_full() -> None:
    ward = Ward()
    ward.journal.capacity = 0
    ward.state.by_commands = (Change("policy.applied", {"version": 7}),)
    ward.start()
    assert "policy.applied" not in ward.kinds()

    ward.journal.capacity = None
    ward.warden.reload()

    assert "policy.applied" in ward.kinds()
    assert ward.state.untold() == ()
