# SPDX-License-Identifier: Apache-2.0
import pytest

from vmwarden.rules.time_vote import Bound, Vote, bound, quorum, vote


def bounds(*pairs: tuple[int, int]) -> tuple[Bound, ...]:
    return tuple(Bound(chr(97 + index), *pair) for index, pair in enumerate(pairs))


def test_more_than_half_of_those_listed() -> None:
    assert [quorum(count) for count in (3, 4, 5, 6, 9)] == [2, 3, 3, 4, 5]


def test_all_agree() -> None:
    assert vote(bounds((0, 10), (2, 12), (4, 9)), listed=3) == Vote(2, 10, ("a", "b", "c"), ())


def test_a_liar_is_outvoted_and_moves_nothing() -> None:
    assert vote(bounds((0, 10), (2, 12), (900, 905)), listed=3) == Vote(0, 12, ("a", "b"), ("c",))


def test_two_liars_of_five_that_agree_with_one_another() -> None:
    found = vote(bounds((100, 105), (1, 9), (100, 105), (0, 8), (2, 10)), listed=5)
    assert found == Vote(0, 10, ("b", "d", "e"), ("a", "c"))


def test_half_is_too_few() -> None:
    assert vote(bounds((0, 5), (1, 6), (100, 105), (101, 106)), listed=4) is None


def test_those_that_are_silent_count_as_listed() -> None:
    assert vote(bounds((100, 105), (100, 105)), listed=5) is None
    assert vote(bounds((100, 105), (100, 105)), listed=3) is not None
    assert vote((), listed=3) is None


def test_that_a_agrees_with_b_and_b_with_c_is_no_agreement_of_a_and_c() -> None:
    assert vote(bounds((0, 4), (3, 8), (7, 10), (20, 30), (40, 50)), listed=5) is None


def test_touching_is_agreeing() -> None:
    assert vote(bounds((0, 5), (5, 9), (90, 99)), listed=3) == Vote(0, 9, ("a", "b"), ("c",))


def test_of_two_majorities_the_narrower_then_the_earlier() -> None:
    found = vote(bounds((0, 100), (100, 104), (90, 100), (-4, 0)), listed=3)
    assert found is not None
    assert set(found.agreeing) == {"a", "b", "c"}
    assert vote(bounds((0, 10), (-5, 2), (8, 15)), listed=3) == Vote(-5, 10, ("a", "b"), ("c",))
    assert vote(bounds((0, 10), (-5, 2), (8, 14)), listed=3) == Vote(0, 14, ("a", "c"), ("b",))


def test_a_wide_liar_does_not_widen_what_more_than_he_agree_on() -> None:
    assert vote(bounds((-1000, 1000), (0, 4), (1, 5)), listed=3) == Vote(0, 5, ("a", "b", "c"), ())


def test_one_answer_bounds_the_offset_whatever_the_way_did() -> None:
    """Stamp 1000 made some time after 5 and before 25 (26 with what was cut off)."""
    found = bound("a", sent_boot_ms=5, received_boot_ms=25, stamp_ms=1000, root_distance_ms=3)
    assert found == Bound("a", 1000 - 3 - 26, 1001 + 3 - 5)


@pytest.mark.parametrize("made_at", [5, 15, 25])
def test_the_truth_is_within(made_at: int) -> None:
    offset = 1000 - made_at
    found = bound("a", sent_boot_ms=5, received_boot_ms=25, stamp_ms=1000, root_distance_ms=0)
    assert found.earliest_ms <= offset <= found.latest_ms
