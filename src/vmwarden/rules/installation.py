# SPDX-License-Identifier: Apache-2.0
"""What the files of the state add up to: a total function, for any bytes in any of them.

It never loosens: once a confirmed enforce policy has been in force, only an observe policy that the owner
signed and that was delivered (vmwarden.rules.delivery), or a purge, makes the outcome observe again.
"""

from collections.abc import Mapping
from typing import Generic, TypeVar

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from vmwarden.errors import BadSignature, Malformed, UntrustedInput, WrongAudience
from vmwarden.model.enrolment import Enrolment
from vmwarden.model.installed import Armed, Cell, Floors, Installed, Outcome, Pending, Slot, Unreadable
from vmwarden.model.owners import Owners
from vmwarden.model.policy import Policy
from vmwarden.model.signed import POLICY_NAMESPACE, SignedDocument
from vmwarden.model.verdict import Answer, Finding
from vmwarden.rules import canonical, sshkey, threshold, trust
from vmwarden.rules.sha2 import sha256

Cells = Mapping[Slot, Cell]
T = TypeVar("T")

#: bound on enrolment, pending, latch and floors, bytes: the largest is below 4 kB
NOTE_BYTES = 1 << 16
#: digest of something that is there and cannot be read: equal to no SHA-256
_NO_DIGEST = "unreadable"


class Read(msgspec.Struct, Generic[T], frozen=True):
    """A file as a noun; value None: finding says missing or unreadable, why says why."""

    value: T | None = None
    finding: str = ""
    why: str = ""


class Weighed(msgspec.Struct, frozen=True):
    """A signed policy as it lies on disk.

    digest: SHA-256 of the file; None = no file.  policy: None unless signed by enough owners, for this VM,
    in canonical form; finding and why say what was wrong with it ("" = nobody could tell: no owners).
    """

    digest: str | None = None
    document: SignedDocument | None = None
    policy: Policy | None = None
    finding: str = ""
    why: str = ""

    @property
    def payload_digest(self) -> str:
        return digest(self.document.payload.encode()) if self.policy and self.document else ""


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """Every file as a noun."""

    enrolment: Read[Enrolment]
    owners: Read[Owners]
    floors: Read[Floors]
    pending: Read[Pending]
    latch: Read[Armed]
    current: Weighed
    previous: Weighed
    identity: Cell
    latched: bool
    rules_on_disk: bool


def digest(data: bytes) -> str:
    """Hex SHA-256."""
    return sha256(data).hexdigest()


def look(cells: Cells) -> Sight:
    """Read everything.  Never raises."""
    enrolment = _note(cells, Slot.ENROLMENT, Enrolment)
    owners = _owners(cells)
    return Sight(
        enrolment=enrolment,
        owners=owners,
        floors=_note(cells, Slot.FLOORS, Floors),
        pending=_note(cells, Slot.PENDING, Pending),
        latch=_note(cells, Slot.ARMED, Armed),
        current=weigh(cells.get(Slot.POLICY), owners=owners.value, enrolment=enrolment.value),
        previous=weigh(cells.get(Slot.PREVIOUS), owners=owners.value, enrolment=enrolment.value),
        identity=cells.get(Slot.IDENTITY),
        latched=cells.get(Slot.ARMED) is not None,
        rules_on_disk=cells.get(Slot.CLOSED) is not None,
    )


def weigh(cell: Cell, *, owners: Owners | None, enrolment: Enrolment | None) -> Weighed:
    """Verify a signed policy.  Its period and version are not judged here.  Never raises."""
    if cell is None:
        return Weighed(finding="policy.missing", why="no policy on disk")
    if isinstance(cell, Unreadable):
        return Weighed(digest=_NO_DIGEST, finding="policy.unreadable", why=cell.why)
    seen = digest(cell)
    try:
        document = trust.read_signed(cell)
    except UntrustedInput as error:
        return Weighed(digest=seen, finding="policy.unreadable", why=str(error))
    if owners is None or enrolment is None:
        return Weighed(digest=seen, document=document)
    try:
        policy = trust.reread_policy(document, owners=owners, vm=enrolment.vm)
    except BadSignature as error:
        signed = threshold.signers(document, owners.keys, POLICY_NAMESPACE)
        finding = "policy.too-few-signatures" if signed else "policy.bad-signature"
        return Weighed(digest=seen, document=document, finding=finding, why=str(error))
    except WrongAudience as error:
        return Weighed(digest=seen, document=document, finding="policy.other-vm", why=str(error))
    except UntrustedInput as error:
        return Weighed(digest=seen, document=document, finding="policy.unreadable", why=str(error))
    return Weighed(digest=seen, document=document, policy=policy)


