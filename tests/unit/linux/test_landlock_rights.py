# SPDX-License-Identifier: Apache-2.0
"""What each version of Landlock can take away; that it is taken away: test_watcher_confined."""

import pytest

from vmwarden.linux.landlock import Handled, handled, unconfined

#: linux/landlock.h: 13 rights of the first version; REFER, TRUNCATE, IOCTL_DEV came one by one
FIRST, REFER, TRUNCATE, IOCTL_DEV = 0x1FFF, 0x2000, 0x4000, 0x8000


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (0, Handled(0, 0, 0)),
        (1, Handled(FIRST, 0, 0)),
        (2, Handled(FIRST | REFER, 0, 0)),
        (3, Handled(FIRST | REFER | TRUNCATE, 0, 0)),
        (4, Handled(FIRST | REFER | TRUNCATE, 3, 0)),
        (5, Handled(FIRST | REFER | TRUNCATE | IOCTL_DEV, 3, 0)),
        (6, Handled(FIRST | REFER | TRUNCATE | IOCTL_DEV, 3, 3)),
        (7, Handled(FIRST | REFER | TRUNCATE | IOCTL_DEV, 3, 3)),
        (99, Handled(FIRST | REFER | TRUNCATE | IOCTL_DEV, 3, 3)),
    ],
)
def test_a_newer_version_takes_more_and_nothing_that_the_kernel_does_not_know(
    version: int, expected: Handled
) -> None:
    assert handled(version) == expected


def test_connections_may_stay_and_listening_does_not() -> None:
    assert handled(3, connect=True) == handled(3)
    assert handled(4, connect=True) == handled(4)._replace(tcp=1)
    assert handled(6, connect=True) == handled(6)._replace(tcp=1)


def test_what_is_left_is_told() -> None:
    assert unconfined(0) == ("files",)
    assert unconfined(2) == ("truncating files", "TCP", "ioctl on devices", "signals and abstract sockets")
    assert unconfined(6) == unconfined(7) == ()
