# SPDX-License-Identifier: Apache-2.0
"""What holds for every policy and every evidence.

"No contradiction" is part of three of these: who takes away one side of a contradiction leaves the
other side, and that one may be right (docs/reference/judging.md).
"""

import itertools
from typing import Any

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vmwarden.model.evidence import Evidence, Proof, Subject
from vmwarden.model.moment import Moment
from vmwarden.model.policy import Facility, Host, HostClause, Place, PlaceEntry, Policy, Trust
from vmwarden.model.verdict import Answer, Verdict
from vmwarden.rules import steady
from vmwarden.rules.derive import derive
from vmwarden.rules.duration import milliseconds
from vmwarden.rules.facts import normalise, reaches
from vmwarden.rules.judge import judge
from vmwarden.rules.postal import matches
from vmwarden.testing.claims import NOW, absent, claim, guarding

EXAMPLES = settings(max_examples=120, deadline=None, derandomize=True)

VALUES: dict[Subject, list[Any]] = {
    Subject.COUNTRY: ["DE", "de", "NL"],
    Subject.CITY: ["Berlin", "berlin", "Delft"],
    Subject.POSTAL_CODE: ["10115", "D-10115", "1012 AB"],
    Subject.TIME_ZONE: ["Europe/Berlin", "Europe/Amsterdam"],
    Subject.HYPERVISOR: ["kvm", "xen"],
    Subject.HYPERVISOR_VERSION: ["7.2", "9.0", "new"],
    Subject.COMPLIANCE: [("c5",), ("c5", "iso27001"), ("iso27001",)],
    Subject.RTC_OFFSET: [0, 3600],
    Subject.REGION: ["r1", "r2"],
}
FACILITIES = (
    Facility(region="r1", country="DE", postal_code="10115"),
    Facility(region="r2", country="NL", time_zone="Europe/Amsterdam"),
)


def mostly(usual: Any, *others: Any) -> st.SearchStrategy[Any]:
    """The usual three times of four: evidence that fits has to be likely, or nothing is ever allowed."""
    return st.sampled_from([*[usual] * 3 * len(others), *others])


subjects = st.sampled_from(list(VALUES))


@st.composite
def documents(draw: st.DrawFn) -> list[Evidence]:
    """What one source says of everything, with something missing or wrong here and there."""
    source = draw(st.sampled_from(["a", "b", "c"]))
    values = {subject: usual for subject, (usual, *_) in VALUES.items()}
    for subject in draw(st.lists(subjects, max_size=1)):
        values[subject] = draw(st.sampled_from(VALUES[subject]))
    missing = draw(st.lists(subjects, max_size=2))
    about = {
        "source": source,
        "proof": draw(st.sampled_from([Proof.SIGNED, Proof.FRESH, Proof.DECLARED])),
        "signer": draw(mostly(None, "SHA256:k")),
        "age_ms": draw(mostly(5_000, 0, 20_000, 60_000, 60_001)),
        "issued_ago_ms": draw(mostly(5_000, 0, 90_000, None)),
        "lasts_ms": draw(mostly(3_600_000, None, 0, 1, 50_000)),
        "number": draw(mostly(0, 1)),
    }
    return [claim(subject, value, **about) for subject, value in values.items() if subject not in missing]


strays = st.one_of(
    st.builds(
        claim,
        subjects,
        st.sampled_from(["NL", "Delft", "1012AB", 3600, ("c5",), "r2"]),
        source=st.sampled_from(["a", "d"]),
        proof=st.sampled_from([Proof.DECLARED, Proof.MEASURED, Proof.SIGNED]),
    ),
    st.builds(absent, subjects, st.sampled_from(["", "source.denied"])),
    st.builds(absent, st.just(Subject.STATEMENT), st.just("statement.expired")),
)
evidence = st.builds(
    lambda said, extra: (*itertools.chain(*said), *extra),
    st.lists(documents(), max_size=3),
    st.lists(strays, max_size=2),
)

entries = st.builds(
    PlaceEntry,
    country=st.sampled_from([None, "DE", "DE", "NL"]),
    cities=st.sampled_from([(), (), ("Berlin",), ("Delft", "Berlin"), ("Delft",)]),
    postal_codes=st.sampled_from([(), (), ("10*",), ("1012*", "10115"), ("D-1*", "20*"), ("1012 AB",)]),
    time_zones=st.sampled_from([(), (), ("Europe/Berlin",), ("Europe/Amsterdam",)]),
).filter(lambda entry: entry != PlaceEntry())

places = st.builds(
    Place,
    any_of=st.lists(entries, min_size=1, max_size=3).map(tuple),
    proof=st.sampled_from(["declared", "signed", "signed", "fresh"]),
    agree=mostly(1, 2),
    recheck=mostly("60s", "10s"),
    issued_within=mostly(None, "60s"),
)