def accounted(weighed: Weighed, floors: Floors | None) -> bool:
    """Whether this is the policy that was confirmed last."""
    return (
        floors is not None and weighed.policy is not None and weighed.payload_digest == floors.policy_sha256
    )


def armed(sight: Sight) -> bool:
    """A confirmed enforce policy has been in force.

    The floors remember it besides the latch, and where they are lost the boot ruleset does, which only an
    armed VM has: so that two lost files disarm nothing.
    """
    if sight.latched:
        return True
    return sight.rules_on_disk if sight.floors.value is None else sight.floors.value.enforcing


def judge(cells: Cells) -> Installed:
    """The outcome for a settled state (vmwarden.rules.delivery.settle).  Never raises."""
    sight = look(cells)
    pending = sight.pending.value
    on_trial = pending is not None and pending.document == sight.current.digest
    is_armed = armed(sight)
    # a trial of an enforce policy is guarded like an armed VM: damage during it must not open
    guarded = is_armed or (pending is not None and pending.mode == "enforce")
    notes = _notes(sight, guarded=guarded, is_armed=is_armed)
    seen = Installed(
        outcome=Outcome.OBSERVE,
        enrolment=sight.enrolment.value,
        owners=sight.owners.value,
        armed=is_armed,
        pending=pending if on_trial and pending is not None and pending.state == "trial" else None,
        floors=sight.floors.value,
        findings=notes,
    )
    refusal = _refusal(sight, on_trial=on_trial, guarded=guarded, is_armed=is_armed)
    if refusal is not None:
        because = _finding(refusal[0], Answer.DENY if guarded else Answer.UNKNOWN, refusal[1])
        outcome = Outcome.CLOSED if guarded else Outcome.OBSERVE
        return msgspec.structs.replace(seen, outcome=outcome, findings=(because, *notes))
    policy, document = sight.current.policy, sight.current.document
    if policy is None or document is None:
        return seen
    confirmed = accounted(sight.current, sight.floors.value)
    if not confirmed and not on_trial:
        notes += (
            _finding("policy.unapplied", Answer.UNKNOWN, "the policy on disk did not come by vmwarden apply"),
        )
    return msgspec.structs.replace(
        seen,
        outcome=Outcome.ENFORCE if policy.mode == "enforce" else Outcome.OBSERVE,
        policy=policy,
        payload=document.payload,
        confirmed=confirmed,
        findings=notes,
    )


def _refusal(sight: Sight, *, on_trial: bool, guarded: bool, is_armed: bool) -> tuple[str, str] | None:
    """(finding, why) where no policy may be in force; None also where none is expected."""
    enrolment, owners, floors = sight.enrolment, sight.owners, sight.floors
    if enrolment.value is None:
        absent = enrolment.finding == "enrolment.missing"
        return None if absent and not guarded else (enrolment.finding, enrolment.why)
    if owners.value is None:
        return owners.finding, owners.why
    if floors.value is not None and owners.value.version < floors.value.owners_version:
        return (
            "owners.rolled-back",
            f"owners have version {owners.value.version}, this VM has seen {floors.value.owners_version}",
        )
    if is_armed and floors.value is None:
        return floors.finding, floors.why
    current, policy = sight.current, sight.current.policy
    if policy is None:
        expected = guarded or current.digest is not None
        return (current.finding, current.why) if expected else None
    if floors.value is not None:
        floor = floors.value.policy_version
        if policy.version < floor:
            return "policy.rolled-back", f"version {policy.version}, this VM has seen {floor}"
        if policy.version == floor and not accounted(current, floors.value):
            return "policy.replaced", f"version {floor} with other content than the one confirmed"
    if policy.mode == "observe" and is_armed and not on_trial and not accounted(current, floors.value):
        return "policy.unapplied", "an observe policy that did not come by vmwarden apply, on an armed VM"
    return None


