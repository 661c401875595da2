# SPDX-License-Identifier: Apache-2.0
"""Targets: the files of the state, one at a time, under a warden whose host is in the wrong country."""

import atexit
import base64
import os
import shutil
import tempfile
import zlib
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from tests.fuzz.engine import Target
from tests.unit.warden.ward import Ward
from tests.unit.warden.ward import policy as german
from vmwarden.errors import UntrustedInput, UsageError, WorldError
from vmwarden.model.escalation import Escalation, Incident
from vmwarden.model.hours import Interval, TimeRange
from vmwarden.model.installed import (
    Cell,
    Change,
    Happened,
    Outcome,
    PurgeOrder,
    Session,
    Slot,
    Told,
    Unrecorded,
)
from vmwarden.model.message import Gather
from vmwarden.model.moment import Moment
from vmwarden.model.policy import (
    FlowIn,
    FlowOut,
    Host,
    HostClause,
    Hours,
    Place,
    PlaceEntry,
    Policy,
    Scope,
    TimedService,
    Trust,
    UnknownRung,
    WrongRung,
)
from vmwarden.model.posture import Posture
from vmwarden.model.signed import POLICY_NAMESPACE, SignedDocument
from vmwarden.model.time_servers import TimeServer, TrustedTime
from vmwarden.ports.gate import LONGEST_LEASE_MS
from vmwarden.rules import canonical, record, sshsig
from vmwarden.rules.delivery import apply_policy, settle
from vmwarden.rules.installation import identity_line, judge
from vmwarden.rules.ruleset import NO_MANAGE
from vmwarden.store import cells, delivery, unrecorded
from vmwarden.store.identity import identity_key
from vmwarden.store.layout import Layout
from vmwarden.testing.owners import owners, private_key, signed_owners, signed_purge
from vmwarden.testing.state import NOW, confirmed, enrolled, file, identity, on_trial, trial
from vmwarden.warden.memory import Memory, closed_rules

WILL, NEXT = german(), german(version=8, name="payments-8")
OBSERVE, LATER = german(mode="observe"), german(version=8, mode="observe")
#: one in so many inputs is put under a whole warden; reading it costs a hundredth of that
_WHOLE = 6
MOMENTS = (NOW, Moment(NOW.boot_ms + 120_000, NOW.utc_ms), Moment(1, NOW.utc_ms, "boot-2"))


def _complete(state: dict[Slot, Cell], will: Policy) -> dict[Slot, Cell]:
    return state | {Slot.CLOSED: closed_rules(will).encode()} if Slot.ARMED in state else state


#: what an armed VM has on disk; none of these may be disarmed by one file
ARMED: tuple[dict[Slot, Cell], ...] = (
    _complete(confirmed(WILL), WILL),
    _complete(on_trial(NEXT, confirmed(WILL)), WILL),
)
OTHERS: tuple[dict[Slot, Cell], ...] = (
    on_trial(NEXT, confirmed(OBSERVE)),
    _complete(on_trial(LATER, confirmed(WILL)), WILL),
    confirmed(OBSERVE),
    enrolled(),
    {},
)


@cache
def layout() -> Layout:
    """A folder in memory where there is one: the disk is not what is tried here."""
    room = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    root = Path(tempfile.mkdtemp(prefix="vmwarden-fuzz-", dir=room))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    made = Layout.below(root)
    made.etc.mkdir(parents=True)
    made.state.mkdir(parents=True, mode=0o700)
    return made


def put(state: dict[Slot, Cell]) -> None:
    """Exactly these files."""
    for slot in set(Slot) - {Slot.LOCK}:
        path, cell = layout().path(slot), state.get(slot)
        path.unlink(missing_ok=True)
        if isinstance(cell, bytes):
            path.write_bytes(cell)
            path.chmod(0o600)


class FileWard(Ward):
    """A ward whose state is files."""

    def __init__(self) -> None:
        super().__init__()
        self.state = Memory(layout())  # type: ignore[assignment]
        self.build()

    def life(self, country: str = "FR") -> None:
        """Start, ask a host that is there, and go on for a while."""
        self.warden.start()
        self.warden.watcher_connected()
        asked = self.warden.gather()
        order = canonical.decode(asked, Gather, limit=65536, what="order") if asked is not None else None
        if order is not None and order.challenge is not None:
            self.answer(order, country=country)
        self.pass_time(4_000, step_ms=2_000)
        canonical.encode(self.warden.status())


def told(changes: Sequence[Change]) -> None:
    """What the warden does with them: a record that cannot be made is our bug and ends it."""
    for change in changes:
        record.make(change.kind, change.body, NOW, seq=0)


def _file(slot: Slot, data: bytes) -> None:
    states = ARMED + OTHERS
    which = zlib.crc32(data) % len(states)
    armed = which < len(ARMED)
    state = states[which] | {slot: data}
    for moment in MOMENTS:
        plan = settle(state, moment, closed_rules=closed_rules)
        told(plan.changes)
        found = judge(plan.cells)
        canonical.encode(found.findings)
        if armed:
            assert found.outcome is not Outcome.OBSERVE, "one changed file disarmed the VM"
            assert plan.cells.get(Slot.ARMED) is not None, "one changed file took the latch away"
    if zlib.adler32(data) % _WHOLE == 0:
        _under_a_warden(state, armed=armed)


