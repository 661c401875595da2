# SPDX-License-Identifier: Apache-2.0
"""A flood is cut off and counted."""

from vmwarden.rules.quota import MOST, WINDOW_MS, Spent, spend
from vmwarden.testing.clock import FakeClock


def test_a_flood_is_withheld_and_counted_in_the_next_window() -> None:
    clock = FakeClock()
    spent: Spent | None = None
    passed = 0
    for _ in range(MOST + 500):
        spent, word = spend(spent, clock.now())
        passed += word is not None
    assert passed == MOST

    clock.advance(WINDOW_MS)
    _, word = spend(spent, clock.now())

    assert word == 500


def test_a_reboot_begins_a_new_window() -> None:
    clock = FakeClock(boot_ms=10_000_000)
    spent, _ = spend(None, clock.now())
    clock.reboot("boot-2")

    assert spend(spent, clock.now())[1] == 0
