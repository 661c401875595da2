# SPDX-License-Identifier: Apache-2.0
"""How the owner's will gets onto the disk: plans of single atomic steps that can be cut off anywhere.

pending.json is the undo, on disk before the act.  Whatever steps have been carried out, `settle` of what
lies there gives either the state before or the state after; it is part of every reading
(vmwarden.store.installed), so that even a disk that takes no writes reverts a trial that is over.
"""

from collections.abc import Callable

import msgspec

from vmwarden.errors import (
    BadSignature,
    Malformed,
    UntrustedInput,
    UsageError,
    WorldError,
    WrongAudience,
)
from vmwarden.model.installed import (
    Armed,
    Cell,
    Change,
    Drop,
    Floors,
    Pending,
    PurgeOrder,
    Put,
    Session,
    Slot,
    Step,
)
from vmwarden.model.moment import Moment
from vmwarden.model.owners import Owners
from vmwarden.model.policy import Policy
from vmwarden.model.signed import PURGE_NAMESPACE, SignedDocument
from vmwarden.rules import canonical, sshkey, threshold, trust
from vmwarden.rules.installation import (
    NOTE_BYTES,
    Cells,
    Sight,
    accounted,
    armed,
    digest,
    look,
)

#: what a trial may take: shorter cannot be confirmed by a person, longer is no trial (milliseconds)
TRIAL_MS = (5_000, 86_400_000)
#: nft text of the closed ruleset of a policy, for the next boot; raises WardenError where it has none
ClosedRules = Callable[[Policy], str]


class Plan(msgspec.Struct, frozen=True):
    """steps to carry out in order, cells as they are afterwards, and what it amounts to."""

    steps: tuple[Step, ...]
    cells: Cells
    changes: tuple[Change, ...]


class _Draft:
    """A plan in the making: what has been decided so far, and the state as it would then be."""

    def __init__(self, cells: Cells) -> None:
        self.cells: dict[Slot, Cell] = dict(cells)
        self.steps: list[Step] = []
        self.changes: list[Change] = []

    def put(self, slot: Slot, data: bytes) -> None:
        if self.cells.get(slot) != data:
            self.steps.append(Put(slot, data))
            self.cells[slot] = data

    def drop(self, slot: Slot) -> None:
        if self.cells.get(slot) is not None:
            self.steps.append(Drop(slot))
            self.cells[slot] = None

    def tell(self, kind: str, **body: object) -> None:
        self.changes.append(Change(kind, body))

    def add(self, plan: Plan) -> None:
        self.cells = dict(plan.cells)
        self.steps += plan.steps
        self.changes += plan.changes

    def done(self) -> Plan:
        return Plan(tuple(self.steps), self.cells, tuple(self.changes))


def due(pending: Pending, now: Moment) -> bool:
    """Whether a trial is over: its time is up, or the boot in which it began is."""
    return (
        now.boot_id != pending.boot_id
        or now.boot_ms >= pending.deadline_boot_ms
        or now.boot_ms < pending.applied_boot_ms
    )


def settle(cells: Cells, now: Moment, *, closed_rules: ClosedRules) -> Plan:
    """Finish what was begun, revert what is over, repair what is known twice.

    Raises only what closed_rules raises.  Settling what is settled gives an empty plan.
    """
    draft = _Draft(cells)
    sight = look(cells)
    pending = sight.pending.value
    if pending is not None:
        _settle_pending(draft, sight, pending, now, closed_rules)
    if draft.steps:
        sight = look(draft.cells)
    if sight.pending.value is None:
        _restore(draft, sight)
    _repair(draft, look(draft.cells) if draft.steps else sight, closed_rules)
    return draft.done()