def _notes(sight: Sight, *, guarded: bool, is_armed: bool) -> tuple[Finding, ...]:
    """What is worth knowing whatever the outcome."""
    found: list[Finding] = []
    if sight.enrolment.finding == "enrolment.missing" and not guarded:
        return (
            _finding("enrolment.none", Answer.ALLOW, "this VM is not enrolled: it observes, touches nothing"),
        )
    if sight.enrolment.value is not None and sight.current.digest is None and not guarded:
        found.append(_finding("policy.none", Answer.ALLOW, "no policy has been applied"))
    if sight.pending.finding == "pending.unreadable":
        found.append(_finding("pending.unreadable", Answer.UNKNOWN, sight.pending.why))
    if sight.floors.value is None and not is_armed:
        found.append(_finding(sight.floors.finding, Answer.UNKNOWN, sight.floors.why))
    if is_armed and not sight.latched:
        found.append(_finding("latch.missing", Answer.UNKNOWN, "armed by the others, the latch is gone"))
    if sight.latch.finding == "latch.unreadable":
        found.append(_finding("latch.unreadable", Answer.UNKNOWN, sight.latch.why))
    if is_armed and not sight.rules_on_disk:
        found.append(_finding("closed-rules.missing", Answer.UNKNOWN, "no closed ruleset for the next boot"))
    if sight.enrolment.value is not None:
        found.extend(_identity(sight.identity, sight.enrolment.value))
    return tuple(found)


def _identity(cell: Cell, enrolment: Enrolment) -> tuple[Finding, ...]:
    """The key signs the journal and nothing else: without it the VM is guarded all the same, and says so."""
    if cell is None:
        return (_finding("identity.missing", Answer.UNKNOWN, "no identity key: the journal is not signed"),)
    if isinstance(cell, Unreadable):
        return (_finding("identity.unreadable", Answer.UNKNOWN, cell.why),)
    try:
        line = identity_line(cell)
    except Malformed as error:
        return (_finding("identity.unreadable", Answer.UNKNOWN, str(error)),)
    if line != enrolment.key:
        return (_finding("identity.mismatch", Answer.UNKNOWN, "the key is not the one enrolled"),)
    return ()


def identity_line(data: bytes) -> str:
    """Public key line of the private Ed25519 key in OpenSSH's form.  Raises Malformed."""
    try:
        key = load_ssh_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Malformed(f"identity key: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise Malformed("identity key: not Ed25519")
    return sshkey.from_public_key(key.public_key()).line


_NAMES = {
    Slot.ENROLMENT: "enrolment",
    Slot.FLOORS: "floors",
    Slot.PENDING: "pending",
    Slot.ARMED: "latch",
}


def _note(cells: Cells, slot: Slot, kind: type[T]) -> Read[T]:
    name = _NAMES[slot]
    cell = cells.get(slot)
    if cell is None:
        return Read(finding=f"{name}.missing", why="not on disk")
    if isinstance(cell, Unreadable):
        return Read(finding=f"{name}.unreadable", why=cell.why)
    try:
        return Read(value=canonical.decode(cell, kind, limit=NOTE_BYTES, what=name))
    except UntrustedInput as error:
        return Read(finding=f"{name}.unreadable", why=str(error))


def _owners(cells: Cells) -> Read[Owners]:
    cell = cells.get(Slot.OWNERS)
    if cell is None:
        return Read(finding="owners.missing", why="not on disk")
    if isinstance(cell, Unreadable):
        return Read(finding="owners.unreadable", why=cell.why)
    try:
        return Read(value=trust.read_owners(cell))
    except UntrustedInput as error:
        return Read(finding="owners.unreadable", why=str(error))


def _finding(finding_id: str, answer: Answer, why: str) -> Finding:
    return Finding(id=finding_id, answer=answer, subject=finding_id.split(".")[0], found=why)
