# SPDX-License-Identifier: Apache-2.0
import msgspec
import pytest

from vmwarden.model.decision import Decision
from vmwarden.model.policy import Gate
from vmwarden.model.posture import Posture
from vmwarden.model.verdict import Answer
from vmwarden.rules.lease import LONGEST_MS, milliseconds
from vmwarden.testing.claims import NOW, guarding


def lease(posture: Posture, left_ms: int | None, *, lease: str = "5s", uncertainty_ms: int = 5) -> int:
    decision = Decision(
        posture=posture,
        answer=Answer.ALLOW,
        lease_until_boot_ms=None if left_ms is None else NOW.boot_ms + left_ms,
    )
    policy = msgspec.structs.replace(guarding(), gate=Gate(lease=lease))
    return milliseconds(decision, policy, now=NOW, uncertainty_ms=uncertainty_ms)


@pytest.mark.parametrize(
    ("left_ms", "expected"),
    [(None, 4_995), (60_000, 4_995), (5_000, 4_995), (4_000, 3_995), (6, 1), (5, 0), (0, 0), (-9, 0)],
)
def test_it_is_the_shorter_of_both_without_the_uncertainty(left_ms: int | None, expected: int) -> None:
    assert lease(Posture.OPEN, left_ms) == expected
    assert lease(Posture.GUARDED, left_ms) == expected


@pytest.mark.parametrize("posture", [p for p in Posture if p not in (Posture.OPEN, Posture.GUARDED)])
def test_a_closed_posture_has_none(posture: Posture) -> None:
    assert lease(posture, None) == 0


def test_no_policy_makes_it_longer_than_the_longest() -> None:
    assert lease(Posture.OPEN, None, lease="7d", uncertainty_ms=0) == LONGEST_MS
