# SPDX-License-Identifier: Apache-2.0
"""The fence `place`: where the VM may run.

any_of is an OR of entries, an entry an AND of the fields it lists, a field an OR of its values.  All
three-valued: silence never becomes an answer.
"""

from vmwarden.model.evidence import Evidence, Proof, Subject
from vmwarden.model.fact import Fact, Standing
from vmwarden.model.moment import Moment
from vmwarden.model.policy import Place, PlaceEntry
from vmwarden.model.verdict import Answer, Finding, Verdict
from vmwarden.rules import facts, postal, reasons
from vmwarden.rules.ladders import cached_milliseconds

FENCE = "place"

_FIELDS = (
    (Subject.COUNTRY, "country"),
    (Subject.SUBDIVISION, "subdivisions"),
    (Subject.CITY, "cities"),
    (Subject.POSTAL_CODE, "postal_codes"),
    (Subject.TIME_ZONE, "time_zones"),
    (Subject.BUILDING, "buildings"),
)


def judge(clause: Place, evidence: tuple[Evidence, ...], *, now: Moment, utc_ms: int | None) -> Verdict:
    """The verdict on place.  evidence: everything, derived claims included.

    An entry denies if a field denies, else is unknown if a field is unknown.  The fence allows if an
    entry allows, denies if every entry denies, else is unknown.
    """
    case = _Case(clause, evidence, now, utc_ms)
    found = reasons.refused_statements(evidence)
    answers: set[Answer] = set()
    good_until: list[int | None] = []
    for entry in clause.any_of:
        answer, entry_until = case.entry(entry, found)
        answers.add(answer)
        if answer is Answer.ALLOW:
            good_until.append(entry_until)
    if Answer.ALLOW in answers:
        return Verdict(
            fence=FENCE,
            answer=Answer.ALLOW,
            findings=tuple(dict.fromkeys(found)),
            good_until_boot_ms=_last(good_until),
        )
    if not answers:
        found.append(
            Finding(id="place.no-entries", answer=Answer.DENY, expected="an accepted place", found="none")
        )
    answer = Answer.UNKNOWN if Answer.UNKNOWN in answers else Answer.DENY
    return Verdict(fence=FENCE, answer=answer, findings=tuple(dict.fromkeys(found)))


