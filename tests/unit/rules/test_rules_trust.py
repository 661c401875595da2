# SPDX-License-Identifier: Apache-2.0
"""rules.trust: what a VM takes as its owner's will."""

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vmwarden.errors import BadSignature, Expired, Malformed, Rollback, TooLarge, WrongAudience
from vmwarden.model.owners import OwnerKey, Owners
from vmwarden.model.policy import Policy, Valid
from vmwarden.model.signed import OWNERS_NAMESPACE, POLICY_NAMESPACE, SignedDocument
from vmwarden.model.verdict import Answer
from vmwarden.rules import canonical, instant, sshkey, sshsig, trust

PRIVATE = {
    name: Ed25519PrivateKey.from_private_bytes(name[:1].encode() * 32)
    for name in ("anna", "ben", "cleo", "eve")
}
POLICY = Policy(
    format="vmwarden.policy/1",
    name="payments",
    version=7,
    vms=("payments-*",),
    valid=Valid(from_="2026-11-01T00:00Z", until="2027-11-01T00:00Z"),
    mode="observe",
)
WITHIN = instant.milliseconds("2026-12-01T00:00Z")
DAY = 86_400_000


def _key(name: str) -> OwnerKey:
    return OwnerKey(name=name, key=sshkey.from_public_key(PRIVATE[name].public_key()).line)


def _owners(*names: str, policy: int = 1, owners: int = 1, version: int = 1) -> Owners:
    keys = tuple(_key(name) for name in names)
    return Owners(version=version, keys=keys, policy_threshold=policy, owners_threshold=owners)


OWNERS = _owners("anna", "ben", policy=2, owners=2)


def _sign(payload: bytes, *names: str, space: str = POLICY_NAMESPACE) -> SignedDocument:
    signatures = tuple(sshsig.sign(PRIVATE[name], payload, space) for name in names)
    return SignedDocument(payload=payload.decode(), signatures=signatures)


def _signed(policy: Policy = POLICY) -> SignedDocument:
    return _sign(canonical.encode(policy), "anna", "ben")


def _accept(
    document: SignedDocument,
    *,
    vm: str = "payments-1",
    floor: int = 0,
    utc_ms: int | None = WITHIN,
    current: str | None = None,
) -> Policy:
    return trust.accept_policy(
        document, owners=OWNERS, vm=vm, floor=floor, utc_ms=utc_ms, current_payload=current
    )


def test_a_good_policy_is_taken() -> None:
    assert _accept(_signed()) == POLICY
    assert _accept(_signed(), utc_ms=None) == POLICY


@pytest.mark.parametrize("names", [(), ("anna",), ("anna", "anna"), ("anna", "eve"), ("eve", "cleo")])
def test_too_few_signers(names: tuple[str, ...]) -> None:
    document = _sign(canonical.encode(POLICY), *names)
    with pytest.raises(BadSignature):
        _accept(document)
    with pytest.raises(BadSignature):
        trust.reread_policy(document, owners=OWNERS, vm="payments-1")


def test_a_signature_for_owners_does_not_count_for_a_policy() -> None:
    with pytest.raises(BadSignature):
        _accept(_sign(canonical.encode(POLICY), "anna", "ben", space=OWNERS_NAMESPACE))


def test_nothing_is_read_before_it_is_signed() -> None:
    with pytest.raises(BadSignature):
        _accept(_sign(b"no policy at all", "anna"))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"no policy at all",
        canonical.encode(POLICY) + b"\n",
        canonical.encode(POLICY).replace(b'"version":7', b'"version":6,"version":7'),
        canonical.encode(POLICY).replace(b'"version":7', b'"colour":"red","version":7'),
        canonical.encode(POLICY).replace(b'"version":7', b'"version":"7"'),
        canonical.encode(POLICY).replace(b"payments-*", b"payments-\\u002a"),
    ],
)
def test_signed_bytes_have_to_be_the_one_canonical_policy(payload: bytes) -> None:
    with pytest.raises(Malformed):
        _accept(_sign(payload, "anna", "ben"))


def test_a_policy_beyond_the_bound_is_not_read() -> None:
    with pytest.raises(TooLarge):
        _accept(_sign(b" " * (trust.POLICY_BYTES + 1), "anna", "ben"))


@pytest.mark.parametrize("vm", ["other-1", "payments", "xpayments-1", ""])
def test_another_vms_policy(vm: str) -> None:
    with pytest.raises(WrongAudience, match=r"payments-\*"):
        _accept(_signed(), vm=vm)
    with pytest.raises(WrongAudience):
        trust.reread_policy(_signed(), owners=OWNERS, vm=vm)


def test_the_period_is_half_open() -> None:
    start, end = instant.milliseconds(POLICY.valid.from_), instant.milliseconds(POLICY.valid.until)
    assert _accept(_signed(), utc_ms=start)
    assert _accept(_signed(), utc_ms=end - 1)
    with pytest.raises(Expired, match="from 2026"):
        _accept(_signed(), utc_ms=start - 1)
    with pytest.raises(Expired, match="until 2027"):
        _accept(_signed(), utc_ms=end)
    assert trust.reread_policy(_signed(), owners=OWNERS, vm="payments-1") == POLICY


