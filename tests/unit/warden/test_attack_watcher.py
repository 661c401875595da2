# SPDX-License-Identifier: Apache-2.0
"""A captured watcher: it must neither stop the warden, nor fill its memory, nor roll the journal over."""

from typing import Any

import msgspec
import pytest

from tests.unit.warden.ward import Ward, policy, statement
from vmwarden.errors import UntrustedInput
from vmwarden.model.evidence import Evidence, Subject
from vmwarden.model.message import Declared, RawStatement
from vmwarden.model.policy import Place, PlaceEntry, WrongRung
from vmwarden.model.posture import Posture
from vmwarden.rules import canonical
from vmwarden.rules.quota import MOST


def declared(source: str, *values: str, **more: Any) -> Declared:
    """Claims of one source on the country."""
    return Declared(
        turn=1,
        source=source,
        evidence=tuple(
            Evidence(id=f"{source}/{n}", subject=Subject.COUNTRY, source=source, value=value, **more)
            for n, value in enumerate(values)
        ),
    )


def raw(source: str, jws: str, *, turn: int = 1) -> bytes:
    return canonical.encode(RawStatement(turn=turn, source=source, jws=jws, boot_frozen=True))


def test_more_findings_than_a_record_holds_do_not_stop_the_warden() -> None:
    ward = Ward().start()
    for number in range(40):
        ward.declare(declared(f"s{number}", *(f"{n:03}" + "x" * 190 for n in range(64))))

    ward.pass_time(2_000)

    assert ward.gate.passing() == "manage"
    assert ward.kinds().count("decision.changed") >= 1
    written = ward.journal.records[-1]
    assert len(canonical.encode(written)) < 65_536


@pytest.mark.parametrize("field", ["id", "value", "unavailable", "finding"])
@pytest.mark.parametrize("text", ["x" * 10_000, "\x1b[2J", "a\nb", "\u202e"])
def test_texts_of_a_claim_are_short_and_printable(field: str, text: str) -> None:
    ward = Ward().start()
    piece = Evidence(id="dmi/x", subject=Subject.COUNTRY, source="dmi", value="DE")
    piece = msgspec.structs.replace(piece, **{field: text})

    with pytest.raises(UntrustedInput):
        ward.declare(Declared(turn=1, source="dmi", evidence=(piece,)))


def test_a_source_has_a_short_name() -> None:
    ward = Ward().start()

    with pytest.raises(UntrustedInput) as caught:
        ward.declare(declared("s" * 60_000, "DE"))
    assert len(str(caught.value)) < 1_000, "the reason is recorded"
    with pytest.raises(UntrustedInput):
        ward.warden.receive(raw("s" * 50_000, "x"))


def test_refused_statements_of_invented_sources_are_bounded() -> None:
    ward = Ward().start()

    with pytest.raises(UntrustedInput, match="more than"):
        for number in range(1_000):
            ward.warden.receive(raw(f"s{number}", "garbage"))

    assert len(ward.warden._book.evidence()) < 200


def test_one_statement_sent_again_and_again_does_not_pile_up() -> None:
    ward = Ward().start()
    static = statement("rack-7", ward.clock.now().utc_ms // 1000, country="DE")

    with pytest.raises(UntrustedInput, match="more than"):
        for _ in range(1_000):
            ward.warden.receive(raw("fw_cfg", static))

    assert len(ward.warden._book.evidence()) < 100


def test_reasons_of_a_lost_watcher_are_short_in_the_journal() -> None:
    ward = Ward().start()
    ward.warden.watcher_lost("x" * 100_000)

    assert len(canonical.encode(ward.journal.records[-1])) < 2_000


def flap(ward: Ward, times: int) -> None:
    for number in range(times):
        ward.clock.advance(50)
        ward.declare(declared("dmi", "DE" if number % 2 else "FR"))
        ward.warden.tick()


def test_flapping_claims_do_not_roll_the_journal_over() -> None:
    ladder = (WrongRung(after="0s", posture=Posture.HELD, ask="relocate", of="host"),)
    place = Place(any_of=(PlaceEntry(country="DE"),), proof="declared", wrong=ladder)
    ward = Ward(policy(place=place)).start()
    before = len(ward.journal.records)
    flap(ward, 2_000)

    assert len(ward.journal.records) - before < 8 * MOST
    assert len(ward.said) < 8 * MOST
    assert len(ward.journal.checkpoints) < 4 * MOST
    ward.declare(declared("dmi", "FR"))
    ward.warden.tick()
    assert ward.gate.passing() == "manage", "closing is never withheld"


def test_the_posture_that_is_taken_is_said_also_when_the_flood_is_withheld_from_the_journal() -> None:
    place = Place(any_of=(PlaceEntry(country="DE"),), proof="declared")
    ward = Ward(policy(place=place)).start()
    # each opening is two decisions: theirs are withheld when half of the openings are left
    flap(ward, MOST + 2)
    changes = ward.kinds().count("decision.changed")
    for country, posture in (("DE", "open"), ("FR", "held"), ("DE", "open")):
        ward.declare(declared("dmi", country))
        ward.warden.tick()
        assert ward.said[-1].startswith(f"posture {posture}: ")
    assert ward.kinds().count("decision.changed") == changes


def test_an_opening_that_is_not_recorded_does_not_happen_and_comes_when_the_flapping_ends() -> None:
    place = Place(any_of=(PlaceEntry(country="DE"),), proof="declared")
    ward = Ward(policy(place=place)).start()
    flap(ward, 1_000)
    ward.declare(declared("dmi", "DE"))
    ward.warden.tick()
    opened = ward.kinds().count("posture.intent")
    assert opened <= MOST
    assert ward.gate.passing() == "manage"
    assert "opening.too-often" in ward.findings()

    def again() -> None:
        ward.declare(declared("dmi", "DE"))

    ward.pass_time(600_000, step_ms=2_000, each=again)

    assert ward.gate.passing() == "open"