def apply_policy(
    cells: Cells,
    data: bytes,
    *,
    now: Moment,
    utc_ms: int | None,
    within_ms: int | None,
    session: Session,
    closed_rules: ClosedRules,
) -> Plan:
    """Install the signed policy in data; cells are settled.

    utc_ms: the best known time, None = unknown.  within_ms: it reverts unless confirmed so soon; None =
    confirmed at once.  session: of whoever applies it.
    Raises what trust.accept_policy raises, UsageError (not enrolled, no such trial), WorldError (another
    trial runs), and what closed_rules raises; then there is no plan.
    """
    sight = look(cells)
    owners, vm = _enrolled(sight)
    _no_trial(sight, now)
    least, most = TRIAL_MS
    if within_ms is not None and not least <= within_ms <= most:
        raise UsageError("--confirm-within takes 5s to 24h")
    document = trust.read_signed(data)
    policy = _accept(sight, document, owners=owners, vm=vm, utc_ms=utc_ms)
    if policy.mode == "enforce":
        closed_rules(policy)  # if it has none, say so before anything is changed
    draft = _Draft(cells)
    if digest(data) == sight.current.digest and accounted(sight.current, sight.floors.value):
        return draft.done()
    if sight.floors.value is None:
        version, seen = _floor(sight)
        floors = Floors(
            policy_version=version,
            policy_sha256=seen,
            enforcing=armed(sight),
            owners_version=owners.version,
        )
        draft.put(Slot.FLOORS, canonical.encode(floors))
        draft.tell("floors.recovered", version=version, why=sight.floors.why)
    before = cells.get(Slot.POLICY)
    if isinstance(before, bytes):
        draft.put(Slot.PREVIOUS, before)
    else:
        draft.drop(Slot.PREVIOUS)
    pending = Pending(
        state="trial" if within_ms is not None else "confirmed",
        document=digest(data),
        previous=digest(before) if isinstance(before, bytes) else None,
        name=policy.name,
        version=policy.version,
        mode=policy.mode,
        boot_id=now.boot_id,
        applied_boot_ms=now.boot_ms,
        applied_utc_ms=now.utc_ms,
        deadline_boot_ms=now.boot_ms + (within_ms or 0),
        session=session,
    )
    draft.put(Slot.PENDING, canonical.encode(pending))
    draft.put(Slot.POLICY, data)
    draft.tell("policy.applied", **_title(pending), within_ms=within_ms)
    if within_ms is None:
        draft.add(settle(draft.cells, now, closed_rules=closed_rules))
    return draft.done()


def confirm(cells: Cells, *, now: Moment, session: Session, closed_rules: ClosedRules) -> Plan:
    """End the trial that runs: its policy stays; cells are settled.

    Raises UsageError if nothing is on trial or session is the connection that applied it, UntrustedInput
    if what is on trial cannot be read any more, and what closed_rules raises.
    """
    sight = look(cells)
    pending = sight.pending.value
    if pending is None or pending.document != sight.current.digest:
        raise UsageError("nothing waits for confirmation")
    same = same_connection(pending, session)
    if same:
        raise UsageError(
            f"{same}; log in anew and run vmwarden confirm there: only that shows that you still can"
        )
    policy = sight.current.policy
    if policy is None:
        raise Malformed(f"the policy on trial cannot be confirmed: {sight.current.why}")
    if policy.mode == "enforce":
        closed_rules(policy)
    draft = _Draft(cells)
    draft.put(Slot.PENDING, canonical.encode(msgspec.structs.replace(pending, state="confirmed")))
    draft.add(settle(draft.cells, now, closed_rules=closed_rules))
    return draft.done()


def revert(cells: Cells) -> Plan:
    """End the trial that runs: back to what was before.  Raises UsageError if nothing is on trial."""
    sight = look(cells)
    pending = sight.pending.value
    if pending is None:
        raise UsageError("nothing is on trial")
    draft = _Draft(cells)
    _revert(draft, pending, why="asked for")
    return draft.done()


