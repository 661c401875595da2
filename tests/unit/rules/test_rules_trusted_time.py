# SPDX-License-Identifier: Apache-2.0
from vmwarden.model.moment import Moment
from vmwarden.model.verdict import Answer
from vmwarden.rules.trusted_time import (
    STAMP_SLACK_MS,
    TimeAnchor,
    advance,
    best,
    drift_ms,
    host_differs,
    reached,
    stalled_ms,
    utc,
)

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


def after(ms: int, *, gained: int = 0, spread: int = 0) -> TimeAnchor:
    return TimeAnchor(utc_ms=Y2026 + ms + gained, boot_ms=ANCHOR.boot_ms + ms, boot_id="b", spread_ms=spread)


def test_a_slot_is_reached_by_a_stamp_and_not_by_what_is_added_to_it() -> None:
    assert reached(ANCHOR, Y2026)
    assert not reached(ANCHOR, Y2026 + 1)
    assert not reached(TimeAnchor(utc_ms=Y2026, boot_ms=0, boot_id="b", spread_ms=500), Y2026 + 1)


def test_network_time_counts_and_a_hosts_stamp_stands_in() -> None:
    now = Moment(boot_ms=61_000, utc_ms=0, boot_id="b")
    host = after(10)
    assert best(ANCHOR, host, now) is ANCHOR
    assert best(None, host, now) is host
    assert best(None, None, now) is None
    other_boot = TimeAnchor(utc_ms=Y2035, boot_ms=0, boot_id="a")
    assert best(other_boot, host, now) is host
    future = after(100_000)
    assert best(future, host, now) is host


def test_a_host_beside_the_servers_is_told_and_a_host_within_its_spread_is_not() -> None:
    for host in (after(1_000), after(1_000, gained=-900, spread=1_000), after(1_000, gained=1_900)):
        assert host_differs(ANCHOR, host) == ()
    assert host_differs(ANCHOR, after(1_000, gained=-9_000, spread=9_000)) == ()
    assert host_differs(ANCHOR, after(1_000, gained=9_000, spread=9_000)) != ()
    for host in (after(1_000, gained=5_000), after(1_000, gained=-5_000), after(-500, gained=5_000)):
        (finding,) = host_differs(ANCHOR, host)
        assert finding.id == "time.host-differs"
        assert finding.answer is Answer.ALLOW


def test_a_pause_shows_beyond_spread_and_drift() -> None:
    assert stalled_ms(ANCHOR, after(60_000, gained=30_000)) == 30_000 - 30
    assert stalled_ms(ANCHOR, after(60_000, gained=30)) == 0
    assert stalled_ms(ANCHOR, after(60_000, gained=-30_000)) == 0
    before = TimeAnchor(utc_ms=Y2026, boot_ms=1_000, boot_id="b", spread_ms=400)
    assert stalled_ms(before, after(60_000, gained=1_000)) == 570
    # the spread of the later one is no excuse: it was at least utc_ms
    assert stalled_ms(ANCHOR, after(0, gained=1_000, spread=9_000)) == 1_000


def test_a_clock_runs_off_by_no_more_than_ntp_may_slew_it() -> None:
    assert drift_ms(0) == 0
    assert drift_ms(1) == 1
    assert drift_ms(1_000_000) == 500