proofs = mostly("declared", "signed", "fresh")
predicates = st.one_of(
    st.builds(HostClause, fact=st.just("host.hypervisor"), equals=st.sampled_from(["kvm"]), proof=proofs),
    st.builds(HostClause, fact=st.just("host.hypervisor"), in_=st.just(("kvm", "xen")), proof=proofs),
    st.builds(HostClause, fact=st.just("host.hypervisor_version"), at_least=st.just("8"), proof=proofs),
    st.builds(HostClause, fact=st.just("clock.rtc_offset"), equals=st.just("0"), proof=proofs),
    st.builds(
        HostClause,
        fact=st.just("host.compliance"),
        contains=st.sampled_from(["c5", ("c5", "iso27001")]),
        proof=proofs,
    ),
)
hosts = st.builds(
    Host,
    all_of=st.lists(predicates, min_size=1, max_size=2).map(tuple),
    recheck=mostly("60s", "10s"),
)
policies = st.builds(guarding, place=st.none() | places, host=st.none() | hosts)
clocks = st.sampled_from([NOW.utc_ms, NOW.utc_ms, None])


def verdicts(
    policy: Policy, pieces: tuple[Evidence, ...], utc_ms: int | None, *, now: Moment = NOW
) -> tuple[Verdict, ...]:
    everything = pieces + derive(pieces, FACILITIES)
    return judge(policy, everything, now=now, utc_ms=utc_ms)


def never_from_no_to_yes(before: tuple[Verdict, ...], after: tuple[Verdict, ...]) -> None:
    """Fence by fence, what was not an allow is none now."""
    for was, now in zip(before, after, strict=True):
        if was.answer is not Answer.ALLOW and not contradicted(was):
            assert now.answer is not Answer.ALLOW, (was, now)


def contradicted(verdict: Verdict) -> bool:
    return any(finding.id.endswith(".contradicted") for finding in verdict.findings)


@EXAMPLES
@given(policies, evidence, clocks, st.data())
def test_the_order_of_evidence_never_matters(
    policy: Policy, pieces: tuple[Evidence, ...], utc_ms: int | None, data: st.DataObject
) -> None:
    shuffled = tuple(data.draw(st.permutations(pieces)))
    assert verdicts(policy, shuffled, utc_ms) == verdicts(policy, pieces, utc_ms)


@EXAMPLES
@given(policies, evidence, clocks, st.data())
def test_removing_evidence_never_turns_deny_or_unknown_into_allow(
    policy: Policy, pieces: tuple[Evidence, ...], utc_ms: int | None, data: st.DataObject
) -> None:
    kept = tuple(piece for piece in pieces if data.draw(st.booleans()))
    never_from_no_to_yes(verdicts(policy, pieces, utc_ms), verdicts(policy, kept, utc_ms))


@EXAMPLES
@given(policies, evidence, clocks, st.integers(0, 200_000))
def test_time_that_passes_never_turns_deny_or_unknown_into_allow(
    policy: Policy, pieces: tuple[Evidence, ...], utc_ms: int | None, passes_ms: int
) -> None:
    later = msgspec.structs.replace(NOW, boot_ms=NOW.boot_ms + passes_ms, utc_ms=NOW.utc_ms + passes_ms)
    then = None if utc_ms is None else utc_ms + passes_ms
    never_from_no_to_yes(verdicts(policy, pieces, utc_ms), verdicts(policy, pieces, then, now=later))


@EXAMPLES
@given(policies, evidence, clocks, st.data())
def test_older_evidence_never_turns_deny_or_unknown_into_allow(
    policy: Policy, pieces: tuple[Evidence, ...], utc_ms: int | None, data: st.DataObject
) -> None:
    def older(piece: Evidence) -> Evidence:
        by = data.draw(st.sampled_from([0, 1, 60_000, 3_600_000]))
        issued, until = piece.issued_at_ms, piece.valid_until_ms
        return msgspec.structs.replace(
            piece,
            observed_boot_ms=piece.observed_boot_ms - by,
            issued_at_ms=None if issued is None else issued - by,
            valid_until_ms=None if until is None else until - by,
        )

    aged = tuple(older(piece) for piece in pieces)
    never_from_no_to_yes(verdicts(policy, pieces, utc_ms), verdicts(policy, aged, utc_ms))


