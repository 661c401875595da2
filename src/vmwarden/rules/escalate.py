# SPDX-License-Identifier: Apache-2.0
"""The ladder: what becomes of an incident with each verdict, as a table.

Every fence is in one State.  Its verdict moves it along MOVES, and the move says what happens to the
incident's age.  What posture a state calls for is in _posture; nothing else is decided here.
"""

from collections.abc import Iterable
from enum import Enum, auto
from typing import Any, NamedTuple

import msgspec

from vmwarden.model.decision import Ask
from vmwarden.model.escalation import Escalation, Incident
from vmwarden.model.moment import Moment
from vmwarden.model.policy import Policy, UnknownRung
from vmwarden.model.posture import Posture
from vmwarden.model.verdict import Answer, Finding, Verdict
from vmwarden.rules import ladders
from vmwarden.rules.fences import hours
from vmwarden.rules.judge import clauses
from vmwarden.rules.ladders import stricter

#: A power-off is not taken before a fence has been wrong for this long in this boot, whatever its age
#: from earlier boots: after a start the owner has a minute to come in through `manage`.
POWEROFF_NOT_BEFORE_MS = 60_000

#: An incident's last sighting is moved on in steps of this size, so that whoever stores it writes
#: seldom.  A reboot can take at most this much from an incident's age.
SEEN_STEP_MS = 5_000

#: The circuit-breaker needs at least this many sources: of one source, one failing is no coincidence.
BREAKER_SOURCES = 2


class State(Enum):
    """Where a fence stands before its verdict."""

    CLEAR = auto()  # no incident
    SILENT = auto()  # unknown since the incident began
    WRONG = auto()  # denied in this boot, and no allow since
    CARRIED = auto()  # denied in an earlier boot, not yet seen wrong in this one


class Age(Enum):
    """What a move does to the incident and its age."""

    ENDS = auto()  # there is no incident any more
    STARTS = auto()  # at zero
    RUNS = auto()  # goes on
    RESTS = auto()  # keeps what it has, and does not grow


MOVES: dict[tuple[State, Answer], tuple[State, Age]] = {
    (State.CLEAR, Answer.ALLOW): (State.CLEAR, Age.ENDS),
    (State.CLEAR, Answer.UNKNOWN): (State.SILENT, Age.STARTS),
    (State.CLEAR, Answer.DENY): (State.WRONG, Age.STARTS),
    (State.SILENT, Answer.ALLOW): (State.CLEAR, Age.ENDS),
    (State.SILENT, Answer.UNKNOWN): (State.SILENT, Age.RUNS),
    (State.SILENT, Answer.DENY): (State.WRONG, Age.STARTS),
    (State.WRONG, Answer.ALLOW): (State.CLEAR, Age.ENDS),
    (State.WRONG, Answer.UNKNOWN): (State.WRONG, Age.RUNS),  # silence does not cure
    (State.WRONG, Answer.DENY): (State.WRONG, Age.RUNS),
    (State.CARRIED, Answer.ALLOW): (State.CLEAR, Age.ENDS),
    (State.CARRIED, Answer.UNKNOWN): (State.CARRIED, Age.RESTS),
    (State.CARRIED, Answer.DENY): (State.WRONG, Age.RUNS),
}


#: Fences whose deny is a calendar's: it is no incident, and ends one that they have.
SCHEDULED = (hours.FENCE,)


class Step(NamedTuple):
    """One turn of the ladder.

    by_ladders: what the ladders call for; posture: that, or what the caller demanded if that is stricter.
    next_change_boot_ms: when it would step without a new verdict; None = never.  findings stay the
    same from turn to turn while nothing steps: they name rungs, not running ages.
    """

    escalation: Escalation
    posture: Posture
    by_ladders: Posture
    asks: tuple[Ask, ...]
    findings: tuple[Finding, ...]
    next_change_boot_ms: int | None