def test_versions_never_go_down() -> None:
    assert _accept(_signed(), floor=6)
    with pytest.raises(Rollback, match="already seen 8"):
        _accept(_signed(), floor=8)


def test_the_same_version_only_with_the_same_payload() -> None:
    document = _signed()
    assert _accept(document, floor=7, current=document.payload)
    other = msgspec.structs.replace(POLICY, mode="enforce")
    for current in (canonical.encode(other).decode(), None):
        with pytest.raises(Rollback, match="other content"):
            _accept(document, floor=7, current=current)


def test_what_lint_refuses_the_vm_refuses_too() -> None:
    broken = msgspec.structs.replace(
        POLICY, valid=Valid(from_="2026-11-01T00:00Z", until="2026-13-01T00:00Z"), vms=("payments-*",)
    )
    with pytest.raises(Malformed) as caught:
        _accept(_signed(broken))
    assert caught.value.problems[0].path == "valid.until"
    assert trust.reread_policy(_signed(broken), owners=OWNERS, vm="payments-1") == broken


@pytest.mark.parametrize(
    ("before_the_end", "finding"),
    [
        (31 * DAY, None),
        (30 * DAY, "policy.expires.month"),
        (8 * DAY, "policy.expires.month"),
        (7 * DAY, "policy.expires.week"),
        (DAY, "policy.expires.day"),
        (1, "policy.expires.day"),
        (0, "policy.expired"),
        (-400 * DAY, "policy.expired"),
        (366 * DAY, "policy.early"),
    ],
)
def test_a_policy_says_how_near_its_end_is(before_the_end: int, finding: str | None) -> None:
    found = trust.policy_findings(POLICY, instant.milliseconds(POLICY.valid.until) - before_the_end)
    assert [f.id for f in found] == ([finding] if finding else [])
    assert all(f.answer is Answer.ALLOW for f in found)


def test_without_time_the_period_cannot_be_judged_and_that_is_said() -> None:
    assert [f.id for f in trust.policy_findings(POLICY, None)] == ["policy.time-unknown"]


def _successor(*names: str, version: int = 2, by: tuple[str, ...]) -> SignedDocument:
    owners = _owners(*names, policy=2, owners=2, version=version)
    return _sign(canonical.encode(owners), *by, space=OWNERS_NAMESPACE)


def test_a_successor_is_signed_by_the_old_and_by_the_new() -> None:
    document = _successor("anna", "cleo", by=("anna", "ben", "cleo"))
    assert trust.accept_owners(document, current=OWNERS).keys == (_key("anna"), _key("cleo"))
    with pytest.raises(BadSignature, match="the owners in force"):
        trust.accept_owners(_successor("anna", "cleo", by=("anna", "cleo")), current=OWNERS)
    with pytest.raises(BadSignature, match="the new owners"):
        trust.accept_owners(_successor("anna", "cleo", by=("anna", "ben")), current=OWNERS)


@pytest.mark.parametrize(("version", "error"), [(1, Rollback), (3, Malformed)])
def test_a_successor_follows_at_once(version: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        trust.accept_owners(_successor("anna", "ben", version=version, by=("anna", "ben")), current=OWNERS)


@pytest.mark.parametrize(
    ("owners", "path"),
    [
        (_owners("anna", policy=2), "policy_threshold"),
        (_owners("anna", owners=2), "owners_threshold"),
        (Owners(version=1, keys=(_key("anna"), _key("anna"))), "keys.1.name"),
        (Owners(version=1, keys=(_key("anna"), OwnerKey(name="ben", key=_key("anna").key))), "keys.1.key"),
        (Owners(version=1, keys=(OwnerKey(name="ben", key="ssh-ed25519 AAAA"),)), "keys.0.key"),
    ],
)
def test_owners_that_can_never_be_satisfied_are_refused(owners: Owners, path: str) -> None:
    with pytest.raises(Malformed) as caught:
        trust.read_owners(canonical.encode(owners))
    assert path in [problem.path for problem in caught.value.problems]


def test_files_of_owners_and_documents_are_read_back() -> None:
    assert trust.read_owners(canonical.encode(OWNERS)) == OWNERS
    document = _signed()
    assert trust.read_signed(canonical.encode(document)) == document


@pytest.mark.parametrize(
    ("pattern", "vm", "answer"),
    [
        ("a", "a", True),
        ("a", "ab", False),
        ("*", "", True),
        ("*", "anything", True),
        ("a*", "a", True),
        ("a*", "ba", False),
        ("*a", "ba", True),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("a*b*c", "abc", True),
        ("a*b*c", "axxbyyc", True),
        ("a*b*c", "acb", False),
        ("a*bc*c", "abc", False),
        ("a.c", "abc", False),
        ("**", "x", True),
        ("*a*a*a*a*a*a*a*b", "a" * 60, False),
    ],
)
def test_only_the_star_is_special_in_a_pattern(pattern: str, vm: str, answer: bool) -> None:
    assert trust.matches(pattern, vm) is answer