@EXAMPLES
@given(places, evidence, clocks, st.data())
def test_tightening_place_never_turns_deny_into_allow(
    clause: Place, pieces: tuple[Evidence, ...], utc_ms: int | None, data: st.DataObject
) -> None:
    order = ["declared", "signed", "fresh"]

    def narrower(entry: PlaceEntry) -> PlaceEntry:
        other = data.draw(entries)
        return PlaceEntry(
            country=entry.country or other.country,
            cities=entry.cities[:1] or other.cities,
            postal_codes=entry.postal_codes[:1] or other.postal_codes,
            time_zones=entry.time_zones[:1] or other.time_zones,
        )

    tighter = Place(
        any_of=tuple(
            narrower(entry) if data.draw(st.booleans()) else entry
            for entry in clause.any_of[: data.draw(st.integers(1, len(clause.any_of)))]
        ),
        proof=data.draw(st.sampled_from(order[order.index(clause.proof) :])),
        agree=clause.agree + data.draw(st.integers(0, 1)),
        recheck=data.draw(st.sampled_from([clause.recheck, "9s"])),
        issued_within=data.draw(st.sampled_from([clause.issued_within, "5s"])),
    )
    never_from_no_to_yes(
        verdicts(guarding(place=clause), pieces, utc_ms), verdicts(guarding(place=tighter), pieces, utc_ms)
    )


@EXAMPLES
@given(hosts, predicates, evidence, clocks)
def test_another_predicate_never_turns_deny_into_allow(
    clause: Host, predicate: HostClause, pieces: tuple[Evidence, ...], utc_ms: int | None
) -> None:
    tighter = msgspec.structs.replace(clause, all_of=(*clause.all_of, predicate), recheck="10s")
    never_from_no_to_yes(
        verdicts(guarding(host=clause), pieces, utc_ms), verdicts(guarding(host=tighter), pieces, utc_ms)
    )


def support(subject: Subject, wanted: tuple[str, ...], clause: Place, utc_ms: int | None) -> Any:
    """Whether a piece speaks for one of these values, told as plainly as possible."""
    recheck_ms = milliseconds(clause.recheck)

    def speaks(piece: Evidence) -> bool:
        if piece.subject is not subject or piece.unavailable or not reaches(piece.proof, Proof(clause.proof)):
            return False
        if not 0 <= NOW.boot_ms - piece.observed_boot_ms <= recheck_ms:
            return False
        until = None if piece.proof is Proof.FRESH else piece.valid_until_ms
        if until is not None and (utc_ms is None or utc_ms >= until):
            return False
        if subject is Subject.POSTAL_CODE:
            return any(matches(pattern, "DE", str(piece.value)) for pattern in wanted) or any(
                matches(pattern, "NL", str(piece.value)) for pattern in wanted
            )
        return any(normalise(subject, value) == normalise(subject, piece.value) for value in wanted)

    return speaks


@EXAMPLES
@given(places, evidence, clocks)
def test_an_allow_has_evidence_for_every_field_of_an_entry(
    clause: Place, pieces: tuple[Evidence, ...], utc_ms: int | None
) -> None:
    (verdict,) = verdicts(guarding(place=clause), pieces, utc_ms)
    if verdict.answer is not Answer.ALLOW:
        return
    everything = pieces + derive(pieces, FACILITIES)

    def supported(entry: PlaceEntry) -> bool:
        country = () if entry.country is None else (entry.country,)
        fields = (
            (Subject.COUNTRY, country),
            (Subject.CITY, entry.cities),
            (Subject.POSTAL_CODE, entry.postal_codes),
            (Subject.TIME_ZONE, entry.time_zones),
        )
        return all(
            any(map(support(subject, wanted, clause, utc_ms), everything))
            for subject, wanted in fields
            if wanted
        )

    assert any(map(supported, clause.any_of))


@EXAMPLES
@given(policies, evidence, clocks, st.integers(0, 70_000))
@example(guarding(place=Place(any_of=(PlaceEntry(country="DE"),))), (claim(Subject.COUNTRY, "DE"),), None, 5)
def test_an_allow_ends_exactly_when_it_says(
    policy: Policy, pieces: tuple[Evidence, ...], utc_ms: int | None, passes_ms: int
) -> None:
    def after(ms: int) -> tuple[Verdict, ...]:
        then = msgspec.structs.replace(NOW, boot_ms=NOW.boot_ms + ms, utc_ms=NOW.utc_ms + ms)
        return verdicts(policy, pieces, None if utc_ms is None else utc_ms + ms, now=then)

    for n, verdict in enumerate(after(0)):
        if verdict.answer is not Answer.ALLOW:
            assert verdict.good_until_boot_ms is None
            continue
        assert verdict.good_until_boot_ms is not None
        left_ms = verdict.good_until_boot_ms - NOW.boot_ms
        assert left_ms >= 0
        assert after(min(passes_ms, left_ms))[n].answer is Answer.ALLOW
        assert after(left_ms)[n].answer is Answer.ALLOW
        if not contradicted(verdict):
            assert after(left_ms + 1)[n].answer is not Answer.ALLOW


