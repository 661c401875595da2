# SPDX-License-Identifier: Apache-2.0
"""rules.threshold: people are counted, not signatures."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vmwarden.errors import BadSignature, Malformed
from vmwarden.model.owners import OwnerKey
from vmwarden.model.signed import SignedDocument
from vmwarden.rules import sshkey, sshsig, threshold

SPACE = "policy@vmwarden"
PRIVATE = {
    name: Ed25519PrivateKey.from_private_bytes(name[:1].encode() * 32)
    for name in ("anna", "ben", "cleo", "eve")
}


def _owner(name: str, of: str = "") -> OwnerKey:
    key = sshkey.from_public_key(PRIVATE[of or name].public_key())
    return OwnerKey(name=name, key=key.line + " comment")


OWNERS = (_owner("anna"), _owner("ben"), _owner("cleo"))


def _signed(*names: str, payload: str = "{}", space: str = SPACE) -> SignedDocument:
    signatures = tuple(sshsig.sign(PRIVATE[name], payload.encode(), space) for name in names)
    return SignedDocument(payload=payload, signatures=signatures)


def test_signers_are_named_in_the_order_of_the_owners() -> None:
    assert threshold.signers(_signed("cleo", "anna"), OWNERS, SPACE) == ("anna", "cleo")


def test_one_key_counts_once_however_often_it_signs() -> None:
    document = _signed("anna", "anna", "anna")
    assert threshold.signers(document, OWNERS, SPACE) == ("anna",)
    with pytest.raises(BadSignature, match="1 of 2 signatures missing"):
        threshold.require(document, OWNERS, 2, SPACE)


def test_one_key_counts_once_under_two_names() -> None:
    keys = (
        _owner("anna"),
        _owner("ben", of="anna"),
        OwnerKey(name="dora", key=_owner("anna").key + " other"),
    )
    assert threshold.signers(_signed("anna"), keys, SPACE) == ("anna",)


def test_strangers_other_namespaces_and_rubbish_are_ignored() -> None:
    document = SignedDocument(
        payload="{}",
        signatures=(
            "rubbish",
            *_signed("eve").signatures,
            *_signed("ben", space="owners@vmwarden").signatures,
            *_signed("cleo", payload="{ }").signatures,
            *_signed("anna").signatures,
        ),
    )
    assert threshold.signers(document, OWNERS, SPACE) == ("anna",)
    with pytest.raises(BadSignature) as caught:
        threshold.require(document, OWNERS, 2, SPACE)
    said = str(caught.value)
    assert "signed by anna" in said
    for reason in ("none of the keys", "owners@vmwarden", "did not sign this", "BEGIN"):
        assert reason in said
    assert "anna, ben, cleo" in caught.value.problems[0].mend


@pytest.mark.parametrize("wanted", [-1, 0, 1])
def test_nobody_is_never_enough(wanted: int) -> None:
    with pytest.raises(BadSignature, match="nobody"):
        threshold.require(_signed(), OWNERS, wanted, SPACE)


def test_enough_is_enough() -> None:
    assert threshold.require(_signed("ben", "anna"), OWNERS, 2, SPACE) == ("anna", "ben")


def test_only_so_many_signatures_are_looked_at() -> None:
    late = SignedDocument(payload="{}", signatures=("x",) * threshold.SIGNATURES + _signed("anna").signatures)
    assert threshold.signers(late, OWNERS, SPACE) == ()


def test_owners_that_are_no_keys_are_an_error_not_a_silence() -> None:
    with pytest.raises(Malformed):
        threshold.signers(_signed("anna"), (OwnerKey(name="anna", key="ssh-ed25519 AAAA"),), SPACE)


def test_a_payload_that_is_no_text_is_malformed() -> None:
    with pytest.raises(Malformed):
        threshold.signers(SignedDocument(payload="\ud800"), OWNERS, SPACE)