def rotate_owners(cells: Cells, data: bytes, *, now: Moment) -> Plan:
    """Put the successor of the owners in place; cells are settled.

    Raises what trust.accept_owners raises, BadSignature if the policy in force would lose its signatures
    by it, UsageError, WorldError.
    """
    sight = look(cells)
    owners, vm = _enrolled(sight)
    _no_trial(sight, now)
    successor = trust.accept_owners(trust.read_signed(data), current=owners)
    in_force = sight.current
    if in_force.policy is not None and in_force.document is not None:
        try:
            trust.reread_policy(in_force.document, owners=successor, vm=vm)
        except BadSignature as error:
            raise BadSignature(
                f"the policy in force is not signed by the new owners: {error}",
                mend="add their signatures to it, apply it again, then rotate",
            ) from error
    draft = _Draft(cells)
    draft.put(Slot.OWNERS, canonical.encode(successor))
    if sight.floors.value is not None:
        _note_owners(draft, sight.floors.value, successor)
    draft.tell(
        "owners.rotated",
        version=successor.version,
        keys=[f"{key.name} {sshkey.parse(key.key).fingerprint}" for key in successor.keys],
    )
    return draft.done()


def purge(cells: Cells, document: SignedDocument) -> Plan:
    """Forget enrolment, policy and latch, as the owners ordered.  The journal stays.

    The latch goes when nothing else says armed any more; enrolment and owners go last and not at all, so
    that an interrupted purge can be repeated with the same order.
    Raises BadSignature, Malformed, WrongAudience, UsageError.
    """
    sight = look(cells)
    owners = sight.owners.value
    if owners is None:
        raise Malformed(
            f"owners.json: {sight.owners.why}", mend="put the owners' file back; the order is checked by it"
        )
    most = max(owners.policy_threshold, owners.owners_threshold)
    threshold.require(document, owners.keys, most, PURGE_NAMESPACE)
    order = canonical.decode(
        threshold.signed_bytes(document), PurgeOrder, limit=NOTE_BYTES, what="purge order"
    )
    expected = purge_order(cells)
    if order != expected:
        raise WrongAudience(
            f"the order is for {_life(order)}, this is {_life(expected)}",
            mend="sign what vmwarden purge --request prints on this VM",
        )
    draft = _Draft(cells)
    for slot in (
        Slot.PENDING,
        Slot.PREVIOUS,
        Slot.FLOORS,
        Slot.POLICY,
        Slot.CLOSED,
        Slot.ARMED,
        Slot.INCIDENTS,
        Slot.IDENTITY,
        Slot.ENROLMENT,
    ):
        draft.drop(slot)
    draft.tell("vm.purged", vm=order.vm, generation=order.generation, identity=order.identity)
    return draft.done()


def purge_order(cells: Cells) -> PurgeOrder:
    """What the owners of this VM sign to purge it.  Raises UsageError if it is not enrolled."""
    enrolment = look(cells).enrolment
    if enrolment.value is None:
        raise UsageError(f"there is no enrolment to purge: {enrolment.why}")
    key = sshkey.parse(enrolment.value.key)
    return PurgeOrder(vm=enrolment.value.vm, generation=enrolment.value.generation, identity=key.fingerprint)


def same_connection(pending: Pending, session: Session) -> str:
    """Why session cannot show that the owner still gets in; "" if it can, or if nobody can tell.

    Not found out: a terminal multiplexer that carries an old connection's name, and a process that left
    its session.  This guards against a mistake, not against root.
    """
    applier = pending.session
    if applier.ssh and applier.ssh == session.ssh:
        return "this is the SSH connection over which the policy was applied"
    if set(applier.terminals) & set(session.terminals):
        return "this is the terminal session in which the policy was applied"
    known = session.ssh or session.terminals
    if known and session.opened_boot_ms is not None and session.opened_boot_ms < pending.applied_boot_ms:
        return "this connection is older than the application of the policy"
    return ""


