# SPDX-License-Identifier: Apache-2.0
"""Apply, confirm, revert, purge: rules.delivery carried out on the disk, one writer at a time.

Every function returns what it did, for the journal.  disk is where the steps go; tests cut it off.
"""

from vmwarden.errors import Expired, Malformed, UntrustedInput, UsageError
from vmwarden.linux import folders
from vmwarden.model.installed import Change, Drop, PurgeOrder, Session, Slot
from vmwarden.model.moment import Moment
from vmwarden.model.owners import Owners
from vmwarden.model.signed import SignedDocument
from vmwarden.rules import canonical, delivery, threshold, trust
from vmwarden.rules.delivery import ClosedRules, Plan
from vmwarden.rules.installation import Cells, armed, look
from vmwarden.store import cells
from vmwarden.store.cells import Disk, StateDisk
from vmwarden.store.layout import Layout


def settle(
    layout: Layout, now: Moment, *, closed_rules: ClosedRules, disk: Disk | None = None
) -> tuple[Change, ...]:
    """Finish what was begun, revert what is over, repair the latch: at start, at a reload, when a
    trial is over.

    Raises FileUnavailable, and what closed_rules raises.  What is loaded is right all the same.
    """
    if not folders.stands(layout.state):
        return ()
    with cells.changing(layout):
        plan = delivery.settle(cells.read(layout), now, closed_rules=closed_rules)
        cells.carry_out(plan.steps, disk or StateDisk(layout))
        return plan.changes


def apply(
    layout: Layout,
    data: bytes,
    *,
    now: Moment,
    utc_ms: int | None,
    session: Session,
    closed_rules: ClosedRules,
    within_ms: int | None = None,
    disk: Disk | None = None,
) -> tuple[Change, ...]:
    """Take a signed document: a policy, or the successor of the owners.  Empty: it is in force already.

    Raises what rules.delivery.apply_policy and rotate_owners raise, FileUnavailable.
    """
    owners = _is_owners(data)

    def plan(state: Cells) -> Plan:
        if owners:
            if within_ms is not None:
                raise UsageError("--confirm-within is for policies: owners rotate at once")
            return delivery.rotate_owners(state, data, now=now)
        return delivery.apply_policy(
            state,
            data,
            now=now,
            utc_ms=utc_ms,
            within_ms=within_ms,
            session=session,
            closed_rules=closed_rules,
        )

    with cells.changing(layout):
        before, state = _settled(layout, now, closed_rules, disk)
        planned = plan(state)
        cells.carry_out(planned.steps, disk or StateDisk(layout))
        return before + planned.changes


def confirm(
    layout: Layout,
    *,
    now: Moment,
    session: Session,
    closed_rules: ClosedRules,
    disk: Disk | None = None,
) -> tuple[Change, ...]:
    """Keep the policy on trial.

    Raises Expired if its time was up (it is reverted then), what rules.delivery.confirm raises,
    FileUnavailable.
    """
    with cells.changing(layout):
        before, state = _settled(layout, now, closed_rules, disk)
        if any(change.kind == "policy.reverted" for change in before):
            raise Expired("too late: the policy was reverted", mend="apply it again")
        planned = delivery.confirm(state, now=now, session=session, closed_rules=closed_rules)
        cells.carry_out(planned.steps, disk or StateDisk(layout))
        return before + planned.changes


def revert(
    layout: Layout, *, now: Moment, closed_rules: ClosedRules, disk: Disk | None = None
) -> tuple[Change, ...]:
    """Take the policy on trial back now.  Raises UsageError if none is, FileUnavailable."""
    with cells.changing(layout):
        before, state = _settled(layout, now, closed_rules, disk)
        planned = delivery.revert(state)
        cells.carry_out(planned.steps, disk or StateDisk(layout))
        return before + planned.changes


def purge(layout: Layout, order: SignedDocument, *, disk: Disk | None = None) -> tuple[Change, ...]:
    """Forget what the owners ordered to forget.  Raises what rules.delivery.purge raises, FileUnavailable."""
    with cells.changing(layout):
        planned = delivery.purge(cells.read(layout), order)
        cells.carry_out(planned.steps, disk or StateDisk(layout))
        return planned.changes


def prepare_image(
    layout: Layout, *, order: SignedDocument | None = None, disk: Disk | None = None
) -> tuple[str, ...]:
    """Strip everything that makes this VM this VM; owners.json stays.  Names of the files removed.

    order: signed by the owners, needed while armed.  The warden should not be running: it would write anew.
    Raises UsageError while armed without order, what rules.delivery.purge raises, FileUnavailable.
    """
    if not folders.stands(layout.state):
        return ()
    with cells.changing(layout):
        state = cells.read(layout)
        if order is not None:
            delivery.purge(state, order)
        elif armed(look(state)):
            raise UsageError(
                "this VM is armed: give the owners' word with --purge-order (vmwarden purge --request prints "
                "what they sign)"
            )
        there = cells.present(layout) - {Slot.OWNERS, Slot.LOCK}
        # the enrolment goes last, so that an interrupted run can be repeated with the same order
        ordered = tuple(sorted(there, key=lambda slot: (slot is Slot.ENROLMENT, slot.value)))
        others = cells.strangers(layout)
        for path in others:
            folders.remove(path)
        cells.carry_out((Drop(slot) for slot in ordered), disk or StateDisk(layout))
        return tuple(path.name for path in (*others, *(layout.path(slot) for slot in ordered)))


def _is_owners(data: bytes) -> bool:
    """Whether a signed document carries owners.  Raises Malformed, TooLarge, also for an order to purge."""
    payload = threshold.signed_bytes(trust.read_signed(data))
    if _fits(payload, PurgeOrder):
        raise Malformed(
            "this is an order to purge", mend="vmwarden purge --order FILE, if that is what you want"
        )
    return _fits(payload, Owners)


def _fits(payload: bytes, kind: type[Owners] | type[PurgeOrder]) -> bool:
    try:
        canonical.decode(payload, kind, limit=trust.OWNERS_BYTES, what="signed document")
    except UntrustedInput:
        return False
    return True


def _settled(
    layout: Layout, now: Moment, closed_rules: ClosedRules, disk: Disk | None
) -> tuple[tuple[Change, ...], Cells]:
    plan = delivery.settle(cells.read(layout), now, closed_rules=closed_rules)
    cells.carry_out(plan.steps, disk or StateDisk(layout))
    return plan.changes, plan.cells
