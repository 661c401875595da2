# SPDX-License-Identifier: Apache-2.0
"""What one decision costs: evidence in, posture and lease out.

The policy and the evidence are of ordinary size: a place with five entries, a host with three
predicates, office hours, 25 pieces of evidence from two statements and DMI.  As in a warden that lives, the
clock moves with every decision, and after a dozen decisions there is a new gathering of evidence (a tick
every 1.6 s, a gathering every 20 s): what is remembered of a gathering is of no use for the next.  What the
first decision after a gathering costs is told besides.

Paired rounds: each round times a batch of decisions and a batch of the baseline, in an order that
changes.  The baseline is reading the same 25 pieces from their canonical bytes, which the warden has to
do anyway; the ratio says what is the machine's and what is ours.

    python -m benchmarks --only decision --rounds 200
"""

import itertools
import random
import time
from collections.abc import Callable

from benchmarks.figure import Figure, median_interval
from vmwarden.cycle.turn import take_turn
from vmwarden.linux.tzdata import Tzdata
from vmwarden.model.escalation import Escalation
from vmwarden.model.evidence import Evidence, Proof, Subject, Value
from vmwarden.model.hours import Interval, TimeRange
from vmwarden.model.message import MESSAGE_BYTES
from vmwarden.model.moment import Moment
from vmwarden.model.policy import Host, HostClause, Hours, Place, PlaceEntry, Policy
from vmwarden.model.posture import Posture
from vmwarden.rules import canonical
from vmwarden.rules.lease import milliseconds
from vmwarden.testing.claims import NOW, claim, guarding

BUDGET_US = 100.0
#: decisions a batch: two gatherings
BATCH = 24
TURNS_A_GATHERING = 12
#: more than rules.facts can remember, before they come again
GATHERINGS = 60
_SEED = 20261123
_STATED: dict[Subject, Value] = {
    Subject.HOST_ID: "rack-7",
    Subject.HOST_NAME: "rack-7.example",
    Subject.COUNTRY: "DE",
    Subject.CITY: "Berlin",
    Subject.POSTAL_CODE: "10115",
    Subject.TIME_ZONE: "Europe/Berlin",
    Subject.BUILDING: "B1",
    Subject.HYPERVISOR: "kvm",
    Subject.HYPERVISOR_VERSION: "7.2.9",
    Subject.COMPLIANCE: ("c5", "iso27001"),
}
_DECLARED: dict[Subject, Value] = {
    Subject.PLATFORM: "qemu",
    Subject.HYPERVISOR: "kvm",
    Subject.PRODUCT: "Standard PC",
    Subject.FIRMWARE: "SeaBIOS",
    Subject.RTC_OFFSET: 0,
}


def policy() -> Policy:
    """Five places, the first of which it is; three predicates on the host."""
    place = Place(
        any_of=(
            PlaceEntry(country="DE", postal_codes=("10*", "603*"), time_zones=("Europe/Berlin",)),
            PlaceEntry(country="NL"),
            PlaceEntry(country="FR", cities=("Paris",)),
            PlaceEntry(country="AT", postal_codes=("1010", "1020")),
            PlaceEntry(country="BE", time_zones=("Europe/Brussels",)),
        ),
        issued_within="24h",
    )
    host = Host(
        all_of=(
            HostClause(fact="host.hypervisor", in_=("kvm",)),
            HostClause(fact="host.compliance", contains="iso27001", proof="signed"),
            HostClause(fact="host.hypervisor_version", at_least="7.2", proof="signed"),
        )
    )
    times = (TimeRange(start_time="08:00", end_time="18:00"),)
    hours = Hours(open=(Interval(weekdays=("monday:friday",), times=times),), time_zone="Europe/Berlin")
    return guarding(place=place, host=host, hours=hours)


