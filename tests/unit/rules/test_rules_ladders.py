# SPDX-License-Identifier: Apache-2.0
import pytest

from vmwarden.model.policy import UnknownRung, WrongRung
from vmwarden.model.posture import BUILT, Posture
from vmwarden.rules.ladders import (
    DEFAULT_UNKNOWN,
    DEFAULT_WRONG,
    next_rung_in_ms,
    stricter,
    unknown_ladder,
    unknown_posture,
    wrong_ladder,
    wrong_posture,
)

MINUTE = 60_000


def wrong(*rungs: tuple[str, Posture]) -> tuple[WrongRung, ...]:
    return tuple(WrongRung(after=after, posture=posture) for after, posture in rungs)


def unknown(*rungs: tuple[str, Posture]) -> tuple[UnknownRung, ...]:
    return tuple(UnknownRung(after=after, posture=posture) for after, posture in rungs)


def test_stricter_follows_the_order_of_the_postures() -> None:
    for n, a in enumerate(Posture):
        for m, b in enumerate(Posture):
            assert stricter(a, b) is list(Posture)[max(n, m)]


def test_the_default_ladders_are_those_of_the_design() -> None:
    assert [(r.after, r.posture) for r in DEFAULT_WRONG] == [("0s", "held"), ("60s", "quarantined")]
    assert [(r.after, r.posture) for r in DEFAULT_UNKNOWN] == [("2m", "guarded"), ("15m", "quarantined")]


def test_an_omitted_or_empty_ladder_is_the_default() -> None:
    assert wrong_ladder(None) == wrong_ladder(()) == DEFAULT_WRONG
    assert unknown_ladder(None) == unknown_ladder(()) == DEFAULT_UNKNOWN


@pytest.mark.parametrize(
    ("age_ms", "after_wrong", "after_unknown"),
    [
        (0, Posture.HELD, Posture.OPEN),
        (MINUTE - 1, Posture.HELD, Posture.OPEN),
        (MINUTE, Posture.QUARANTINED, Posture.OPEN),
        (2 * MINUTE, Posture.QUARANTINED, Posture.GUARDED),
        (15 * MINUTE, Posture.QUARANTINED, Posture.QUARANTINED),
        (10**12, Posture.QUARANTINED, Posture.QUARANTINED),
    ],
)
def test_the_default_ladders_in_time(age_ms: int, after_wrong: Posture, after_unknown: Posture) -> None:
    assert wrong_posture(None, age_ms) is after_wrong
    assert unknown_posture(None, age_ms) is after_unknown


def test_the_order_in_which_rungs_are_written_does_not_matter() -> None:
    rungs = wrong(("10m", Posture.POWEROFF), ("0s", Posture.HELD), ("1m", Posture.QUARANTINED))
    assert [wrong_posture(rungs, m * MINUTE) for m in (0, 1, 10)] == [
        Posture.HELD,
        Posture.QUARANTINED,
        Posture.POWEROFF,
    ]


def test_a_milder_rung_later_does_not_loosen() -> None:
    rungs = wrong(("0s", Posture.QUARANTINED), ("1m", Posture.HELD))
    assert wrong_posture(rungs, MINUTE) is Posture.QUARANTINED


def test_what_is_wrong_is_never_open() -> None:
    assert wrong_posture(wrong(("1m", Posture.QUARANTINED)), 0) is Posture.HELD
    assert wrong_posture(wrong(("0s", Posture.OPEN)), 0) is Posture.HELD
    assert wrong_posture(wrong(("1m", Posture.GUARDED)), MINUTE) is Posture.HELD
    assert wrong_posture(wrong(("0s", Posture.GUARDED)), 0) is Posture.GUARDED  # an owner wrote it


def test_silence_leads_no_further_than_quarantined() -> None:
    for posture in (Posture.SEALED, Posture.POWEROFF, Posture.ERASED):
        assert unknown_posture(unknown(("0s", posture)), 0) is Posture.QUARANTINED


def test_only_what_is_built_is_ever_called_for() -> None:
    for posture in Posture:
        assert wrong_posture(wrong(("0s", posture)), 0) in BUILT
    assert wrong_posture(wrong(("0s", Posture.ERASED)), 0) is Posture.QUARANTINED


def test_the_next_rung() -> None:
    assert next_rung_in_ms(DEFAULT_WRONG, 0) == MINUTE
    assert next_rung_in_ms(DEFAULT_WRONG, MINUTE - 1) == 1
    assert next_rung_in_ms(DEFAULT_WRONG, MINUTE) is None