anything: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.text(max_size=20), st.integers(), st.lists(st.text(max_size=5), max_size=3).map(tuple)
)
wild = st.builds(
    Evidence,
    id=st.text(max_size=3),
    subject=st.sampled_from(list(Subject)),
    source=st.text(max_size=3),
    value=anything,
    proof=st.sampled_from(list(Proof)),
    signer=st.text(max_size=3),
    issued_at_ms=st.none() | st.integers(),
    observed_at_ms=st.integers(),
    observed_boot_ms=st.integers(800_000, 950_000) | st.integers(),
    valid_until_ms=st.none() | st.integers(),
    boot_frozen=st.booleans(),
    unavailable=st.sampled_from(["", "", "", "gone"]),
    finding=st.sampled_from(["", "statement.expired"]),
)
text = st.text(min_size=1, max_size=8)
texts = st.lists(text, max_size=2).map(tuple)
wild_entries = st.builds(
    PlaceEntry,
    country=st.none() | text,
    subdivisions=texts,
    cities=texts,
    postal_codes=texts,
    time_zones=texts,
    buildings=texts,
)
wild_predicates = st.builds(
    HostClause,
    fact=st.sampled_from([*[subject.value for subject in Subject], "no.such"]),
    equals=st.none() | text,
    in_=st.none() | texts,
    contains=st.none() | text | texts,
    at_least=st.none() | text,
    proof=proofs,
)
wild_policies = st.builds(
    guarding,
    place=st.none() | st.builds(Place, any_of=st.lists(wild_entries, max_size=2).map(tuple), proof=proofs),
    host=st.none() | st.builds(Host, all_of=st.lists(wild_predicates, max_size=2).map(tuple)),
)


@EXAMPLES
@given(wild_policies, st.lists(wild, max_size=8).map(tuple), st.none() | st.integers())
def test_judging_is_total_and_an_allow_is_never_empty(
    policy: Policy, pieces: tuple[Evidence, ...], utc_ms: int | None
) -> None:
    for verdict in verdicts(policy, pieces, utc_ms):
        assert verdict.answer in Answer
        assert verdict.findings
        if verdict.answer is Answer.ALLOW:
            assert any(finding.id.endswith(".match") for finding in verdict.findings)


@settings(EXAMPLES, max_examples=80)
@given(
    policies,
    evidence,
    st.lists(evidence, max_size=1),
    st.lists(
        st.tuples(
            mostly(1_600, 0, 1, 5_000, 40_000),
            st.integers(0, 200),
            st.sampled_from([0, 0, 0, 1, -1, 7_000]),
            st.booleans(),
            clocks,
        ),
        max_size=12,
    ),
)
def test_what_is_remembered_is_what_would_be_judged(
    policy: Policy,
    pieces: tuple[Evidence, ...],
    later: list[tuple[Evidence, ...]],
    turns: list[tuple[int, int, int, bool, int | None]],
) -> None:
    """Also at the very moments at which a piece begins or ceases to count, and while two clocks are read."""
    policy = msgspec.structs.replace(policy, trust=Trust(facilities=FACILITIES))
    boot_ms = min((piece.observed_boot_ms for piece in pieces), default=NOW.boot_ms) - 10
    # seen, stale after either recheck, and the ends of either kind of period
    edges = (0, 10_000, 60_000, 10_000 - 5_000, NOW.boot_ms - boot_ms, NOW.boot_ms - boot_ms + 50_000)
    moments = sorted(
        {boot_ms}
        | {piece.observed_boot_ms + edge + more for piece in pieces for edge in edges for more in (-1, 0, 1)}
        | {NOW.boot_ms + edge + more for edge in (0, 50_000, 55_000) for more in (-2, -1, 0, 1)}
    )
    for number, (wait_ms, jump, jitter_ms, other, clock) in enumerate(turns):
        boot_ms = moments[(number * 7 + jump) % len(moments)] if wait_ms < 2 else boot_ms + wait_ms
        now = Moment(boot_ms=boot_ms, utc_ms=NOW.utc_ms + boot_ms - NOW.boot_ms + jitter_ms, boot_id="b")
        known = later[0] if later and other else pieces
        # as a book does it: the same pieces in a new tuple
        anew = (*known,)
        utc_ms = None if clock is None else now.utc_ms
        told = steady.verdicts(policy, anew, now=now, utc_ms=utc_ms)
        assert told == judge(policy, anew + derive(anew, FACILITIES), now=now, utc_ms=utc_ms)
