# SPDX-License-Identifier: Apache-2.0
from vmwarden.model.evidence import Subject
from vmwarden.model.hours import Interval
from vmwarden.model.policy import Host, HostClause, Hours, Place, PlaceEntry
from vmwarden.model.verdict import Answer
from vmwarden.rules.judge import FENCES, clauses, judge
from vmwarden.testing.claims import NOW, claim, guarding

PLACE = Place(any_of=(PlaceEntry(country="DE"),))
HOST = Host(all_of=(HostClause(fact="host.hypervisor", equals="kvm"),))
HOURS = Hours(open=(Interval(),))


def test_one_verdict_for_each_fence_of_the_policy_that_is_judged_on_evidence() -> None:
    evidence = (claim(Subject.COUNTRY, "DE"), claim(Subject.HYPERVISOR, "xen"))
    verdicts = judge(guarding(place=PLACE, host=HOST, hours=HOURS), evidence, now=NOW, utc_ms=NOW.utc_ms)
    assert [(v.fence, v.answer) for v in verdicts] == [("place", Answer.ALLOW), ("host", Answer.DENY)]
    assert [v.fence for v in judge(guarding(host=HOST), evidence, now=NOW, utc_ms=None)] == ["host"]
    assert judge(guarding(hours=HOURS), evidence, now=NOW, utc_ms=None) == ()


def test_clauses_are_those_of_the_policy() -> None:
    assert clauses(guarding(host=HOST)) == (("host", HOST),)
    every = clauses(guarding(place=PLACE, host=HOST, hours=HOURS))
    assert tuple(name for name, _ in every) == FENCES