def _settle_pending(
    draft: _Draft, sight: Sight, pending: Pending, now: Moment, closed_rules: ClosedRules
) -> None:
    current = sight.current
    if current.digest == pending.document:
        if pending.state == "confirmed":
            _finish(draft, sight, closed_rules)
        elif due(pending, now):
            _revert(draft, pending, why="not confirmed" if now.boot_id == pending.boot_id else "rebooted")
    elif current.digest == pending.previous:
        # cut off before the policy was put in place, or after it was taken back
        draft.drop(Slot.PENDING)
        draft.tell("policy.apply-undone", **_title(pending))
    elif pending.state == "trial" and due(pending, now):
        # what is on trial was damaged; until its time is up it is judged as it lies there
        _revert(draft, pending, why="unreadable")


def _revert(draft: _Draft, pending: Pending, *, why: str) -> None:
    before = draft.cells.get(Slot.PREVIOUS)
    if pending.previous is None:
        draft.drop(Slot.POLICY)
    elif isinstance(before, bytes) and digest(before) == pending.previous:
        draft.put(Slot.POLICY, before)
    else:
        # nothing to go back to: what is there is judged like a policy that nobody applied
        draft.drop(Slot.PENDING)
        draft.tell("policy.revert-impossible", **_title(pending), why=why)
        return
    draft.drop(Slot.PENDING)
    draft.tell("policy.reverted", **_title(pending), why=why)


def _finish(draft: _Draft, sight: Sight, closed_rules: ClosedRules) -> None:
    """Everything that follows from a confirmation.  The confirmation itself goes last."""
    policy, enrolment = sight.current.policy, sight.enrolment.value
    if policy is None or enrolment is None:
        return
    known = sight.floors.value or Floors()
    if policy.version < known.policy_version:
        return
    floors = msgspec.structs.replace(
        known,
        policy_version=policy.version,
        policy_sha256=sight.current.payload_digest,
        enforcing=policy.mode == "enforce",
    )
    was_armed = armed(sight)
    if policy.mode == "enforce":
        rules = closed_rules(policy).encode()
        draft.put(Slot.FLOORS, canonical.encode(floors))
        draft.put(Slot.CLOSED, rules)
        draft.put(Slot.ARMED, canonical.encode(_latch(enrolment.vm, floors)))
    else:
        draft.put(Slot.FLOORS, canonical.encode(floors))
        draft.drop(Slot.ARMED)
        draft.drop(Slot.CLOSED)
    draft.drop(Slot.PENDING)
    body = {"name": policy.name, "version": policy.version, "mode": policy.mode}
    draft.tell("policy.confirmed", **body)
    if was_armed != (policy.mode == "enforce"):
        draft.tell("vm.disarmed" if was_armed else "vm.armed", **body)


def _restore(draft: _Draft, sight: Sight) -> None:
    """Without a readable note of a trial: back to the policy that the floors name, where it still is."""
    floors = sight.floors.value
    if accounted(sight.current, floors):
        if sight.pending.finding == "pending.unreadable":
            draft.drop(Slot.PENDING)
            draft.tell("pending.dropped", why=sight.pending.why)
        return
    before = draft.cells.get(Slot.PREVIOUS)
    if armed(sight) and accounted(sight.previous, floors) and isinstance(before, bytes):
        draft.put(Slot.POLICY, before)
        draft.drop(Slot.PENDING)
        draft.tell("policy.restored", version=floors.policy_version if floors else 0)


