# SPDX-License-Identifier: Apache-2.0
"""Ladders: how a posture gets stricter while something stays wrong or unknown."""

from functools import lru_cache

from vmwarden.model.policy import UnknownRung, WrongRung
from vmwarden.model.posture import Posture
from vmwarden.rules.duration import milliseconds

#: What an omitted (or empty) ladder means; `policy show` prints it.  Nothing here seals, powers off
#: or erases: what hurts is only ever done because an owner wrote it.
DEFAULT_WRONG: tuple[WrongRung, ...] = (
    WrongRung(after="0s", posture=Posture.HELD),
    WrongRung(after="60s", posture=Posture.QUARANTINED),
)
DEFAULT_UNKNOWN: tuple[UnknownRung, ...] = (
    UnknownRung(after="2m", posture=Posture.GUARDED),
    UnknownRung(after="15m", posture=Posture.QUARANTINED),
)

#: The same for the time of the hours: a VM that does not know the time must not go on serving by it.
DEFAULT_TIME_UNKNOWN: tuple[UnknownRung, ...] = (
    UnknownRung(after="0s", posture=Posture.HELD),
    UnknownRung(after="15m", posture=Posture.QUARANTINED),
)

_RANK = {posture: rank for rank, posture in enumerate(Posture)}

#: The strictest that silence may lead to: nobody is powered off because a host says nothing.
_STRICTEST_FROM_UNKNOWN = Posture.QUARANTINED

#: What this version takes instead of a posture that it cannot take.  Lint refuses them.
_INSTEAD = {Posture.SEALED: Posture.QUARANTINED, Posture.ERASED: Posture.QUARANTINED}


def stricter(a: Posture, b: Posture) -> Posture:
    """The one of the two that closes more."""
    return a if _RANK[a] >= _RANK[b] else b


def wrong_ladder(rungs: tuple[WrongRung, ...] | None) -> tuple[WrongRung, ...]:
    """The ladder in force after a deny: what the policy says, or the default."""
    return rungs or DEFAULT_WRONG


def unknown_ladder(rungs: tuple[UnknownRung, ...] | None) -> tuple[UnknownRung, ...]:
    """The ladder in force after an unknown that followed an allow: what the policy says, or the default."""
    return rungs or DEFAULT_UNKNOWN


def wrong_posture(rungs: tuple[WrongRung, ...] | None, age_ms: int) -> Posture:
    """The strictest of all rungs that this age has reached.

    Before a first rung that comes later than 0s, and in place of `open`, it is `held`: what is known
    to be wrong is never open.  Postures that this version cannot take count as `quarantined`.
    """
    reached = [
        _INSTEAD.get(rung.posture, rung.posture)
        for rung in wrong_ladder(rungs)
        if after_ms(rung) <= age_ms and rung.posture is not Posture.OPEN
    ]
    if not any(after_ms(rung) == 0 and rung.posture is not Posture.OPEN for rung in wrong_ladder(rungs)):
        reached.append(Posture.HELD)
    return max(reached, key=_RANK.__getitem__)


def unknown_posture(rungs: tuple[UnknownRung, ...] | None, age_ms: int) -> Posture:
    """The strictest of all rungs that this age has reached; before the first, `open`: the grace."""
    reached = Posture.OPEN
    for rung in unknown_ladder(rungs):
        if after_ms(rung) <= age_ms:
            reached = stricter(reached, rung.posture)
    return reached if _RANK[reached] <= _RANK[_STRICTEST_FROM_UNKNOWN] else _STRICTEST_FROM_UNKNOWN


def next_rung_in_ms(rungs: tuple[WrongRung, ...] | tuple[UnknownRung, ...], age_ms: int) -> int | None:
    """Milliseconds until the age reaches another rung; None = it is on the last one."""
    coming = [after_ms(rung) - age_ms for rung in rungs if after_ms(rung) > age_ms]
    return min(coming, default=None)


def after_ms(rung: WrongRung | UnknownRung) -> int:
    """When a rung is reached.  Raises Malformed for a duration that no schema would let pass."""
    return cached_milliseconds(rung.after)


@lru_cache(maxsize=256)
def cached_milliseconds(duration: str) -> int:
    """duration.milliseconds, remembered: every turn asks for the same dozen texts."""
    return milliseconds(duration)
