# SPDX-License-Identifier: Apache-2.0
"""What is made of the renewals that were heard in a guest."""

import json

from testbed.lease_watch import Renewal, Seen, seen


def told(
    events: list[tuple[float, int]], *, stalls: list[tuple[float, float]] | None = None, until: float = 10_000
) -> Seen:
    text = json.dumps({"events": events, "stalls": stalls or [], "lost": 0})
    return seen(text, began=1000, ended=until)


def test_a_renewal_in_time_says_what_was_left() -> None:
    found = told([(500, 1000), (1100, 1000), (2000, 1000)], until=2500)
    assert found.renewals == (Renewal(400, 600, 0), Renewal(100, 900, 0))
    assert (found.seconds, found.ended) == (1.5, 0)


def test_what_was_renewed_before_or_after_the_watching_does_not_count() -> None:
    assert told([(100, 500), (900, 500), (1200, 900), (2200, 500)], until=2000).renewals == (
        Renewal(200, 300, 0),
    )


def test_a_lease_that_lapsed_and_came_again_is_a_false_closing() -> None:
    found = told([(1100, 1000), (2500, 1000)], until=3000)
    assert found.renewals == (Renewal(-400, 1400, 0),)


def test_a_lease_that_lapsed_and_never_came_again_is_one_too() -> None:
    assert told([(1100, 1000)]).renewals == (Renewal(-7900, 8900, 0),)


def test_what_the_warden_ended_is_no_false_closing() -> None:
    found = told([(1100, 1000), (1500, 0), (9000, 5000)])
    assert (found.renewals, found.ended) == ((), 1)


def test_what_stalled_between_two_renewals_is_told() -> None:
    stalls = [(500.0, 700.0), (1000.0, 1300.0), (1500.0, 2400.0), (2600.0, 2800.0)]
    found = told([(1100, 1000), (2500, 1000)], stalls=stalls, until=3000)
    assert found.renewals == (Renewal(-400, 1400, 200 + 900),)