def evidence(now: Moment = NOW) -> tuple[Evidence, ...]:
    """A static and a fresh statement of one host, and what DMI says, gathered ten seconds before now."""
    static = [claim(subject, value, now=now) for subject, value in _STATED.items()]
    fresh = [claim(s, v, source="virtio-serial", proof=Proof.FRESH, now=now) for s, v in _STATED.items()]
    dmi = [
        claim(s, v, source="dmi", proof=Proof.DECLARED, lasts_ms=None, now=now) for s, v in _DECLARED.items()
    ]
    return (*static, *fresh, *dmi)


class _Turns:
    """A warden's turns, one after the other."""

    def __init__(self, a_gathering: int = TURNS_A_GATHERING) -> None:
        """a_gathering: decisions on the same evidence."""
        self._policy = policy()
        assert self._policy.hours is not None
        self._timetable = Tzdata().timetable(self._policy.hours)
        self._escalation = Escalation()
        starts = [_after(NOW, number * 20_000) for number in range(GATHERINGS)]
        gatherings = [(start, evidence(start)) for start in starts]
        self._moments = itertools.cycle(
            [
                (_after(start, tick * 1_600), pieces)
                for start, pieces in gatherings
                for tick in range(a_gathering)
            ]
        )

    def turn(self) -> int:
        """One decision; the lease that follows from it, milliseconds."""
        now, pieces = next(self._moments)
        decision, self._escalation = take_turn(
            self._policy,
            pieces,
            self._escalation,
            now=now,
            utc_ms=now.utc_ms,
            timetable=self._timetable,
            sources=3,
        )
        if decision.posture is not Posture.OPEN:
            raise RuntimeError(f"the benchmark's own policy does not open: {decision}")
        return milliseconds(decision, self._policy, now=now, uncertainty_ms=5)


def _after(moment: Moment, ms: int) -> Moment:
    return Moment(boot_ms=moment.boot_ms + ms, utc_ms=moment.utc_ms + ms, boot_id=moment.boot_id)


def run(rounds: int) -> list[Figure]:
    """A decision beside its budget, and in units of the baseline; and the first after a gathering."""
    turns, first, data = _Turns(), _Turns(a_gathering=1), canonical.encode(evidence())

    def read() -> object:
        return canonical.decode(data, tuple[Evidence, ...], limit=MESSAGE_BYTES, what="evidence")

    order = random.Random(_SEED)
    decisions, firsts, ratios = [], [], []
    for what in (turns.turn, first.turn, read):
        _batch_us(what)  # the first pass fills caches and specialises the bytecode
    for _ in range(rounds):
        pair: list[tuple[str, Callable[[], object]]] = [
            ("decide", turns.turn),
            ("first", first.turn),
            ("read", read),
        ]
        order.shuffle(pair)
        took = {name: _batch_us(what) for name, what in pair}
        decisions.append(took["decide"])
        firsts.append(took["first"])
        ratios.append(took["decide"] / took["read"])
    one, ratio = median_interval(decisions), median_interval(ratios)
    return [
        Figure(
            name="one decision",
            value=one.median,
            unit="us",
            budget=f"<= {BUDGET_US:.0f}",
            within=not one.misses_at_most(BUDGET_US),
            detail=f"{one} of CPU time, {rounds} rounds of {BATCH}; the least disturbed {min(decisions):.1f}",
        ),
        Figure(
            name="one decision, beside reading its evidence",
            value=ratio.median,
            unit="x",
            detail=f"{ratio}, {rounds} paired rounds",
        ),
        Figure(
            name="one decision, the first after a gathering",
            value=median_interval(firsts).median,
            unit="us",
            detail=f"{median_interval(firsts)} of CPU time, {rounds} rounds of {BATCH}",
        ),
    ]


def _batch_us(what: Callable[[], object]) -> float:
    """CPU time of this thread: nothing here waits, and what other processes take away is not ours."""
    began = time.thread_time_ns()
    for _ in range(BATCH):
        what()
    return (time.thread_time_ns() - began) / BATCH / 1000
