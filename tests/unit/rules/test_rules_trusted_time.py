# SPDX-License-Identifier: Apache-2.0
from vmwarden.model.moment import Moment
from vmwarden.rules.trusted_time import STAMP_SLACK_MS, TimeAnchor, advance, utc

Y2026 = 1_795_435_200_000
Y2035 = 2_051_222_400_000
ANCHOR = TimeAnchor(utc_ms=Y2026, boot_ms=1_000, boot_id="b")


def test_an_anchor_of_this_boot_counts_on_the_boot_clock_whatever_the_wall_clock_says() -> None:
    for wall in (0, Y2026, Y2035):
        assert utc(Moment(boot_ms=61_000, utc_ms=wall, boot_id="b"), ANCHOR, 0) == Y2026 + 60_000


def test_an_anchor_of_another_boot_is_none() -> None:
    assert utc(Moment(boot_ms=61_000, utc_ms=Y2026 + 5, boot_id="c"), ANCHOR, Y2026) == Y2026 + 5


def test_an_anchor_that_has_not_happened_yet_is_none() -> None:
    assert utc(Moment(boot_ms=999, utc_ms=Y2026 + 7, boot_id="b"), ANCHOR, 0) == Y2026 + 7


def test_without_an_anchor_the_local_clock_counts_unless_it_is_below_the_floor() -> None:
    assert utc(Moment(boot_ms=0, utc_ms=Y2026), None, Y2026) == Y2026
    assert utc(Moment(boot_ms=0, utc_ms=Y2026 - 1), None, Y2026) is None


def test_a_clock_that_was_in_2035_for_a_while_leaves_nothing_behind() -> None:
    floor = advance(0, ANCHOR)
    poisoned = Moment(boot_ms=2_000, utc_ms=Y2035, boot_id="c")
    assert utc(poisoned, None, floor) == Y2035  # believed while it lasts: nothing better is known
    assert floor == Y2026
    mended = Moment(boot_ms=3_000, utc_ms=Y2026 + 9, boot_id="c")
    assert utc(mended, None, floor) == Y2026 + 9


def test_the_floor_never_goes_down() -> None:
    assert advance(Y2035, ANCHOR) == Y2035
    assert advance(0, ANCHOR) == Y2026


def test_an_anchor_below_the_floor_is_unknown_and_not_rolled_up() -> None:
    now = Moment(boot_ms=1_000, utc_ms=Y2026, boot_id="b")
    assert utc(now, ANCHOR, Y2026 + STAMP_SLACK_MS + 1) is None


def test_two_hosts_whose_stamps_differ_by_a_second_do_not_make_the_time_unknown() -> None:
    now = Moment(boot_ms=1_000, utc_ms=Y2026, boot_id="b")
    assert utc(now, ANCHOR, Y2026 + STAMP_SLACK_MS) == Y2026 + STAMP_SLACK_MS
