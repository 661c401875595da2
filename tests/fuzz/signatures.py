# SPDX-License-Identifier: Apache-2.0
"""Targets: keys and signatures of people, and the documents under them."""

import base64
from collections.abc import Sequence
from contextlib import suppress
from functools import cache

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.fuzz.engine import Target
from vmwarden.errors import UntrustedInput
from vmwarden.model.installed import PurgeOrder
from vmwarden.model.owners import OwnerKey
from vmwarden.model.signed import OWNERS_NAMESPACE, POLICY_NAMESPACE, SignedDocument
from vmwarden.rules import canonical, checkpoint, sshkey, sshsig, threshold, trust
from vmwarden.rules.delivery import rotate_owners
from vmwarden.rules.sshwire import mpint, string
from vmwarden.store.enrolment_file import read_owners
from vmwarden.testing.owners import owners, private_key, public_line, signed, signed_owners, signed_purge
from vmwarden.testing.state import NOW, OWNERS, VM, enrolled, file, policy

MESSAGE = b"what people sign"


@cache
def _people() -> tuple[sshsig.PrivateKey, ...]:
    return (
        private_key("ada"),
        ec.generate_private_key(ec.SECP256R1()),
        rsa.generate_private_key(65537, 2048),
    )


@cache
def _keys() -> tuple[sshkey.SshPublicKey, ...]:
    plain = tuple(sshkey.from_public_key(person.public_key()) for person in _people())
    raw = sshkey.from_blob(plain[0].blob).blob[-32:]
    token = string(sshkey.SK_ED25519.encode()) + string(raw) + string(b"ssh:")
    # a number that no two primes made
    prime = string(b"ssh-rsa") + string(mpint(3)) + string(mpint((1 << 2203) - 1))
    return (*plain, *(sshkey.from_blob(blob) for blob in (token, prime)))


def _key(data: bytes) -> None:
    key = sshkey.from_blob(data)
    if sshkey.parse(key.line) != key:
        raise AssertionError("a key does not survive its own line")
    if key.kind == sshkey.SK_ED25519:
        sshkey.application(key)
    try:
        sshsig.verify(_signature(key.blob), MESSAGE, POLICY_NAMESPACE)
    except UntrustedInput:
        return
    if key not in _keys():
        raise AssertionError("a changed key verifies an unchanged signature")


def _signature(blob: bytes) -> str:
    raw = string(b"ssh-ed25519") + string(bytes(64))
    return sshsig._armor(
        sshsig.MAGIC
        + (1).to_bytes(4, "big")
        + b"".join(string(part) for part in (blob, POLICY_NAMESPACE.encode(), b"", b"sha512", raw))
    )