def step(
    policy: Policy,
    verdicts: tuple[Verdict, ...],
    before: Escalation,
    now: Moment,
    *,
    at_least: Posture = Posture.OPEN,
    failing: tuple[str, ...] = (),
    sources: int = 0,
) -> Step:
    """Move every fence of the policy by its verdict, and take the strictest posture that one calls for.

    A fence without a verdict counts as unknown.  at_least: no milder posture than this.
    failing, sources: names of the sources that fail in this turn, and how many there are; for the
    circuit-breaker.
    """
    before = begin(before, now)
    answers = {verdict.fence: verdict.answer for verdict in verdicts}
    open_incidents = {
        incident.fence: incident
        for incident in before.incidents
        # a calendar is never wrong, whatever stands on disk
        if incident.fence not in SCHEDULED or incident.kind == "unknown"
    }
    allowed: list[str] = []
    incidents: list[Incident] = []
    calls: list[_Call] = []
    for name, clause in clauses(policy):
        answer = answers.get(name, Answer.UNKNOWN)
        may_wait = answer is Answer.ALLOW or name in before.allowed
        if may_wait:
            allowed.append(name)
        if name in SCHEDULED and answer is Answer.DENY:
            continue
        was = open_incidents.get(name)
        state, age = MOVES[_state(was, now), answer]
        incident = _aged(name, was, state, age, may_wait, now)
        if incident is not None:
            incidents.append(incident)
            calls.append(_call(clause, incident, state, answer, may_wait, now))

    posture = Posture.OPEN
    findings: list[Finding] = []
    for call in calls:
        posture = stricter(posture, call.posture)
        findings += call.findings
    if posture is Posture.POWEROFF and _breaks(failing, sources):
        posture = Posture.QUARANTINED
        findings.append(
            Finding(
                id="breaker.sources-failing",
                answer=Answer.UNKNOWN,
                expected="sources that work, before a power-off",
                found=f"{len(set(failing))} of {sources} sources fail: {', '.join(sorted(set(failing)))}",
            )
        )
    by_ladders, posture = posture, stricter(posture, at_least)
    after = Escalation(
        boot_id=before.boot_id,
        epoch=before.epoch,
        incidents=tuple(incidents),
        allowed=tuple(allowed),
        posture=posture,
    )
    return Step(
        escalation=after,
        posture=posture,
        by_ladders=by_ladders,
        asks=tuple(dict.fromkeys(ask for call in calls for ask in call.asks)),
        findings=tuple(findings),
        next_change_boot_ms=min((c.changes for c in calls if c.changes is not None), default=None),
    )


def begin(before: Escalation, now: Moment) -> Escalation:
    """before itself, or what a new boot keeps of it: the incidents, and nothing that loosens."""
    return before if before.boot_id == now.boot_id and before.epoch else _fresh(before, now.boot_id)


def new_epoch(before: Escalation) -> Escalation:
    """After a movement: held, and no fence has allowed yet.  Incidents and their ages stay."""
    return _fresh(before, before.boot_id)


def age_ms(incident: Incident, now: Moment) -> int:
    """How long it has lasted, over all boots; while it rests in a new boot, what it had."""
    if incident.boot_id == now.boot_id:
        return incident.carried_ms + max(0, now.boot_ms - incident.since_boot_ms)
    return incident.carried_ms + max(0, incident.seen_boot_ms - incident.since_boot_ms)


def _fresh(before: Escalation, boot_id: str) -> Escalation:
    return msgspec.structs.replace(
        before, boot_id=boot_id, epoch=before.epoch + 1, allowed=(), posture=Posture.HELD
    )


def _state(incident: Incident | None, now: Moment) -> State:
    if incident is None:
        return State.CLEAR
    if incident.kind == "unknown":
        return State.SILENT
    return State.WRONG if incident.boot_id == now.boot_id else State.CARRIED


def _aged(
    fence: str, was: Incident | None, state: State, age: Age, allowed: bool, now: Moment
) -> Incident | None:
    if age is Age.ENDS:
        return None
    if was is None or age is Age.STARTS:
        silent_ms = age_ms(was, now) if was is not None and was.kind == "unknown" and allowed else None
        return Incident(
            fence=fence,
            kind="unknown" if state is State.SILENT else "wrong",
            since_boot_ms=now.boot_ms,
            seen_boot_ms=now.boot_ms,
            boot_id=now.boot_id,
            silent_ms=silent_ms,
        )
    if age is Age.RESTS:
        return was
    if was.boot_id != now.boot_id:
        return Incident(
            fence=fence,
            kind=was.kind,
            carried_ms=age_ms(was, now),
            since_boot_ms=now.boot_ms,
            seen_boot_ms=now.boot_ms,
            boot_id=now.boot_id,
        )
    if now.boot_ms - was.seen_boot_ms < SEEN_STEP_MS:
        return was
    return msgspec.structs.replace(was, seen_boot_ms=now.boot_ms)


