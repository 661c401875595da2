# SPDX-License-Identifier: Apache-2.0
"""The warden: verifies, judges, holds the lease, acts, records.  No sockets and no clock of its own.

Closing acts first and records after; opening and powering off record first.
"""

from collections.abc import Callable
from typing import Any, cast

import msgspec

from vmwarden.cycle.book import Book
from vmwarden.cycle.turn import take_turn
from vmwarden.errors import ControlFailed, UntrustedInput, WorldError
from vmwarden.model.control import PolicyStatus, Status
from vmwarden.model.decision import Decision
from vmwarden.model.escalation import Escalation
from vmwarden.model.handover import Handover
from vmwarden.model.installed import Change, Installed, Outcome
from vmwarden.model.message import (
    MESSAGE_BYTES,
    Carried,
    Declared,
    Event,
    Gather,
    Gathered,
    RawStatement,
    ToWarden,
)
from vmwarden.model.moment import Moment
from vmwarden.model.policy import Policy
from vmwarden.model.posture import Posture
from vmwarden.model.statement import Audience
from vmwarden.model.verdict import Answer, Finding
from vmwarden.ports.clock import Clock
from vmwarden.ports.flows import Flows
from vmwarden.ports.gate import Gate
from vmwarden.ports.journal import Journal
from vmwarden.ports.power import Power
from vmwarden.ports.services import Services
from vmwarden.ports.state import State
from vmwarden.rules import canonical, clock_mark, instant
from vmwarden.rules.calendar.timetable import Timetable
from vmwarden.rules.delivery import due
from vmwarden.rules.duration import milliseconds
from vmwarden.rules.escalate import new_epoch
from vmwarden.rules.quota import MOST, WINDOW_MS
from vmwarden.rules.time_servers import period_ms
from vmwarden.rules.trusted_time import TimeAnchor, advance, utc
from vmwarden.warden.gatekeeper import Gatekeeper
from vmwarden.warden.ledger import Ledger
from vmwarden.warden.stamps import Stamps
from vmwarden.warden.words import REASON, describe, fitting
from vmwarden.warden.zones import timetable

#: evidence is gathered this many times within the shortest recheck, so that one lost answer closes nothing
GATHERS_A_RECHECK = 3
#: and at least so often while the VM is not open: recovery should not wait for the next round
IMPATIENT_MS = 5_000
#: the time floor is written when it has advanced by this much: a write a minute wears no disk
FLOOR_STEP_MS = 60_000
#: an incident's age is written this often, so that a crash loses at most this much of it
AGE_STEP_MS = 30_000


#: before enrolment nobody can address this VM
_NOBODY = Audience(vm="nobody", generation=1)
_LEASED = (Posture.OPEN, Posture.GUARDED)
#: postures in which flows are ended, and a device is switched off that something leads around the gate by
_ENDS = (Posture.QUARANTINED, Posture.SEALED, Posture.POWEROFF, Posture.ERASED)
_TO_WARDEN = cast("type[ToWarden]", ToWarden)


