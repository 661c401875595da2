# SPDX-License-Identifier: Apache-2.0
import pytest

from vmwarden.linux.clock import SystemClock
from vmwarden.ports.clock import Clock
from vmwarden.testing.clock import FakeClock


@pytest.fixture(params=[SystemClock, FakeClock])
def clock(request: pytest.FixtureRequest) -> Clock:
    made: Clock = request.param()
    return made


def test_boot_time_never_goes_back_and_the_boot_keeps_its_name(clock: Clock) -> None:
    first, second = clock.now(), clock.now()
    assert 0 <= first.boot_ms <= second.boot_ms
    assert first.boot_id == second.boot_id != ""
    assert first.utc_ms > 1_700_000_000_000


def test_the_fake_moves_as_told() -> None:
    clock = FakeClock()
    first = clock.now()
    later = clock.advance(5)
    assert (later.boot_ms - first.boot_ms, later.utc_ms - first.utc_ms) == (5, 5)
    stepped = clock.step_utc(-1000)
    assert (stepped.boot_ms, stepped.utc_ms) == (later.boot_ms, later.utc_ms - 1000)
    again = clock.reboot("boot-2", after_ms=7)
    assert (again.boot_ms, again.utc_ms, again.boot_id) == (0, stepped.utc_ms + 7, "boot-2")