def _repair(draft: _Draft, sight: Sight, closed_rules: ClosedRules) -> None:
    """Latch, closed ruleset and owners' floor follow from the confirmed policy: put right what differs.

    During a trial the confirmed policy is the previous one.
    """
    floors, enrolment = sight.floors.value, sight.enrolment.value
    if enrolment is None or floors is None:
        return
    if sight.owners.value is not None:
        floors = _note_owners(draft, floors, sight.owners.value)
    steps = len(draft.steps)
    confirmed = next((w.policy for w in (sight.current, sight.previous) if accounted(w, floors)), None)
    if confirmed is not None and confirmed.mode == "enforce":
        try:
            draft.put(Slot.CLOSED, closed_rules(confirmed).encode())
        except (UntrustedInput, WorldError) as error:
            # the ruleset of the last time still stands, and closes
            draft.tell("closed-rules.failed", why=str(error))
        # nobody signed the floors: where they forget what they know of this policy, the policy tells it
        floors = msgspec.structs.replace(floors, enforcing=True)
        draft.put(Slot.FLOORS, canonical.encode(floors))
    if floors.enforcing:
        draft.put(Slot.ARMED, canonical.encode(_latch(enrolment.vm, floors)))
    elif confirmed is not None:
        draft.drop(Slot.ARMED)
        draft.drop(Slot.CLOSED)
    if len(draft.steps) > steps:
        draft.tell("latch.repaired", armed=floors.enforcing, version=floors.policy_version)


def _accept(sight: Sight, document: SignedDocument, *, owners: Owners, vm: str, utc_ms: int | None) -> Policy:
    floor, seen = _floor(sight)
    same = threshold.signed_bytes(document)
    return trust.accept_policy(
        document,
        owners=owners,
        vm=vm,
        floor=floor,
        utc_ms=utc_ms,
        current_payload=document.payload if digest(same) == seen else None,
    )


def _floor(sight: Sight) -> tuple[int, str]:
    """Highest version seen and the digest of its payload.

    Without readable floors, the highest that any other file still tells: what is lost with all of them
    cannot be known, and the owner signed what is applied now.
    """
    if sight.floors.value is not None:
        return sight.floors.value.policy_version, sight.floors.value.policy_sha256
    told = [(0, "")]
    if sight.latch.value is not None:
        told.append((sight.latch.value.policy_version, sight.latch.value.policy_sha256))
    for weighed in (sight.current, sight.previous):
        if weighed.policy is not None:
            told.append((weighed.policy.version, weighed.payload_digest))
    return max(told)


def _enrolled(sight: Sight) -> tuple[Owners, str]:
    if sight.enrolment.value is None:
        raise UsageError(f"this VM is not enrolled ({sight.enrolment.why}): vmwarden enrol comes first")
    if sight.owners.value is None:
        raise Malformed(f"owners.json: {sight.owners.why}", mend="put back the owners' file of this VM")
    floors, owners = sight.floors.value, sight.owners.value
    if floors is not None and owners.version < floors.owners_version:
        raise Malformed(
            f"owners.json has version {owners.version}, this VM has seen {floors.owners_version}",
            mend="put back the newest owners' file",
        )
    return owners, sight.enrolment.value.vm


def _no_trial(sight: Sight, now: Moment) -> None:
    pending = sight.pending.value
    if pending is not None:
        left = max(0, pending.deadline_boot_ms - now.boot_ms) // 1000
        raise WorldError(
            f"policy {pending.name} version {pending.version} is on trial for another {left} s",
            mend="vmwarden confirm, or vmwarden apply --revert, or wait",
        )


def _note_owners(draft: _Draft, floors: Floors, owners: Owners) -> Floors:
    """The floors as they are then."""
    if owners.version > floors.owners_version:
        floors = msgspec.structs.replace(floors, owners_version=owners.version)
        draft.put(Slot.FLOORS, canonical.encode(floors))
    return floors


def _latch(vm: str, floors: Floors) -> Armed:
    return Armed(vm=vm, policy_version=floors.policy_version, policy_sha256=floors.policy_sha256)


def _title(pending: Pending) -> dict[str, object]:
    return {"name": pending.name, "version": pending.version, "mode": pending.mode}


def _life(order: PurgeOrder) -> str:
    return f"{order.vm} generation {order.generation} with key {order.identity}"