class Warden:
    """One VM's warden.  Drive it: start; receive, tick and gather as messages and time come; stop."""

    def __init__(
        self,
        *,
        state: State,
        clock: Clock,
        gate: Gate,
        flows: Flows,
        journal: Journal,
        services: Services,
        power: Power,
        nonce: Callable[[], str],
        stamps: Stamps,
        say: Callable[[str], None],
        observe_only: bool = False,
        notes: tuple[str, ...] = (),
    ) -> None:
        """say: one line for console and log.  observe_only: act on nothing, whatever the policy says."""
        self._state = state
        self._clock = clock
        self._ledger = Ledger(journal, say)
        self._gate = Gatekeeper(
            gate, flows=flows, ledger=self._ledger, clock=clock, boot_rules=state.boot_rules, say=say
        )
        self._services = services
        self._power = power
        self._nonce = nonce
        self._stamps = stamps
        self._say = say
        self._observe_only = observe_only
        self._notes = notes
        self._in_force = Installed(outcome=Outcome.OBSERVE)
        self._book = Book(audience=_NOBODY, hosts=())
        self._escalation = Escalation()
        self._decision = Decision(posture=Posture.HELD, answer=Answer.UNKNOWN)
        self._taken: Posture | None = None
        self._taken_at: Moment | None = None
        self._handed_until_boot_ms = 0
        self._timetable: Timetable | None = None
        self._hours_told: dict[str, Any] = {}
        self._floor_ms = 0
        self._age_written_ms = 0
        self._turn = 0
        self._asked_at_ms: int | None = None
        self._all_heard = False
        self._verified: Moment | None = None
        self._settled = False
        self._watcher = False
        self._told: tuple[object, ...] = ()

    # -- life ------------------------------------------------------------------------------------

    def start(self, handover: Handover | None = None) -> None:
        """Take what is in force from disk and begin in held.

        handover: of the program that was this process before.  What it held open stays open until there is a
        verdict, at most until its lease ends; evidence and grace are not taken over.
        """
        now = self._clock.now()
        if handover is not None and handover.gate is not None:
            self._gate.take_over(handover.gate, handover.lease_until_boot_ms)
            if handover.lease_until_boot_ms > now.boot_ms:
                self._handed_until_boot_ms = handover.lease_until_boot_ms
                self._taken, self._taken_at = Posture(handover.posture), now
        self._floor_ms = self._state.floor_ms()
        # an allow of an earlier process is no reason to open: whoever can kill us would open by the grace
        self._escalation = new_epoch(self._state.escalation())
        self._ledger.record(
            "warden.started",
            {
                "observe_only": self._observe_only,
                "notes": list(self._notes),
                "after_handover": handover is not None,
            },
            now,
        )
        self._ledger.sign(now)
        self.reload()
        if not self.enforcing and not self._observe_only:
            self._gate.clear(now)

    def reload(self) -> None:
        """Read policy, owners and latch again; the gate follows."""
        now = self._clock.now()
        self._change(self._state.settle, now)
        self._record_untold(now)
        was_enforcing, before = self.enforcing, self._in_force
        self._in_force = self._state.load(now)
        policy = self._in_force.policy
        if policy is not None:
            # the owner's signature says that this instant has passed
            self._floor_ms = max(self._floor_ms, _instant(policy.valid.from_, default=0))
        self._read_hours(policy, now)
        if self._in_force != before:
            self._begin_policy(before, policy)
        if self.enforcing:
            self._gate.install(self._guarded_policy(), now)
        elif was_enforcing:
            self._gate.remove(now)
            self._taken = None
        self.tick()

    def _read_hours(self, policy: Policy | None, now: Moment) -> None:
        """The calendar, by the time zones that this VM has now."""
        if policy is None or policy.hours is None:
            self._timetable, self._hours_told = None, {}
            return
        self._timetable, told = timetable(policy.hours)
        if told != self._hours_told:
            self._hours_told = told
            self._ledger.record("hours.loaded", told, now)
            if "why" in told:
                self._say(f"the hours cannot be judged: {told['why']}")

    def _begin_policy(self, before: Installed, policy: Policy | None) -> None:
        """Judge anew by what is in force now: evidence of hosts that it trusts stays, grace does not."""
        hosts = policy.trust.hosts if policy is not None else ()
        if self._in_force.enrolment != before.enrolment:
            self._book = Book(audience=self._audience(), hosts=hosts)
        else:
            self._book.trust(hosts)
        if before.policy is not None:
            self._escalation = new_epoch(self._escalation)
        hours = policy.hours if policy is not None else None
        recheck = milliseconds(hours.recheck) if hours is not None and hours.time == "trusted" else None
        self._stamps.follow(policy.trust.time if policy is not None else None, period_ms=period_ms(recheck))
        self._asked_at_ms = None
        self._settled = self._all_heard = False

    def stop(self) -> None:
        """Last words.  The gate is not touched: its live part ends with this process, and that closes."""
        self._stamps.close()
        self._ledger.record("warden.stopped", {"posture": self._escalation.posture}, self._clock.now())

    def hand_over(self) -> Handover:
        """Instead of stop, for the program that takes our place in this process: what is open stays open
        until it has a verdict of its own, or the lease ends."""
        self._stamps.close()
        now = self._clock.now()
        posture = self._taken or Posture.HELD
        gate, until = (
            self._gate.hand_over(self._decision, now, guarded=posture is Posture.GUARDED)
            if self.enforcing
            else (None, 0)
        )
        self._ledger.record(
            "warden.handed-over", {"posture": posture, "lease_ms": max(0, until - now.boot_ms)}, now
        )
        return Handover(
            format="vmwarden.handover/1",
            boot_id=now.boot_id,
            posture=posture,
            lease_until_boot_ms=until,
            gate=gate,
        )

    def _may_pass(self) -> bool:
        """Whether anything has a lease by the decision."""
        return self._decision.posture in _LEASED or bool(self._decision.services)

    def _handed_over(self, now: Moment) -> bool:
        """Whether what our predecessor held open stays open: nothing speaks against it yet."""
        return self._decision.answer is Answer.UNKNOWN and now.boot_ms < self._handed_until_boot_ms

    @property
    def enforcing(self) -> bool:
        """Whether the VM is really closed when the verdict says so."""
        return self._in_force.outcome is not Outcome.OBSERVE and not self._observe_only

    def _audience(self) -> Audience:
        enrolment = self._in_force.enrolment
        return _NOBODY if enrolment is None else Audience(vm=enrolment.vm, generation=enrolment.generation)

    # -- the watcher -----------------------------------------------------------------------------

    def watcher_connected(self) -> None:
        """A watcher is there: ask it at once."""
        self._watcher = True
        self._asked_at_ms = None
        self._ledger.record("watcher.connected", {}, self._clock.now())

    def watcher_lost(self, why: str) -> None:
        """The watcher is gone.  Nothing closes by this: its evidence ages."""
        self._watcher = False
        self._stamps.lost()
        self._ledger.record("watcher.lost", {"why": why[:REASON]}, self._clock.now())
        if not self._ledger.withheld("watcher.lost"):
            self._say(f"watcher lost: {why[:REASON]}")

    def time_orders(self) -> tuple[bytes, ...]:
        """What time servers are to be asked now, if there is a watcher to carry it."""
        return self._stamps.orders(self._clock.now(), floor_ms=self._floor_ms) if self._watcher else ()

    def time_filenos(self) -> tuple[int, ...]:
        """Readable when time_orders has something to say."""
        return self._stamps.descriptors()

    def time_in_ms(self, now: Moment, otherwise: int) -> int:
        """Until then time_orders has nothing to say; at most otherwise."""
        return self._stamps.wait_ms(now, otherwise) if self._watcher else otherwise

    def gather(self) -> bytes | None:
        """The order that is due now, if one is."""
        now = self._clock.now()
        if not self._watcher or self.gather_in_ms(now) > 0:
            return None
        self._turn += 1
        self._all_heard = False
        self._asked_at_ms = now.boot_ms
        challenge = self._book.challenge(self._nonce(), now) if self._in_force.enrolment is not None else None
        return canonical.encode(Gather(turn=self._turn, challenge=challenge))

    def gather_in_ms(self, now: Moment) -> int:
        """Until the next order."""
        if self._asked_at_ms is None:
            return 0
        return max(0, self._asked_at_ms + self._period_ms() - now.boot_ms)

    def receive(self, data: bytes) -> None:
        """One datagram of the watcher.  Raises UntrustedInput: the sender is broken or captured, drop it."""
        message = canonical.decode(data, _TO_WARDEN, limit=MESSAGE_BYTES, what="the watcher's message")
        now = self._clock.now()
        match message:
            case Declared():
                self._book.add_declared(message, now)
            case RawStatement():
                self._hear_statement(message, now)
            case Gathered():
                self._all_heard = message.turn == self._turn and not message.waiting
            case Carried():
                self._hear_time(message, now)
            case Event():
                self._ledger.record(
                    "event", {"event": message.kind, "detail": message.detail, "strong": message.strong}, now
                )
                self._asked_at_ms = None
        if not isinstance(message, Declared):
            self.tick()

    def _hear_statement(self, message: RawStatement, now: Moment) -> None:
        admitted = self._book.add_statement(message, now, utc_ms=self._utc(now))
        if admitted.stamped_utc_ms is None or self._book.anchor is None:
            return
        if not self._stamps.listed:
            self._raise_floor(self._book.anchor, now)

    def _hear_time(self, message: Carried, now: Moment) -> None:
        before = self._stamps.network
        self._stamps.hear(message, now, floor_ms=self._floor_ms)
        anchor = self._stamps.network
        if anchor is not None and anchor is not before:
            self._raise_floor(anchor, now)

    def _raise_floor(self, anchor: TimeAnchor, now: Moment) -> None:
        floor = min(advance(self._floor_ms, anchor), self._latest_floor_ms())
        if floor - self._floor_ms >= FLOOR_STEP_MS:
            self._floor_ms = floor
            self._keep(lambda: self._state.raise_floor(floor))
            self._ledger.record("clock.floor-advanced", {"utc_ms": floor}, now)

    def _latest_floor_ms(self) -> int:
        """No stamp moves the floor beyond the policy's end: a trusted host's clock may be wrong."""
        policy = self._in_force.policy
        return self._floor_ms if policy is None else _instant(policy.valid.until, default=self._floor_ms)

    # -- the kernel ------------------------------------------------------------------------------

    def gate_filenos(self) -> tuple[int, ...]:
        """Readable when the kernel has something to tell about the gate: then call gate_event."""
        return self._gate.filenos() if self.enforcing else ()

    def gate_event(self) -> bool:
        """Somebody changed our rules, or something happened to a device: put right what can be.

        False: it was nothing of ours.
        """
        now = self._clock.now()
        heard = self._gate.heard(self._guarded_policy(), now)
        announced = sorted({event.link.name for event in heard.links if event.announce})
        if announced or heard.lost:
            self._ledger.record(
                "event",
                {
                    "event": "announce" if announced else "links-lost",
                    "detail": ", ".join(announced),
                    "strong": False,
                },
                now,
            )
            self._asked_at_ms = None
        return heard.touched or heard.lost or bool(heard.links)

    def _guarded_policy(self) -> Policy | None:
        """The policy whose rules the gate has; None = the boot file's."""
        return None if self._in_force.outcome is Outcome.CLOSED else self._in_force.policy

    # -- judging and acting ----------------------------------------------------------------------

    def tick(self) -> None:
        """Judge by what is known now, and act.  One verdict is one renewal of the lease."""
        now = self._clock.now()
        if self._in_force.pending is not None and due(self._in_force.pending, now):
            # what is loaded is reverted even while the disk takes no writes
            self.reload()
            return
        if self.enforcing:
            self._gate.repair(self._guarded_policy(), now)
        policy = self._in_force.policy
        if policy is None or self._in_force.outcome is Outcome.CLOSED:
            self._without_policy(now)
            return
        before = self._escalation
        self._decision, self._escalation = take_turn(
            policy,
            self._book.evidence(),
            before,
            now=now,
            utc_ms=self._utc(now),
            stamp=self._stamps.best(self._book.anchor, now),
            timetable=self._timetable,
            failing=self._book.failing(),
            sources=self._book.sources(),
        )
        self._decision = msgspec.structs.replace(
            self._decision,
            findings=self._in_force.findings
            + self._decision.findings
            + self._stamps.findings(self._book.anchor, now),
        )
        if self._decision.wants_stamp:
            self._stamps.ask(now)
        if self._decision.answer is Answer.ALLOW or self._decision.scheduled:
            self._verified = now
        if self._handed_over(now):
            self._tell(now)
            return
        self._handed_until_boot_ms = 0
        if self.enforcing and self._gate.leased and not self._may_pass():
            self._gate.close(
                self._decision.posture, now
            )  # before the disk is asked for anything: it may take its time
        self._remember(before, now)
        self._take(now)
        self._settle()

    def _without_policy(self, now: Moment) -> None:
        """Armed and no policy that can be read: closed except manage.  Not armed: nothing is guarded."""
        closed = self._in_force.outcome is Outcome.CLOSED
        posture = Posture.QUARANTINED if closed else Posture.OPEN
        self._decision = Decision(
            posture=posture,
            answer=Answer.DENY if closed else Answer.ALLOW,
            findings=self._in_force.findings,
        )
        self._settled = True
        self._take(now)

    def _take(self, now: Moment) -> None:
        """Make the VM take the decision's posture."""
        posture = self._decision.posture
        leased = posture in _LEASED
        if not self.enforcing:
            self._tell(now)
            self._note_posture(posture, now)
            return
        if not leased:
            policy = self._guarded_policy()
            if policy is not None and self._decision.services and not self._gate.failed:
                # services with hours of their own, beside a rest that the calendar closes
                self._gate.renew(self._decision, policy, guarded=False)
            elif self._gate.leased:
                self._gate.close(posture, now)
            if posture in _ENDS and self._taken not in _ENDS:
                self._gate.end_flows(self._guarded_policy(), now)
            self._gate.go_on_ending(now)
            self._watch_ways(posture, now)
            self._tell(now)
            if posture is Posture.POWEROFF and self._taken is not Posture.POWEROFF:
                self._ledger.record("posture.intent", {"posture": posture}, now)
                self._act("posture.poweroff", self._power.off, now)
            self._note_posture(posture, now)
            return
        policy = self._in_force.policy
        if (
            policy is None
            or self._gate.failed
            or (self._taken is not posture and not self._may_open(posture, now))
        ):
            self._gate.close(posture, now)
            self._tell(now)
            self._note_posture(Posture.HELD, now)
            return
        self._watch_ways(posture, now)
        opened = self._taken is not posture
        after = self._gate.renew(self._decision, policy, guarded=posture is Posture.GUARDED)
        if after is None:
            return
        self._tell(now)
        self._note_posture(posture, after)
        if opened and posture is Posture.OPEN:
            self._act("services.opened", self._services.open, after)
        # what the renewal itself made the kernel tell must not wake us again
        self.gate_event()

    def _watch_ways(self, posture: Posture, now: Moment) -> None:
        """While the VM is not open: what leads around the gate, and from quarantined on, an end to it."""
        if posture is not Posture.OPEN:
            ways = self._gate.around()
            self._decision = msgspec.structs.replace(self._decision, findings=self._decision.findings + ways)
        if posture in _ENDS:
            self._gate.cut_links(now)
        else:
            self._gate.mend_links(now)

    def _may_open(self, posture: Posture, now: Moment) -> bool:
        """Opening is recorded first, or it does not happen; and not more often than the journal can bear."""
        if not self._ledger.may_open(now):
            often = Finding(
                id="opening.too-often",
                answer=Answer.UNKNOWN,
                expected=f"at most {MOST} openings in {WINDOW_MS // 60_000} minutes",
                found="more: held until the window is over",
            )
            self._decision = msgspec.structs.replace(
                self._decision, findings=(*self._decision.findings, often)
            )
            return False
        return self._ledger.opening(posture, now)

    def _act(self, what: str, act: Callable[[], object], now: Moment) -> None:
        try:
            act()
        except ControlFailed as error:
            self._ledger.record("posture.failed", {"what": what, "why": str(error)}, now)
            self._say(f"{what} failed: {error}")

    # -- remembering and telling -----------------------------------------------------------------

    def _note_posture(self, posture: Posture, now: Moment) -> None:
        if self._taken is posture:
            return
        self._taken, self._taken_at = posture, now
        if self.enforcing:
            self._ledger.record("posture.taken", {"posture": posture}, now)
            if not self._ledger.withheld("posture.taken"):
                self._ledger.sign(now)
            if self._ledger.withheld("decision.changed"):
                # an owner who looks at the console must not be misled; openings bound how often this is
                self._say(describe(self._decision, self._findings(), enforcing=True))

    def _remember(self, before: Escalation, now: Moment) -> None:
        changed = (before.incidents, before.allowed, before.posture) != (
            self._escalation.incidents,
            self._escalation.allowed,
            self._escalation.posture,
        )
        clock = self._escalation.clock
        if clock is not before.clock:
            changed = True
            stepped = clock.offset_ms - before.clock.offset_ms if clock and before.clock else 0
            if abs(stepped) >= clock_mark.STEP_MS:
                self._ledger.record("clock.stepped", {"by_ms": stepped, "utc_ms": now.utc_ms}, now)
        ageing = self._escalation.incidents and now.boot_ms - self._age_written_ms >= AGE_STEP_MS
        if changed or ageing:
            self._age_written_ms = now.boot_ms
            escalation = self._escalation
            self._keep(lambda: self._state.remember(escalation))

    def _keep(self, write: Callable[[], object]) -> None:
        try:
            write()
        except WorldError as error:
            # forgetting never opens: a younger incident still holds the VM closed
            self._say(f"not remembered: {error}")

    def _settle(self) -> None:
        """The first verdict of this boot and policy is final once it allows or everybody has been heard."""
        if self._decision.answer is Answer.ALLOW or self._all_heard:
            self._settled = True

    def _tell(self, now: Moment) -> None:
        """Journal and console, once a change."""
        findings = self._findings()
        told = (self._decision.posture, self._decision.answer, frozenset((f.id, f.found) for f in findings))
        if told == self._told:
            return
        self._told = told
        self._ledger.record(
            "decision.changed",
            {
                "posture": self._decision.posture,
                "answer": self._decision.answer,
                "mode": "enforce" if self.enforcing else "observe",
                **fitting(findings),
            },
            now,
        )
        if self._ledger.withheld("decision.changed"):
            return
        for ask in self._decision.asks:
            self._ledger.record("ask.recorded", msgspec.to_builtins(ask), now)
        self._say(describe(self._decision, findings, enforcing=self.enforcing))

    def _findings(self) -> tuple[Finding, ...]:
        return self._decision.findings + tuple(
            finding for verdict in self._decision.verdicts for finding in verdict.findings
        )

    def _change(self, change: Callable[[Moment], tuple[Change, ...]], now: Moment) -> bool:
        """Change the state on disk and record what was done; True if anything was."""
        try:
            done = change(now)
        except (WorldError, UntrustedInput) as error:
            # what is loaded is judged as if it had been done (store.installed)
            self._say(f"the state on disk is not as it should be: {error}")
            return False
        for one in done:
            self._ledger.record(one.kind, one.body, now)
        return bool(done)

    def _record_untold(self, now: Moment) -> None:
        """Commands change the state while we may not be running; only we write the journal."""
        changes = self._state.untold()
        if changes and all(self._ledger.record(change.kind, change.body, now) for change in changes):
            self._keep(lambda: self._state.told(changes))

    def _utc(self, now: Moment) -> int | None:
        return utc(now, self._stamps.best(self._book.anchor, now), self._floor_ms)

    def _period_ms(self) -> int:
        policy = self._in_force.policy
        rechecks = [
            milliseconds(clause.recheck)
            for clause in ((policy.place, policy.host) if policy is not None else ())
            if clause is not None
        ]
        if policy is not None and policy.hours is not None and policy.hours.time == "trusted":
            rechecks.append(milliseconds(policy.hours.recheck))
        period = max(1_000, min(rechecks, default=60_000) // GATHERS_A_RECHECK)
        decision = self._decision
        # closed by the calendar is as it should be; a stamp that opens it is worth asking for
        content = decision.posture is Posture.OPEN or (decision.scheduled and not decision.wants_stamp)
        return period if content else min(period, IMPATIENT_MS)

    def tick_ms(self) -> int:
        """How long the loop may sleep: a third of the lease, so that one late renewal closes nothing."""
        if self._gate.ending:
            return 0
        policy = self._in_force.policy
        period = milliseconds(policy.gate.lease) // 3 if policy is not None else 5_000
        changes = self._decision.next_change_boot_ms
        if changes is not None:
            # a slot begins when it begins
            period = max(0, min(period, changes - self._clock.now().boot_ms))
        return period

    def status(self) -> Status:
        """Everything that an owner asks first."""
        now = self._clock.now()
        policy, utc_ms = self._in_force.policy, self._utc(now)
        return Status(
            schema="vmwarden.status/1",
            vm=self._audience().vm if self._in_force.enrolment is not None else "",
            tier=0,
            mode="enforce" if self.enforcing else "observe",
            armed=self._in_force.armed,
            enrolled=self._in_force.enrolment is not None,
            posture=self._taken or Posture.HELD,
            posture_since=instant.text(self._taken_at.utc_ms) if self._taken_at is not None else "",
            settled=self._settled,
            last_verified=instant.text(self._verified.utc_ms) if self._verified is not None else "",
            decision=self._decision,
            policy=None
            if policy is None
            else PolicyStatus(
                name=policy.name,
                version=policy.version,
                mode=policy.mode,
                valid_until=policy.valid.until,
                pending_confirm=self._in_force.pending is not None,
            ),
            gate=self._gate.status(now) if self.enforcing else None,
            journal=self._ledger.status(),
            watcher="connected" if self._watcher else "lost",
            trusted_time=instant.text(utc_ms)
            if utc_ms is not None and self._stamps.best(self._book.anchor, now) is not None
            else "",
            notes=self._notes,
        )

    def checkpoint(self) -> str:
        """A signed note over the journal as it stands.  Raises JournalError."""
        return self._ledger.note(self._clock.now())


def _instant(text: str, *, default: int) -> int:
    """A bound of a policy's period; default for a date that no calendar has (policy.period-unreadable)."""
    try:
        return instant.milliseconds(text)
    except UntrustedInput:
        return default
