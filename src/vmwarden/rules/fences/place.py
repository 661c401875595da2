# SPDX-License-Identifier: Apache-2.0
"""The fence `place`: where the VM may run.

any_of is an OR of entries, an entry an AND of the fields it lists, a field an OR of its values.  All
three-valued: silence never becomes an answer.
"""

from functools import lru_cache
from typing import NamedTuple

from vmwarden.model.evidence import Proof, Subject, Value
from vmwarden.model.fact import Fact, Standing
from vmwarden.model.moment import Moment
from vmwarden.model.policy import Place, PlaceEntry
from vmwarden.model.verdict import Answer, Finding, Verdict
from vmwarden.rules import facts, postal, reasons
from vmwarden.rules.facts import BySubject
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

# Looked up once: on Python 3.11 a member of an enumeration costs more than the comparison with it.
_ALLOW, _DENY, _UNKNOWN = Answer.ALLOW, Answer.DENY, Answer.UNKNOWN
_COUNTRY, _POSTAL_CODE = Subject.COUNTRY, Subject.POSTAL_CODE

#: Until when (CLOCK_BOOTTIME) something holds, or the answer that it does not.
_Holds = int | Answer


def judge(clause: Place, evidence: BySubject, *, now: Moment, utc_ms: int | None) -> Verdict:
    """The verdict on place.  evidence: facts.by_subject of everything, derived claims included.

    An entry denies if a field denies, else is unknown if a field is unknown.  The fence allows if an
    entry allows, denies if every entry denies, else is unknown.
    """
    case = _Case(clause, evidence, now, utc_ms)
    entries = [case.entry(entry) for entry in clause.any_of]
    until = [end for end in entries if isinstance(end, int)]
    refusal = _UNKNOWN if _UNKNOWN in entries else _DENY
    if not entries:
        case.findings.append(
            Finding(id="place.no-entries", answer=_DENY, expected="an accepted place", found="none")
        )
    return Verdict(
        fence=FENCE,
        answer=_ALLOW if until else refusal,
        findings=tuple(dict.fromkeys(case.findings)),
        good_until_boot_ms=max(until, default=None),  # of the entry that lasts longest
    )


class _Weighed(NamedTuple):
    """A fact, and how it is told.

    value: None unless the fact is known.  holds_until: None unless enough keys vouch for it.
    """

    fact: Fact
    subject: Subject
    value: Value
    holds_until: int | None
    text: str
    source: str


class _Case:
    """One judgement: the facts that its entries share, each established once, and all findings."""

    def __init__(self, clause: Place, evidence: BySubject, now: Moment, utc_ms: int | None) -> None:
        within = clause.issued_within
        self._agree = clause.agree
        self._terms = facts.Terms(
            at_least=Proof(clause.proof),
            now=now,
            utc_ms=utc_ms,
            recheck_ms=cached_milliseconds(clause.recheck),
            issued_within_ms=None if within is None else cached_milliseconds(within),
            agree=clause.agree,
        )
        self._evidence = evidence
        self._weighed: dict[tuple[Subject, str], _Weighed] = {}
        self.findings = reasons.refused_statements(self._evidence.get(Subject.STATEMENT, ()))

    def entry(self, entry: PlaceEntry) -> _Holds:
        """Every listed field, all of them judged."""
        fields: list[_Holds] = []
        for subject, wanted, expected in _listed(entry):
            if subject is _POSTAL_CODE:
                fields.append(self._postal(entry, wanted, expected))
            else:
                weighed = self._weighed.get((subject, "")) or self._weigh(subject)
                fields.append(self._field(weighed, weighed.value in wanted, expected))
        if _DENY in fields:
            return _DENY
        if _UNKNOWN in fields:
            return _UNKNOWN
        if not fields:
            # An AND of nothing would allow every place.
            self.findings.append(
                Finding(id="place.empty-entry", answer=_UNKNOWN, expected="a listed field", found="none")
            )
            return _UNKNOWN
        return min([end for end in fields if isinstance(end, int)])

    def _postal(self, entry: PlaceEntry, patterns: tuple[Value, ...], expected: str) -> _Holds:
        """Postal codes mean something only within a country: the one that is, else the entry's."""
        where = self._weighed.get((_COUNTRY, "")) or self._weigh(_COUNTRY)
        country_holds: _Holds | None = None
        if entry.country is None:
            # Then the country has to be known, whichever it is.
            country_holds = self._given(where, f"a country, to read {expected} in")
            if isinstance(country_holds, Answer):
                return country_holds
        country = str(where.value or entry.country)
        weighed = self._weighed.get((_POSTAL_CODE, country)) or self._weigh(_POSTAL_CODE, country)
        code = str(weighed.value or "")
        matched = any(postal.matches(str(pattern), entry.country or country, code) for pattern in patterns)
        holds = self._field(weighed, matched, expected)
        return holds if country_holds is None or isinstance(holds, Answer) else min(holds, country_holds)

    def _field(self, weighed: _Weighed, matched: bool, expected: str) -> _Holds:
        """One field, with its finding; matched counts only where the fact is known."""
        # One trusted claim of a wrong place is enough to deny; agree is about being right.
        holds = weighed.holds_until if matched else _DENY
        if weighed.value is None or holds is None:
            return self._given(weighed, expected)
        self.findings.append(
            Finding(
                id=weighed.subject + (".match" if matched else ".mismatch"),
                answer=_ALLOW if matched else _DENY,
                subject=weighed.subject,
                expected=expected,
                found=weighed.text,
                source=weighed.source,
            )
        )
        return holds

    def _given(self, weighed: _Weighed, expected: str) -> _Holds:
        """Whether the fact is known by enough keys, whatever it is; with a finding if not."""
        if weighed.holds_until is not None:
            return weighed.holds_until
        if weighed.value is None:
            self.findings += reasons.unestablished(weighed.fact, expected)
            contradicted = weighed.fact.standing is Standing.CONTRADICTED
            return _DENY if contradicted else _UNKNOWN
        keys = len(weighed.fact.signers)
        self.findings.append(
            Finding(
                id=weighed.subject + ".disagree",
                answer=_UNKNOWN,
                subject=weighed.subject,
                expected=f"{expected}, by {self._agree} different keys",
                found=f"{weighed.text}, by {keys}" + ("" if keys else " (declared claims carry no key)"),
                source=weighed.source,
            )
        )
        return _UNKNOWN

    def _weigh(self, subject: Subject, country: str = "") -> _Weighed:
        fact = facts.weigh(self._evidence.get(subject, ()), subject, self._terms, country)
        enough = self._agree <= 1 or len(fact.signers) >= self._agree
        weighed = self._weighed[subject, country] = _Weighed(
            fact=fact,
            subject=subject,
            value=fact.value,
            holds_until=fact.good_until_boot_ms if enough else None,
            text=reasons.strength(fact),
            source=reasons.by(fact.evidence),
        )
        return weighed


@lru_cache(maxsize=256)
def _listed(entry: PlaceEntry) -> tuple[tuple[Subject, tuple[Value, ...], str], ...]:
    """The fields that an entry lists: subject, accepted values in normal form, and how to tell them.

    Patterns of postal codes stay as they are.  Remembered, because every turn asks for the same.
    """
    rows = []
    for subject, field in _FIELDS:
        listed = getattr(entry, field)
        texts: tuple[str, ...] = (listed,) if isinstance(listed, str) else listed or ()
        if texts:
            wanted = tuple(
                text if subject is _POSTAL_CODE else facts.normalise(subject, text) for text in texts
            )
            rows.append((subject, wanted, " or ".join(texts)))
    return tuple(rows)