def _line(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    for read in (sshkey.parse, checkpoint.key_of):
        try:
            read(text)
        except UntrustedInput:
            continue


@cache
def _signed() -> tuple[bytes, ...]:
    return tuple(sshsig.sign(person, MESSAGE, POLICY_NAMESPACE).encode() for person in _people())


def _sshsig(data: bytes) -> None:
    sshsig.verify(data.decode("utf-8", "replace"), MESSAGE, POLICY_NAMESPACE)
    # the lines may be broken elsewhere, the bytes may not differ
    if _unarmored(data) not in {_unarmored(one) for one in _signed()}:
        raise AssertionError("a changed signature verifies")


def _unarmored(armored: bytes) -> bytes:
    return base64.b64decode(b"".join(armored.strip().split(b"\n")[1:-1]))


def _inner(data: bytes) -> None:
    """The bytes within the armor."""
    _sshsig(sshsig._armor(data).encode())


def _inners() -> Sequence[bytes]:
    return [_unarmored(one) for one in _signed()]


def _document(data: bytes) -> None:
    document = trust.read_signed(data)
    keys = OWNERS.keys
    threshold.signers(document, keys, POLICY_NAMESPACE)
    trust.accept_policy(document, owners=OWNERS, vm=VM, floor=0, utc_ms=NOW.utc_ms)
    genuine = {canonical.decode(one, SignedDocument, limit=1 << 20, what="x").payload for one in _documents()}
    if document.payload not in genuine:
        raise AssertionError("a changed policy was accepted")


def _documents() -> Sequence[bytes]:
    will = policy(5, "enforce")
    return (
        file(will),
        file(will, "ada"),
        file(will, "ada", "bob", "cyd"),
        file(policy(6, "observe"), "eve", "mal"),
    )


_NEXT = owners("ada", "bob", "dan", version=2, policy_threshold=2, owners_threshold=2)


def _rotation(data: bytes) -> None:
    rotate_owners(enrolled(), data, now=NOW)
    if trust.read_signed(data).payload != canonical.encode(_NEXT).decode():
        raise AssertionError("changed owners were accepted")


def _rotations() -> Sequence[bytes]:
    stolen = owners("eve", version=2)
    return (
        signed_owners(_NEXT, "ada", "bob", "dan"),
        signed_owners(stolen, "eve"),
        signed_owners(_NEXT, "ada"),
    )


def _owners(data: bytes) -> None:
    with suppress(UntrustedInput):
        read_owners(data)  # as people write them, for vmwarden enrol
    found = trust.read_owners(data)
    threshold.signers(signed(found, ("ada",), OWNERS_NAMESPACE), found.keys, OWNERS_NAMESPACE)
    # what a rotation says of them in the journal
    canonical.encode([f"{key.name} {sshkey.parse(key.key).fingerprint}" for key in found.keys])


def _owner_files() -> Sequence[bytes]:
    lines = [key.line for key in _keys()]
    mixed = tuple(OwnerKey(name=f"p{n}", key=f"{line} somebody@desk") for n, line in enumerate(lines))
    people = owners("ada", "bob", "cyd", policy_threshold=2)
    return (
        canonical.encode(people),
        canonical.encode(owners("ada")),
        canonical.encode(type(people)(version=3, keys=mixed)),
    )


def _lines() -> Sequence[bytes]:
    own = private_key("ada").public_key()
    return [key.line.encode() for key in _keys()] + [
        checkpoint.verifier_key("vmwarden/a/journal", own).encode()
    ]


def _orders() -> Sequence[bytes]:
    order = PurgeOrder(vm=VM, generation=1, identity=sshkey.parse(public_line("identity")).fingerprint)
    return (canonical.encode(signed_purge(order, "ada", "bob")),)


def _order(data: bytes) -> None:
    from vmwarden.rules.delivery import purge

    purge(enrolled(), trust.read_signed(data))
    if trust.read_signed(data).payload != trust.read_signed(_orders()[0]).payload:
        raise AssertionError("a changed order was obeyed")


TARGETS = (
    Target(name="ssh-key", seeds=lambda: [key.blob for key in _keys()], run=_key, raises=(UntrustedInput,)),
    Target(name="ssh-key-line", seeds=_lines, run=_line, raises=(UntrustedInput,)),
    Target(name="ssh-signature", seeds=_signed, run=_sshsig, raises=(UntrustedInput,), counts=(800, 300_000)),
    Target(
        name="ssh-signature-inner", seeds=_inners, run=_inner, raises=(UntrustedInput,), counts=(800, 200_000)
    ),
    Target(
        name="signed-policy",
        seeds=_documents,
        run=_document,
        raises=(UntrustedInput,),
        form="json",
        counts=(150, 40_000),
    ),
    Target(
        name="owners-rotation",
        seeds=_rotations,
        run=_rotation,
        raises=(UntrustedInput,),
        form="json",
        counts=(200, 40_000),
    ),
    Target(
        name="owners-file",
        seeds=_owner_files,
        run=_owners,
        raises=(UntrustedInput,),
        form="json",
        counts=(300, 100_000),
    ),
    Target(
        name="purge-order",
        seeds=_orders,
        run=_order,
        raises=(UntrustedInput,),
        form="json",
        counts=(150, 30_000),
    ),
)