class _Call(NamedTuple):
    """What one incident calls for."""

    posture: Posture
    asks: tuple[Ask, ...]
    findings: tuple[Finding, ...]
    changes: int | None


def _call(clause: Any, incident: Incident, state: State, answer: Answer, allowed: bool, now: Moment) -> _Call:
    if state is State.CARRIED:
        found = f"wrong for {_seconds(age_ms(incident, now))} before this boot, unknown since"
        return _Call(Posture.HELD, (), (_note("ladder.carried", incident, found),), None)
    if state is State.SILENT:
        return _silent(clause, incident, allowed, now)
    return _wrong(clause, incident, answer, allowed, now)


def _silent(clause: Any, incident: Incident, allowed: bool, now: Moment) -> _Call:
    if not allowed:
        found = "nothing has been accepted in this boot and epoch yet"
        return _Call(Posture.HELD, (), (_note("ladder.not-yet-allowed", incident, found),), None)
    rungs = clause.unknown or _silence(incident.fence)
    age = age_ms(incident, now)
    posture = ladders.unknown_posture(rungs, age)
    left = ladders.next_rung_in_ms(rungs, age)
    findings: tuple[Finding, ...] = ()
    if posture is Posture.OPEN:
        first = "without end" if left is None else f"for {_seconds(age + left)} from when it began"
        findings = (_note("ladder.grace", incident, f"unknown after an allow: tolerated {first}"),)
    return _Call(posture, (), findings, None if left is None else now.boot_ms + left)


def _silence(fence: str) -> tuple[UnknownRung, ...]:
    """The ladder where the policy has none."""
    return ladders.DEFAULT_TIME_UNKNOWN if fence in SCHEDULED else ladders.DEFAULT_UNKNOWN


def _wrong(clause: Any, incident: Incident, answer: Answer, allowed: bool, now: Moment) -> _Call:
    rungs = ladders.wrong_ladder(clause.wrong)
    age = age_ms(incident, now)
    posture = ladders.wrong_posture(rungs, age)
    left = ladders.next_rung_in_ms(rungs, age)
    changes = None if left is None else now.boot_ms + left
    findings: list[Finding] = []
    if incident.silent_ms is not None:
        # It had been silent for long before it was wrong: worse news loosens nothing.
        posture = stricter(posture, ladders.unknown_posture(clause.unknown, incident.silent_ms))
    if not allowed:
        posture = stricter(posture, Posture.HELD)
    if answer is Answer.UNKNOWN:
        findings.append(
            _note("ladder.still-wrong", incident, "silent now, and wrong before: silence does not cure")
        )
    if posture is Posture.POWEROFF:
        earliest = incident.since_boot_ms + POWEROFF_NOT_BEFORE_MS
        if now.boot_ms < earliest:
            posture = Posture.QUARANTINED
            changes = earliest if changes is None else min(changes, earliest)
            found = (
                f"no power-off before it has been wrong for {_seconds(POWEROFF_NOT_BEFORE_MS)} in this boot"
            )
            findings.append(_note("ladder.poweroff-waits", incident, found))
    asks = tuple(
        Ask(ask=rung.ask, of=rung.of or "host", fence=incident.fence)
        for rung in sorted(rungs, key=ladders.after_ms)
        if rung.ask is not None and ladders.after_ms(rung) <= age
    )
    return _Call(posture, asks, tuple(findings), changes)


def _breaks(failing: Iterable[str], sources: int) -> bool:
    """More than half of the sources at once: that is our trouble, more likely than the host's."""
    return sources >= BREAKER_SOURCES and 2 * len(set(failing)) > sources


def _note(finding_id: str, incident: Incident, found: str) -> Finding:
    answer = Answer.DENY if incident.kind == "wrong" else Answer.UNKNOWN
    return Finding(id=finding_id, answer=answer, subject=incident.fence, found=found)


def _seconds(ms: int) -> str:
    return f"{-(-ms // 1000)} s"
