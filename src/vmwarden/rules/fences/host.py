# SPDX-License-Identifier: Apache-2.0
"""The fence `host`: what the host has to be.

all_of is an AND of typed predicates, each on one fact at its own proof.
"""

from typing import NamedTuple

from vmwarden.model.evidence import Proof, Subject
from vmwarden.model.fact import Fact, Standing
from vmwarden.model.moment import Moment
from vmwarden.model.policy import Host, HostClause
from vmwarden.model.verdict import Answer, Finding, Verdict
from vmwarden.rules import facts, reasons, versions
from vmwarden.rules.facts import BySubject
from vmwarden.rules.ladders import cached_milliseconds

FENCE = "host"

NOT_A_VERSION = "not-a-version"
UNFIT = "unfit"

_SUBJECTS = {subject.value: subject for subject in Subject}


def judge(clause: Host, evidence: BySubject, *, now: Moment, utc_ms: int | None) -> Verdict:
    """The verdict on the host.  Denies if a predicate denies, else is unknown if one is unknown.

    evidence: facts.by_subject of everything.
    """
    found = reasons.refused_statements(evidence.get(Subject.STATEMENT, ()))
    answers: set[Answer] = set()
    ends: list[int] = []
    recheck_ms = cached_milliseconds(clause.recheck)
    for predicate in clause.all_of:
        subject = _SUBJECTS.get(predicate.fact)
        if subject is None:
            # Lint refuses it.  A predicate that nobody can judge is never fulfilled.
            found.append(
                Finding(
                    id="host.no-such-fact",
                    answer=Answer.UNKNOWN,
                    subject=predicate.fact,
                    expected="a fact that vmwarden knows",
                    found="none",
                )
            )
            answers.add(Answer.UNKNOWN)
            continue
        terms = facts.Terms(Proof(predicate.proof), now, utc_ms, recheck_ms, None)
        fact = facts.weigh(evidence.get(subject, ()), subject, terms)
        answers.add(_predicate(predicate, fact, found))
        if fact.good_until_boot_ms is not None:
            ends.append(fact.good_until_boot_ms)
    if not answers:
        # An AND of nothing would allow every host.
        found.append(
            Finding(id="host.no-clauses", answer=Answer.UNKNOWN, expected="a predicate", found="none")
        )
        answers.add(Answer.UNKNOWN)
    findings = tuple(dict.fromkeys(found))
    for answer in (Answer.DENY, Answer.UNKNOWN):
        if answer in answers:
            return Verdict(fence=FENCE, answer=answer, findings=findings)
    return Verdict(
        fence=FENCE, answer=Answer.ALLOW, findings=findings, good_until_boot_ms=min(ends, default=None)
    )


# Looked up once: on Python 3.11 a member of an enumeration costs more than the comparison with it.
_KNOWN = Standing.KNOWN


class _Outcome(NamedTuple):
    answer: Answer
    kind: str


_RIGHT = _Outcome(Answer.ALLOW, reasons.MATCH)
_WRONG = _Outcome(Answer.DENY, reasons.MISMATCH)
_SPLIT = _Outcome(Answer.DENY, reasons.CONTRADICTED)
_UNFIT = _Outcome(Answer.UNKNOWN, UNFIT)
_NO_VERSION = _Outcome(Answer.UNKNOWN, NOT_A_VERSION)


def _predicate(predicate: HostClause, fact: Fact, found: list[Finding]) -> Answer:
    expected = _expected(predicate)
    if fact.standing is not _KNOWN:
        found += reasons.unestablished(fact, expected)
        return Answer.DENY if fact.standing is Standing.CONTRADICTED else Answer.UNKNOWN
    outcome = _outcome(predicate, fact)
    found.append(
        reasons.finding(
            fact.subject,
            outcome.kind,
            outcome.answer,
            expected=expected,
            found=_found(fact),
            source=reasons.by(fact.evidence),
        )
    )
    return outcome.answer


def _outcome(predicate: HostClause, fact: Fact) -> _Outcome:
    if predicate.contains is not None:
        return _contains(_texts(predicate.contains), fact)
    if isinstance(fact.value, tuple):
        return _UNFIT
    if predicate.at_least is not None:
        reached = versions.reaches(str(fact.value), predicate.at_least)
        return _NO_VERSION if reached is None else _RIGHT if reached else _WRONG
    wanted = predicate.in_ if predicate.in_ is not None else _texts(predicate.equals)
    if not wanted:
        return _UNFIT
    return _RIGHT if any(_same(fact, text) for text in wanted) else _WRONG


def _contains(labels: tuple[str, ...], fact: Fact) -> _Outcome:
    """Every label has to be in every claim that counts; one that only some name is contradicted."""
    if not isinstance(fact.value, tuple) or not labels:
        return _UNFIT
    missing = [label for label in labels if label not in fact.value]
    if not missing:
        return _RIGHT
    claims = [piece.value for piece in fact.evidence if isinstance(piece.value, tuple)]
    split = any(label in claim for label in missing for claim in claims)
    return _SPLIT if split else _WRONG


def _same(fact: Fact, text: str) -> bool:
    if isinstance(fact.value, int):
        return str(fact.value) == text
    return facts.normalise(fact.subject, text) == fact.value


def _texts(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else value


def _expected(predicate: HostClause) -> str:
    if predicate.contains is not None:
        return "contains " + ", ".join(_texts(predicate.contains))
    if predicate.at_least is not None:
        return f"at least {predicate.at_least}"
    if predicate.in_ is not None:
        return " or ".join(predicate.in_)
    return predicate.equals or "a predicate"


def _found(fact: Fact) -> str:
    if isinstance(fact.value, tuple) and len(fact.evidence) > 1:
        return "; ".join(f"{reasons.shown(p.value)} ({p.source})" for p in fact.evidence)[: reasons.SHOWN]
    return reasons.strength(fact)
