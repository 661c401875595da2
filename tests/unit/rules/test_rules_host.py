# SPDX-License-Identifier: Apache-2.0
from typing import Any

import msgspec
import pytest

from vmwarden.model.evidence import Evidence, Proof, Subject
from vmwarden.model.policy import Host, HostClause
from vmwarden.model.verdict import Answer, Verdict
from vmwarden.rules.facts import by_subject
from vmwarden.rules.fences.host import judge
from vmwarden.testing.claims import NOW, absent, claim


def look(*evidence: Evidence, **predicate: Any) -> Verdict:
    clause = Host(all_of=(HostClause(**predicate),))
    verdict = judge(clause, by_subject(evidence), now=NOW, utc_ms=NOW.utc_ms)
    assert verdict.fence == "host"
    return verdict


def ids(verdict: Verdict) -> set[str]:
    return {finding.id for finding in verdict.findings}


KVM = claim(Subject.HYPERVISOR, "kvm", proof=Proof.DECLARED, source="dmi", lasts_ms=None)
LABELS = claim(Subject.COMPLIANCE, ("c5", "iso27001"))


@pytest.mark.parametrize(
    ("evidence", "predicate", "answer", "finding"),
    [
        (KVM, {"equals": "kvm"}, Answer.ALLOW, "match"),
        (KVM, {"equals": "xen"}, Answer.DENY, "mismatch"),
        (KVM, {"equals": "KVM"}, Answer.DENY, "mismatch"),
        (KVM, {"in_": ("xen", "kvm")}, Answer.ALLOW, "match"),
        (KVM, {"in_": ("xen", "hyperv")}, Answer.DENY, "mismatch"),
        (KVM, {"equals": "kvm", "proof": "signed"}, Answer.UNKNOWN, "too-weak"),
        (KVM, {"contains": "kvm"}, Answer.UNKNOWN, "unfit"),
        (KVM, {"at_least": "8"}, Answer.UNKNOWN, "not-a-version"),
        (KVM, {}, Answer.UNKNOWN, "unfit"),
        (LABELS, {"contains": "c5"}, Answer.ALLOW, "match"),
        (LABELS, {"contains": ("c5", "iso27001")}, Answer.ALLOW, "match"),
        (LABELS, {"contains": ("c5", "soc2")}, Answer.DENY, "mismatch"),
        (LABELS, {"contains": ()}, Answer.UNKNOWN, "unfit"),
        (LABELS, {"equals": "c5"}, Answer.UNKNOWN, "unfit"),
        (LABELS, {"at_least": "5"}, Answer.UNKNOWN, "unfit"),
        (claim(Subject.HYPERVISOR_VERSION, "9.0"), {"at_least": "8.2"}, Answer.ALLOW, "match"),
        (claim(Subject.HYPERVISOR_VERSION, "7.2"), {"at_least": "8.2"}, Answer.DENY, "mismatch"),
        (claim(Subject.RTC_OFFSET, 0), {"equals": "0"}, Answer.ALLOW, "match"),
        (claim(Subject.RTC_OFFSET, 3600), {"equals": "0"}, Answer.DENY, "mismatch"),
        (claim(Subject.COUNTRY, "DE"), {"equals": "DE"}, Answer.ALLOW, "match"),
        (absent(Subject.SERIAL, "source.denied"), {"equals": "x"}, Answer.UNKNOWN, "unknown"),
    ],
)
def test_predicates(evidence: Evidence, predicate: dict[str, Any], answer: Answer, finding: str) -> None:
    verdict = look(evidence, fact=evidence.subject.value, **predicate)
    assert verdict.answer is answer
    assert f"{evidence.subject}.{finding}" in ids(verdict)
    assert (verdict.good_until_boot_ms is None) == (answer is not Answer.ALLOW)


def test_labels_that_only_some_name_are_contradicted() -> None:
    other = claim(Subject.COMPLIANCE, ("c5",), source="virtio-serial")
    verdict = look(LABELS, other, fact="host.compliance", contains="iso27001")
    assert verdict.answer is Answer.DENY
    assert ids(verdict) == {"host.compliance.contradicted"}
    assert verdict.findings[0].found == "c5, iso27001 (fw_cfg); c5 (virtio-serial)"
    assert look(LABELS, other, fact="host.compliance", contains="c5").answer is Answer.ALLOW
    none = look(LABELS, other, fact="host.compliance", contains="soc2")
    assert ids(none) == {"host.compliance.mismatch"}


def test_two_texts_contradict() -> None:
    xen = claim(Subject.HYPERVISOR, "xen", source="b")
    verdict = look(KVM, xen, fact="host.hypervisor", in_=("kvm", "xen"))
    assert verdict.answer is Answer.DENY
    assert ids(verdict) == {"host.hypervisor.contradicted"}
    assert look(KVM, xen, fact="host.hypervisor", equals="xen", proof="signed").answer is Answer.ALLOW


def test_all_of_is_an_and() -> None:
    kvm, version = HostClause(fact="host.hypervisor", equals="kvm"), claim(Subject.HYPERVISOR_VERSION, "9")
    newer = HostClause(fact="host.hypervisor_version", at_least="8")
    both = Host(all_of=(kvm, newer))

    def answer(*evidence: Evidence) -> Answer:
        return judge(both, by_subject(evidence), now=NOW, utc_ms=NOW.utc_ms).answer

    assert answer(KVM, version) is Answer.ALLOW
    assert answer(KVM) is Answer.UNKNOWN
    assert answer(KVM, claim(Subject.HYPERVISOR_VERSION, "7")) is Answer.DENY
    assert answer(claim(Subject.HYPERVISOR_VERSION, "7")) is Answer.DENY
    for short, long in ((KVM, version), (version, KVM)):
        first = msgspec.structs.replace(short, observed_boot_ms=NOW.boot_ms - 40_000)
        end = judge(both, by_subject((first, long)), now=NOW, utc_ms=NOW.utc_ms).good_until_boot_ms
        assert end == NOW.boot_ms + 20_000  # the first to be stale


def test_refused_statements_are_named() -> None:
    verdict = look(absent(Subject.STATEMENT, "statement.replayed"), fact="host.id", equals="a", proof="fresh")
    assert ids(verdict) == {"statement.replayed", "host.id.unknown"}


def test_a_number_that_python_cannot_write_is_no_value() -> None:
    verdict = look(claim(Subject.RTC_OFFSET, 10**5000), fact="clock.rtc_offset", equals="0")
    assert verdict.answer is Answer.UNKNOWN
    assert [f.found for f in verdict.findings if f.id == "evidence.unusable"] == ["a number of 16610 bits"]


def test_what_lint_refuses_is_never_an_allow() -> None:
    nowhere = look(KVM, fact="host.mood", equals="good")
    assert nowhere.answer is Answer.UNKNOWN
    assert ids(nowhere) == {"host.no-such-fact"}
    nothing = judge(Host(all_of=()), by_subject((KVM,)), now=NOW, utc_ms=NOW.utc_ms)
    assert nothing.answer is Answer.UNKNOWN
    assert ids(nothing) == {"host.no-clauses"}
