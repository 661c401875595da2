# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of the journal: C2SP tlog-checkpoint in a C2SP signed note (c2sp.org/signed-note v1.0.0).

vmwarden/payments-1/journal
4711
<base64 of the root hash>

— vmwarden/payments-1/journal <base64 of 4 bytes key id and 64 bytes Ed25519 signature>
"""

import base64
import binascii
import re

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key

from vmwarden.errors import BadSignature, Malformed, TooLarge, UntrustedInput, WrongAudience
from vmwarden.model.journal import Checkpoint
from vmwarden.rules import tree
from vmwarden.rules.sha2 import sha256

#: signature type Ed25519 of the signed-note specification
_ED25519 = b"\x01"
#: a note with 16 post-quantum cosignatures of 5 kB, which the specification wants accepted, fits
NOTE_BYTES = 131_072
_SIZE = re.compile(r"0|[1-9][0-9]{0,15}")
_ORIGIN = re.compile(r"vmwarden/([a-z0-9][a-z0-9._-]{0,62})/journal(/[0-9a-f]{16})?")


def origin(vm: str, restart: str = "") -> str:
    """Name of the log of this VM.

    restart: 16 hex digits that set a log begun after a lost one apart.  A log must never sign two
    checkpoints that do not fit together, so the new one cannot keep the name.
    """
    return f"vmwarden/{vm}/journal" + (f"/{restart}" if restart else "")


def vm_of(name: str) -> str:
    """The VM in an origin.  Raises Malformed."""
    match = _ORIGIN.fullmatch(name)
    if match is None:
        raise Malformed(f"{name!r} is not the origin of a VM's journal")
    return match[1]


def key_line(public: Ed25519PublicKey) -> str:
    """OpenSSH public key line without comment."""
    return public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def key_of(text: str) -> Ed25519PublicKey:
    """The key in an OpenSSH line ("ssh-ed25519 AAAA…") or a note verifier key ("name+id+base64").

    Raises Malformed, also for keys that are not Ed25519.
    """
    text = text.strip()
    try:
        if text.startswith("ssh-"):
            public = load_ssh_public_key(text.encode())
            if isinstance(public, Ed25519PublicKey):
                return public
            raise Malformed("the key is not Ed25519", mend="give the VM's identity key")
        name, key_id, encoded = text.split("+", 2)
        raw = _base64(encoded)
        public = Ed25519PublicKey.from_public_bytes(raw[1:])
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Malformed(f"not a public key: {error}", mend="give an ssh-ed25519 line") from error
    if raw[:1] != _ED25519 or _key_id(name, public).hex() != key_id:
        raise Malformed("not a verifier key: its id does not fit its name and key")
    return public


def verifier_key(name: str, public: Ed25519PublicKey) -> str:
    """The form in which note verifiers (Go's sumdb/note and its kin) take a key."""
    encoded = base64.b64encode(_ED25519 + public.public_bytes_raw()).decode()
    return f"{name}+{_key_id(name, public).hex()}+{encoded}"


def sign(name: str, *, size: int, root: bytes, key: Ed25519PrivateKey) -> Checkpoint:
    """size leaves have this root, says key."""
    text = _text(name, size, root)
    note = _note(text, name, key.public_key(), key.sign(text.encode()))
    return Checkpoint(size=size, root=root.hex(), note=note)


def verify(note: str, *, key: Ed25519PublicKey, name: str) -> Checkpoint:
    """The checkpoint in a note, if key signed it for the log called name.

    Other people's signatures (witnesses) and extension lines are let be, as the specification asks.
    Raises TooLarge, Malformed, WrongAudience (another log), BadSignature.
    """
    found, size, root = _parts(note)
    if found != name:
        raise WrongAudience(f"checkpoint of the log {found[:200]!r}, not of {name!r}")
    text, _, signatures = note.rpartition("\n\n")
    _demand_signature(text + "\n", signatures, name=name, key=key)
    return Checkpoint(size=size, root=root.hex(), note=note)


def size_of(note: str) -> int:
    """Which size a note speaks of; nothing is verified.  Raises TooLarge, Malformed."""
    return _parts(note)[1]


def root_of(note: str) -> str:
    """Which root (hex) a note speaks of; nothing is verified.  Raises TooLarge, Malformed."""
    return _parts(note)[2].hex()


def verify_stored(note: str, *, key: Ed25519PublicKey, name: str) -> Checkpoint:
    """The same for a note of our own making: exactly three lines and one signature, no byte else."""
    checkpoint = verify(note, key=key, name=name)
    text = _text(name, checkpoint.size, bytes.fromhex(checkpoint.root))
    last = note.rstrip("\n").rpartition(" ")[2]
    try:
        signature = _base64(last)[4:]
    except ValueError as error:
        raise Malformed(f"the signature is not base64: {error}") from error
    if note != _note(text, name, key, signature):
        raise Malformed("a stored checkpoint has more than its three lines and its signature")
    return checkpoint


def is_signed(note: str, *, key: Ed25519PublicKey, name: str) -> bool:
    """Whether verify_stored would return."""
    try:
        verify_stored(note, key=key, name=name)
    except UntrustedInput:
        return False
    return True


def _parts(note: str) -> tuple[str, int, bytes]:
    """Origin, size and root.  Raises TooLarge, Malformed."""
    if len(note) > NOTE_BYTES:
        raise TooLarge(f"a checkpoint of {len(note)} bytes, at most {NOTE_BYTES} are read")
    text, separator, signatures = note.rpartition("\n\n")
    lines = text.split("\n")
    if not separator or not signatures.endswith("\n") or len(lines) < 3 or not all(lines):
        raise Malformed("not a signed checkpoint")
    if any(ord(c) < 0x20 and c != "\n" for c in note):
        raise Malformed("control characters in a checkpoint")
    if _SIZE.fullmatch(lines[1]) is None:
        raise Malformed(f"{lines[1][:40]!r} is not a tree size")
    try:
        root = _base64(lines[2])
    except ValueError as error:
        raise Malformed(f"the root hash is not base64: {error}") from error
    if len(root) != tree.HASH_BYTES:
        raise Malformed(f"the root hash has {len(root)} bytes, not {tree.HASH_BYTES}")
    return lines[0], int(lines[1]), root


def _demand_signature(text: str, signatures: str, *, name: str, key: Ed25519PublicKey) -> None:
    wanted = _key_id(name, key)
    found = False
    for line in signatures[:-1].split("\n"):
        dash, _, rest = line.partition(" ")
        signer, _, encoded = rest.partition(" ")
        try:
            raw = _base64(encoded)
        except ValueError as error:
            raise Malformed(f"not a signature line: {line[:80]!r}") from error
        if dash != "—" or not signer or len(raw) < 5:
            raise Malformed(f"not a signature line: {line[:80]!r}")
        if signer != name or raw[:4] != wanted:
            continue
        try:
            key.verify(raw[4:], text.encode())
        except InvalidSignature as error:
            raise BadSignature("the signature of the checkpoint does not fit it") from error
        found = True
    if not found:
        raise BadSignature("the checkpoint is not signed by the key that was asked for")


def _text(name: str, size: int, root: bytes) -> str:
    return f"{name}\n{size}\n{base64.b64encode(root).decode()}\n"


def _note(text: str, name: str, public: Ed25519PublicKey, signature: bytes) -> str:
    encoded = base64.b64encode(_key_id(name, public) + signature).decode()
    return f"{text}\n— {name} {encoded}\n"


def _key_id(name: str, public: Ed25519PublicKey) -> bytes:
    return sha256(name.encode() + b"\n" + _ED25519 + public.public_bytes_raw()).digest()[:4]


def _base64(text: str) -> bytes:
    """Strict: one text for one sequence of bytes.  Raises ValueError."""
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError(str(error)) from error
    if base64.b64encode(raw).decode() != text:
        raise ValueError("not the one base64 form")
    return raw