def _under_a_warden(state: dict[Slot, Cell], *, armed: bool) -> None:
    """Two lives, the second after a reboot; the host says truly that it is in France."""
    put(state)
    ward = FileWard()
    for boot in ("boot-1", "boot-2"):
        ward.life()
        if armed:
            assert ward.gate.passing() == "manage", f"{boot}: the gate is {ward.gate.passing()}"
        assert not any(act[0] == "lease" for act in ward.gate.acts), "a lease, and the host is in France"
        ward.gate.die()
        ward.clock.reboot("boot-2")
        ward.build()


def _incidents(data: bytes) -> None:
    state = ARMED[0] | {Slot.INCIDENTS: data}
    _under_a_warden(state, armed=True)


def _escalations() -> Sequence[bytes]:
    one = Incident(fence="place", kind="wrong", since_boot_ms=1_000, seen_boot_ms=50_000, boot_id="boot-1")
    carried = msgspec.structs.replace(one, boot_id="boot-0", carried_ms=600_000, kind="unknown", silent_ms=5)
    nouns = (
        Escalation(boot_id="boot-1", epoch=3, incidents=(one,), allowed=("place",), posture=Posture.OPEN),
        Escalation(boot_id="boot-0", epoch=1, incidents=(carried, one), posture=Posture.QUARANTINED),
        Escalation(),
    )
    return [canonical.encode(noun) for noun in nouns]


def _unrecorded(data: bytes) -> None:
    put(enrolled() | {Slot.UNRECORDED: data})
    told(unrecorded.peek(layout()))
    unrecorded.add(layout(), (Change("vm.enrolled", {"vm": "payments-1"}),), NOW)
    told(unrecorded.peek(layout()))


def _untold() -> Sequence[bytes]:
    bodies: tuple[tuple[str, dict[str, Told]], ...] = (
        ("policy.applied", {"name": "payments", "version": 8, "mode": "enforce", "within_ms": None}),
        ("owners.rotated", {"version": 2, "keys": ("ada SHA256:x", "bob SHA256:y")}),
    )
    happened = tuple(
        Happened(kind=kind, body=body, utc_ms=NOW.utc_ms, boot_ms=NOW.boot_ms, boot_id=NOW.boot_id)
        for kind, body in bodies
    )
    return [canonical.encode(Unrecorded(changes=happened)), canonical.encode(Unrecorded(forgotten=3))]


def _identity(data: bytes) -> None:
    put({Slot.IDENTITY: data})
    for read in (lambda: identity_key(layout()), lambda: identity_line(data)):
        try:
            read()
        except (UntrustedInput, WorldError):
            continue


def _identities() -> Sequence[bytes]:
    rsa_key = rsa.generate_private_key(65537, 2048)
    locked = private_key("identity").private_bytes(
        Encoding.PEM, PrivateFormat.OpenSSH, BestAvailableEncryption(b"secret")
    )
    plain = rsa_key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    return [identity(), plain, locked]


def _identity_inner(data: bytes) -> None:
    _identity(
        b"-----BEGIN OPENSSH PRIVATE KEY-----\n"
        + base64.encodebytes(data)
        + b"-----END OPENSSH PRIVATE KEY-----\n"
    )


def _inners() -> Sequence[bytes]:
    return [base64.b64decode(b"".join(key.strip().split(b"\n")[1:-1])) for key in _identities()]


def _closed(data: bytes) -> None:
    put({Slot.CLOSED: data})
    rules = Memory(layout()).boot_rules()
    # the first line is a comment
    allowed = [text.partition("\n")[2] for text in (closed_rules(WILL), NO_MANAGE)]
    assert rules[:2] == "# " and rules.partition("\n")[2] in allowed, "changed rules would be loaded"


def _will(data: bytes) -> None:
    """A policy that its owners have signed: whatever it says, the warden lives with it."""
    document = canonical.encode(
        SignedDocument(
            payload=data.decode("utf-8", "replace"),
            signatures=tuple(
                sshsig.sign(private_key(name), data, POLICY_NAMESPACE) for name in ("ada", "bob")
            ),
        )
    )
    state = ARMED[0] | {Slot.POLICY: document}
    plan = settle(state, NOW, closed_rules=closed_rules)
    told(plan.changes)
    found = judge(plan.cells)
    if found.policy is None:
        return
    for within_ms in (None, 60_000):
        try:
            told(
                apply_policy(
                    ARMED[0],
                    document,
                    now=NOW,
                    utc_ms=NOW.utc_ms,
                    within_ms=within_ms,
                    session=Session(),
                    closed_rules=closed_rules,
                ).changes
            )
        except (UntrustedInput, WorldError, UsageError):
            continue
    put(state)
    ward = FileWard()
    ward.life("DE")
    for act in ward.gate.acts:
        assert act[0] != "lease" or int(act[1]) <= LONGEST_LEASE_MS
    assert ward.warden.tick_ms() >= 0


