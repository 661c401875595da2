# SPDX-License-Identifier: Apache-2.0
"""Signatures of people are put on a document one after the other, each on the same bytes."""

from pathlib import Path

from vmwarden.errors import BadSignature, CommandFailed, Malformed, TooLarge
from vmwarden.linux.process import run
from vmwarden.model.installed import PurgeOrder
from vmwarden.model.owners import Owners
from vmwarden.model.policy import Policy
from vmwarden.model.signed import OWNERS_NAMESPACE, POLICY_NAMESPACE, PURGE_NAMESPACE, SignedDocument
from vmwarden.rules import canonical, sshsig, threshold
from vmwarden.rules.sshkey import SshPublicKey
from vmwarden.rules.threshold import SIGNATURES
from vmwarden.rules.trust import POLICY_BYTES

#: somebody has to find and touch a security key, seconds
_TOUCH_S = 60.0

#: what people sign
Signable = Policy | Owners | PurgeOrder
#: the namespace in which a signature of it counts
_NAMESPACES: tuple[tuple[type[Signable], str], ...] = (
    (Policy, POLICY_NAMESPACE),
    (Owners, OWNERS_NAMESPACE),
    (PurgeOrder, PURGE_NAMESPACE),
)


def document_of(noun: Signable) -> SignedDocument:
    """A document that nobody has signed yet."""
    return SignedDocument(payload=canonical.encode(noun).decode("utf-8"))


def noun_of(document: SignedDocument) -> Signable:
    """What document says, whoever signed it.  Raises Malformed if it is nothing that people sign."""
    return _read(document)[0]


def namespace_of(document: SignedDocument) -> str:
    """The namespace for signatures of this document.  Raises as noun_of."""
    return _read(document)[1]


def _read(document: SignedDocument) -> tuple[Signable, str]:
    payload = threshold.signed_bytes(document)
    because: list[str] = []
    for kind, namespace in _NAMESPACES:
        try:
            noun = canonical.decode(payload, kind, limit=POLICY_BYTES, what=namespace.partition("@")[0])
        except (Malformed, TooLarge) as error:
            because.append(str(error))
            continue
        return noun, namespace
    raise Malformed(f"signed document: nothing that people sign ({'; '.join(because)})")


def attach(document: SignedDocument, armored: str) -> SignedDocument:
    """document with one more signature, in the place of an older one of the same key.

    Raises Malformed, BadSignature if armored is not a signature of exactly this document.
    """
    namespace, payload = namespace_of(document), threshold.signed_bytes(document)
    key = sshsig.verify(armored, payload, namespace)
    others = [old for old in document.signatures if _signer(old, payload, namespace) != key]
    if len(others) >= SIGNATURES:
        raise Malformed(f"signed document: has {len(others)} signatures already")
    return SignedDocument(payload=document.payload, signatures=(*others, armored))


def sign(document: SignedDocument, key: sshsig.PrivateKey) -> SignedDocument:
    """document with the signature of key.  Raises Malformed."""
    armored = sshsig.sign(key, threshold.signed_bytes(document), namespace_of(document))
    return attach(document, armored)


def sign_with_ssh_keygen(document: SignedDocument, key_file: Path, agent: str) -> SignedDocument:
    """document with a signature that ssh-keygen makes: of an agent or of a security key.

    key_file: a .pub file, or the file that stands for a security key.  agent: the agent's socket, or "".
    Raises CommandFailed (no such key in the agent, nobody touched the security key, OpenSSH too old),
    Malformed, BadSignature.
    """
    arguments = ["ssh-keygen", "-Y", "sign", "-f", str(key_file.resolve()), "-n", namespace_of(document)]
    # `env` hands over the one variable that ssh-keygen needs: run() lets nothing of ours through.
    environment = ["env", f"SSH_AUTH_SOCK={agent}"] if agent else []
    try:
        made = run([*environment, *arguments], timeout_s=_TOUCH_S, input=threshold.signed_bytes(document))
    except CommandFailed as error:
        mend = "is ssh-agent running, and the key in it (ssh-add -l)?" if not agent else error.mend
        raise CommandFailed(str(error), mend=mend) from error
    try:
        armored = made.stdout.decode("ascii")
    except UnicodeDecodeError as error:
        raise Malformed("ssh-keygen printed no signature") from error
    return attach(document, armored)


def keys_that_signed(document: SignedDocument) -> tuple[SshPublicKey, ...]:
    """Whoever signed, trusted or not, once each; what is no valid signature is left out."""
    namespace, payload = namespace_of(document), threshold.signed_bytes(document)
    keys = (_signer(armored, payload, namespace) for armored in document.signatures[:SIGNATURES])
    return tuple(dict.fromkeys(key for key in keys if key is not None))


def _signer(armored: str, payload: bytes, namespace: str) -> SshPublicKey | None:
    try:
        return sshsig.verify(armored, payload, namespace)
    except (Malformed, BadSignature):
        return None