class _Case:
    """One judgement: the facts that its entries share, each established once."""

    def __init__(
        self, clause: Place, evidence: tuple[Evidence, ...], now: Moment, utc_ms: int | None
    ) -> None:
        self._agree = clause.agree
        self._at_least = Proof(clause.proof)
        self._evidence = evidence
        self._now = now
        self._utc_ms = utc_ms
        self._recheck_ms = cached_milliseconds(clause.recheck)
        within = clause.issued_within
        self._within_ms = None if within is None else cached_milliseconds(within)
        self._facts: dict[tuple[Subject, str], Fact] = {}

    def entry(self, entry: PlaceEntry, found: list[Finding]) -> tuple[Answer, int | None]:
        """The answer of one entry and, for an allow, until when; its findings go to found."""
        answers: set[Answer] = set()
        ends: list[int] = []
        for subject, field in _FIELDS:
            listed = getattr(entry, field)
            if not listed:
                continue
            wanted = (listed,) if isinstance(listed, str) else listed
            if subject is Subject.POSTAL_CODE:
                answer, needed = self._postal(entry, wanted, found)
            else:
                fact = self._fact(subject)
                answer, needed = self._field(fact, wanted, _equals(fact, wanted), found), (fact,)
            answers.add(answer)
            ends += [fact.good_until_boot_ms for fact in needed if fact.good_until_boot_ms is not None]
        if Answer.DENY in answers:
            return Answer.DENY, None
        if Answer.UNKNOWN in answers:
            return Answer.UNKNOWN, None
        if not answers:
            # An AND of nothing would allow every place.
            found.append(
                Finding(
                    id="place.empty-entry", answer=Answer.UNKNOWN, expected="a listed field", found="none"
                )
            )
            return Answer.UNKNOWN, None
        return Answer.ALLOW, min(ends, default=None)

    def _postal(
        self, entry: PlaceEntry, patterns: tuple[str, ...], found: list[Finding]
    ) -> tuple[Answer, tuple[Fact, ...]]:
        """Postal codes mean something only within a country: the one that is, else the entry's."""
        where = self._fact(Subject.COUNTRY)
        if entry.country is None:
            answer = self._country_needed(where, patterns, found)
            if answer is not Answer.ALLOW:
                return answer, ()
        country = str(where.value) if where.standing is Standing.KNOWN else entry.country or ""
        fact = self._fact(Subject.POSTAL_CODE, country)
        matched = fact.standing is Standing.KNOWN and any(
            postal.matches(pattern, entry.country or country, str(fact.value)) for pattern in patterns
        )
        needed = (fact,) if entry.country is not None else (where, fact)
        return self._field(fact, patterns, matched, found), needed

    def _country_needed(self, where: Fact, patterns: tuple[str, ...], found: list[Finding]) -> Answer:
        """An entry lists postal codes and no country: then the country has to be known, whichever it is."""
        expected = f"a country, to read {_or(patterns)} in"
        if where.standing is not Standing.KNOWN:
            found += reasons.unestablished(where, expected)
            return Answer.DENY if where.standing is Standing.CONTRADICTED else Answer.UNKNOWN
        return self._enough_keys(where, expected, found)

    def _field(self, fact: Fact, wanted: tuple[str, ...], matched: bool, found: list[Finding]) -> Answer:
        expected = _or(wanted)
        if fact.standing is not Standing.KNOWN:
            found += reasons.unestablished(fact, expected)
            return Answer.DENY if fact.standing is Standing.CONTRADICTED else Answer.UNKNOWN
        if not matched:
            # One trusted claim of a wrong place is enough; agree is about being right.
            found.append(_known(fact, reasons.MISMATCH, Answer.DENY, expected))
            return Answer.DENY
        answer = self._enough_keys(fact, expected, found)
        if answer is Answer.ALLOW:
            found.append(_known(fact, reasons.MATCH, answer, expected))
        return answer

    def _enough_keys(self, fact: Fact, expected: str, found: list[Finding]) -> Answer:
        keys = len(fact.signers)
        if self._agree <= 1 or keys >= self._agree:
            return Answer.ALLOW
        unsigned = "" if keys else " (declared claims carry no key)"
        found.append(
            reasons.finding(
                fact.subject,
                reasons.DISAGREE,
                Answer.UNKNOWN,
                expected=f"{expected}, by {self._agree} different keys",
                found=f"{reasons.strength(fact)}, by {keys}{unsigned}",
                source=reasons.by(fact.evidence),
            )
        )
        return Answer.UNKNOWN

    def _fact(self, subject: Subject, country: str = "") -> Fact:
        fact = self._facts.get((subject, country))
        if fact is None:
            fact = self._facts[subject, country] = facts.establish(
                self._evidence,
                subject,
                at_least=self._at_least,
                now=self._now,
                utc_ms=self._utc_ms,
                recheck_ms=self._recheck_ms,
                issued_within_ms=self._within_ms,
                agree=self._agree,
                country=country,
            )
        return fact


def _known(fact: Fact, kind: str, answer: Answer, expected: str) -> Finding:
    return reasons.finding(
        fact.subject,
        kind,
        answer,
        expected=expected,
        found=reasons.strength(fact),
        source=reasons.by(fact.evidence),
    )


def _equals(fact: Fact, wanted: tuple[str, ...]) -> bool:
    return any(facts.normalise(fact.subject, value) == fact.value for value in wanted)


def _or(values: tuple[str, ...]) -> str:
    return " or ".join(values)


def _last(ends: list[int | None]) -> int | None:
    """The entry that lasts longest; None lasts for ever."""
    known = [end for end in ends if end is not None]
    return max(known) if len(known) == len(ends) else None