def _wills() -> Sequence[bytes]:
    rungs = (
        WrongRung(after="0s", posture=Posture.HELD, ask="relocate", of="host"),
        WrongRung(after="2s", posture=Posture.POWEROFF),
    )
    place = Place(
        any_of=(
            PlaceEntry(country="DE", postal_codes=("10*", "60313"), time_zones=("Europe/Berlin",)),
            PlaceEntry(country="NL", cities=("Amsterdam",), buildings=("AMS-1",), subdivisions=("NL-NH",)),
        ),
        agree=1,
        issued_within="24h",
        wrong=rungs,
        unknown=(UnknownRung(after="2m", posture=Posture.GUARDED),),
    )
    host = Host(
        all_of=(
            HostClause(fact="host.hypervisor", in_=("kvm",)),
            HostClause(fact="host.compliance", contains=("iso27001",), proof="signed"),
            HostClause(fact="host.hypervisor_version", at_least="8.2"),
        )
    )
    scope = Scope(name="s", in_=(FlowIn(from_="10.0.0.0/8", tcp=80),), out=(FlowOut(to="::/0", udp=53),))
    full = german(place=place, host=host, scopes=(scope,), version=8)
    timed = TimedService(name="report", out=(FlowOut(to="10.0.0.0/8", tcp=443),), open=(Interval(),))
    slot = Interval(weekdays=("monday:friday",), times=(TimeRange(start_time="08:00", end_time="18:00"),))
    hours = Hours(time_zone="Europe/Berlin", open=(slot,), services=(timed,), closed_on=("2026-12-25",))
    time_servers = tuple(TimeServer(name=f"t{n}.test", address=f"192.0.2.{n}") for n in (1, 2, 3))
    trusted = Trust(time=TrustedTime(servers=time_servers, authorities=("MIIB",)))
    serving = german(hours=hours, version=8, trust=trusted)
    return [canonical.encode(will) for will in (WILL, full, serving, german(version=9, mode="observe"))]


def _apply(data: bytes) -> None:
    """What somebody hands to vmwarden apply: a policy, owners, or anything else."""
    put(ARMED[zlib.crc32(data) % 4 == 0])
    delivery.apply(
        layout(),
        data,
        now=NOW,
        utc_ms=NOW.utc_ms,
        session=Session(),
        closed_rules=closed_rules,
        within_ms=60_000 if len(data) % 2 else None,
    )
    assert judge(cells.read(layout())).outcome is Outcome.ENFORCE or data in _deliverable()


def _deliverable() -> Sequence[bytes]:
    order = PurgeOrder(vm="payments-1", generation=1, identity=f"SHA256:{'A' * 43}")
    return [
        *(file(will) for will in (WILL, NEXT, OBSERVE, LATER)),
        signed_owners(owners("ada", "bob", version=2), "ada", "bob"),
        canonical.encode(signed_purge(order, "ada", "bob")),
    ]


def _seeds(slot: Slot) -> Sequence[bytes]:
    found = {bytes(cell): None for state in ARMED + OTHERS if isinstance(cell := state.get(slot), bytes)}
    if slot in (Slot.POLICY, Slot.PREVIOUS):
        found |= {file(will): None for will in (WILL, NEXT, OBSERVE, LATER)}
    if slot is Slot.PENDING:
        confirmed_one = trial(NEXT, file(WILL)).replace(b'"trial"', b'"confirmed"')
        found |= {confirmed_one: None, trial(NEXT, None): None}
    return list(found)


def _named(slot: Slot) -> Target:
    heavy = slot in (Slot.POLICY, Slot.PREVIOUS)
    return Target(
        name=Layout().path(slot).name,
        seeds=partial(_seeds, slot),
        run=partial(_file, slot),
        form="json",
        counts=(25, 1_500) if heavy else (50, 2_500),
        within_s=1.0,
    )


TARGETS = (
    *(
        _named(slot)
        for slot in (
            Slot.OWNERS,
            Slot.ENROLMENT,
            Slot.POLICY,
            Slot.PREVIOUS,
            Slot.PENDING,
            Slot.ARMED,
            Slot.FLOORS,
        )
    ),
    Target(
        name="apply",
        seeds=_deliverable,
        run=_apply,
        raises=(UntrustedInput, UsageError, WorldError),
        form="json",
        counts=(60, 15_000),
    ),
    Target(name="incidents.json", seeds=_escalations, run=_incidents, form="json", counts=(15, 1_500)),
    Target(name="unrecorded.json", seeds=_untold, run=_unrecorded, form="json", counts=(150, 20_000)),
    Target(name="identity.key", seeds=_identities, run=_identity, counts=(100, 6_000)),
    Target(name="identity.key-inner", seeds=_inners, run=_identity_inner, counts=(80, 4_000)),
    Target(
        name="closed.nft",
        seeds=lambda: [closed_rules(WILL).encode(), NO_MANAGE.encode()],
        run=_closed,
        counts=(120, 40_000),
    ),
    Target(name="policy-content", seeds=_wills, run=_will, form="json", counts=(50, 8_000)),
)
