# SPDX-License-Identifier: Apache-2.0
"""Holding the gate: installing, renewing, closing, repairing, and what of it goes into the record.

Closing acts first and records after.
"""

from collections.abc import Callable

from vmwarden.errors import ControlFailed, UntrustedInput
from vmwarden.model.control import GateStatus
from vmwarden.model.decision import Decision
from vmwarden.model.handover import GateHandover
from vmwarden.model.moment import Moment
from vmwarden.model.policy import Policy
from vmwarden.model.posture import Posture
from vmwarden.model.verdict import Finding
from vmwarden.ports.clock import Clock
from vmwarden.ports.flows import TURN_MS, Flows
from vmwarden.ports.gate import Gate, Heard, ServiceLeases
from vmwarden.rules import lease
from vmwarden.warden.ledger import Ledger

#: The lease that a warden leaves to the program that takes its place: longer than T, because nobody renews it
#: meanwhile (design.md, the gate, rule 10).
HANDOVER_MS = 10_000
#: for so long after the closing the other ends of flows are told; TCP tries again within this (RFC 6298)
ENDING_MS = 5_000
#: between computing a lease and the kernel holding it; the largest seen was 0.34 ms (reference of the gate)
UNCERTAINTY_MS = 5
#: a renewal that took longer than that is made again with room for what it took, before the gate is closed
_RENEWALS = 2


class Gatekeeper:
    """One gate and its lease.  No method raises for what the gate cannot do: it is recorded and said."""

    def __init__(
        self,
        gate: Gate,
        *,
        flows: Flows,
        ledger: Ledger,
        clock: Clock,
        boot_rules: Callable[[], str],
        say: Callable[[str], None],
    ) -> None:
        """boot_rules: the closed rules of the last good policy, for when there is none that can be read."""
        self._gate = gate
        self._flows = flows
        self._ending = False
        self._ledger = ledger
        self._clock = clock
        self._boot_rules = boot_rules
        self._say = say
        self._until_boot_ms = 0
        self._failed = False

    @property
    def leased(self) -> bool:
        """Whether a lease may be running that nobody has ended."""
        return self._until_boot_ms > 0

    @property
    def failed(self) -> bool:
        """Whether the rules of the policy could not be had: then nothing is leased."""
        return self._failed

    def filenos(self) -> tuple[int, ...]:
        """Readable when the kernel has something to tell: then call heard."""
        try:
            return self._gate.filenos()
        except ControlFailed:
            return ()

    def heard(self, policy: Policy | None, now: Moment) -> Heard:
        """What the kernel tells; rules of ours that somebody changed have been put back."""
        try:
            heard = self._gate.heard()
        except ControlFailed:
            # a device that cannot be gated, a socket that failed: look at everything
            heard = Heard(touched=True, lost=True)
        if heard.touched:
            self.repair(policy, now)
        return heard

    def install(self, policy: Policy | None, now: Moment, kind: str = "gate.installed") -> None:
        """Our rules; what runs on a lease goes on under the new ones.  None: the boot file's."""
        try:
            if policy is None:
                self._gate.restore(self._boot_rules())
            else:
                self._gate.install(policy)
        except (ControlFailed, UntrustedInput) as error:
            if not self._failed:
                self._ledger.record("posture.failed", {"posture": Posture.HELD, "why": str(error)}, now)
                self._say(f"the gate was not installed: {error}")
            self._failed = True
            self._shut()
            return
        self._failed = False
        self._ledger.record(
            kind, {} if policy is None else {"policy": policy.name, "version": policy.version}, now
        )

    def repair(self, policy: Policy | None, now: Moment) -> None:
        """Put our rules back if somebody took them away, or if they could not be had before."""
        if self._failed:
            self.install(policy, now)
        elif not self._standing():
            self.install(policy, now, "gate.repaired")

    def renew(self, decision: Decision, policy: Policy, *, guarded: bool) -> Moment | None:
        """One lease, as long as the decision bears.  When it was granted; None = closed."""
        uncertainty_ms = UNCERTAINTY_MS
        for _ in range(_RENEWALS):
            # putting an opening on record took its time since the decision
            now = self._clock.now()
            ms = lease.milliseconds(decision, policy, now=now, uncertainty_ms=uncertainty_ms)
            services = _services(decision, policy, now, uncertainty_ms)
            if ms <= 0 and services is None:
                break
            self._ending = False
            fresh = lease.for_new_flows(decision.opening, ms, now=now, uncertainty_ms=uncertainty_ms)
            try:
                self._gate.lease(
                    ms, guarded=guarded, new_flows_ms=fresh if fresh < ms else None, services=services
                )
            except ControlFailed as error:
                # an answer that was lost may have been a yes: the next closing has to end what may run
                self._until_boot_ms = now.boot_ms + ms
                self._ledger.record("posture.failed", {"posture": decision.posture, "why": str(error)}, now)
                if not self._ledger.withheld("posture.failed"):
                    self._say(f"the gate cannot be opened: {error}")
                self.install(policy, now)
                return None
            after = self._clock.now()
            self._until_boot_ms = after.boot_ms + ms
            took_ms, limit = after.boot_ms - now.boot_ms, decision.lease_until_boot_ms
            too_long = limit is not None and self._until_boot_ms > limit + UNCERTAINTY_MS
            if not too_long and not (services and took_ms > uncertainty_ms):
                return after
            # we did not run between computing and sending: the kernel would hold it open too long
            uncertainty_ms = 2 * took_ms + UNCERTAINTY_MS
        self.close(decision.posture, self._clock.now())
        return None

    def close(self, posture: Posture, now: Moment) -> None:
        """End the lease.  posture: what it is closed for, for the record of a failure."""
        self._until_boot_ms = 0
        try:
            self._gate.flush()
        except ControlFailed as error:
            # the lease still lapses by itself; say so and try again with the next tick
            self._until_boot_ms = now.boot_ms + 1
            self._ledger.record("posture.failed", {"posture": posture, "why": str(error)}, now)

    def hand_over(self, decision: Decision, now: Moment, *, guarded: bool) -> tuple[GateHandover | None, int]:
        """What a successor needs, and CLOCK_BOOTTIME until which what is open now stays open (0 = it is not).

        The lease is no longer than what supports it.  Nothing may be asked of the gate afterwards.
        """
        until = 0
        if self.leased:
            end = decision.lease_until_boot_ms
            left = HANDOVER_MS if end is None else min(HANDOVER_MS, end - now.boot_ms)
            ms = max(0, left - UNCERTAINTY_MS)
            try:
                self._gate.lease(ms, guarded=guarded)
                until = now.boot_ms + ms if ms else 0
            except ControlFailed as error:
                # the lease that runs goes on to its end
                until = self._until_boot_ms
                self._ledger.record("posture.failed", {"what": "warden.handed-over", "why": str(error)}, now)
        return self._gate.hand_over(), until

    def take_over(self, word: GateHandover, until_boot_ms: int) -> None:
        """Hold on what the predecessor held; its lease runs until then."""
        try:
            self._gate.take_over(word)
        except ControlFailed as error:
            # installing says whether the gate can be had at all
            self._say(f"the gate was not taken over: {error}")
        self._until_boot_ms = until_boot_ms

    def end_flows(self, policy: Policy | None, now: Moment) -> None:
        """Tell both ends of what the closed gate refuses; go on with go_on_ending."""
        if policy is None:
            return  # nobody knows which flows are to stay
        try:
            self._gate.end_flows(ENDING_MS)
            self._flows.begin(policy)
        except ControlFailed as error:
            # they end by their own patience: nothing passes
            self._ledger.record("posture.failed", {"what": "flows.ended", "why": str(error)}, now)
            return
        self._ending = True

    @property
    def ending(self) -> bool:
        """Whether go_on_ending has more to do."""
        return self._ending

    def go_on_ending(self, now: Moment) -> None:
        """A turn of it, of about TURN_MS."""
        if not self._ending:
            return
        try:
            progress = self._flows.go_on(TURN_MS)
        except ControlFailed as error:
            self._ending = False
            self._ledger.record("posture.failed", {"what": "flows.ended", "why": str(error)}, now)
            return
        if progress.done:
            self._ending = False
            if progress.ended or progress.refused:
                told = {"ended": progress.ended, "kept": progress.kept, "refused": progress.refused}
                self._ledger.record("flows.ended", told, now)

    def around(self) -> tuple[Finding, ...]:
        """What carries packets around the gate now."""
        try:
            return self._gate.around()
        except ControlFailed:
            return ()  # repair tells of a gate that is not there

    def cut_links(self, now: Moment) -> None:
        """Switch off the uplinks that a way leads around."""
        try:
            cut = self._gate.cut_links()
        except ControlFailed as error:
            self._ledger.record("posture.failed", {"what": "gate.link-down", "why": str(error)}, now)
            return
        if cut:
            self._ledger.record("gate.link-down", {"links": list(cut)}, now)
            self._say(f"switched off, because something leads around the gate: {', '.join(cut)}")

    def mend_links(self, now: Moment) -> None:
        """Switch on again what cut_links switched off."""
        try:
            mended = self._gate.mend_links()
        except ControlFailed as error:
            self._ledger.record("posture.failed", {"what": "gate.link-up", "why": str(error)}, now)
            return
        if mended:
            self._ledger.record("gate.link-up", {"links": list(mended)}, now)
            self._say(f"switched on again: {', '.join(mended)}")

    def clear(self, now: Moment) -> None:
        """Nothing is enforced, and the boot file may have closed the VM before that was known: nobody else
        would open it again."""
        try:
            if not self._gate.left_behind():
                return
        except ControlFailed:
            return  # nobody who may not look has put anything there
        self.remove(now)

    def remove(self, now: Moment) -> None:
        """Leave no trace."""
        self._until_boot_ms = 0
        try:
            self._gate.remove()
        except ControlFailed as error:
            self._ledger.record("posture.failed", {"what": "gate.removed", "why": str(error)}, now)
            self._say(f"gate.removed failed: {error}")
            return
        self._ledger.record("gate.removed", {}, now)

    def status(self, now: Moment) -> GateStatus:
        """What holds on this kernel."""
        lease_ms = max(0, self._until_boot_ms - now.boot_ms)
        try:
            return GateStatus(
                installed=self._gate.installed(),
                closes=self._gate.closes_on_death(),
                flushed=self._gate.on_flush(),
                lease_ms=lease_ms,
                out_of_reach=self._gate.out_of_reach(),
            )
        except ControlFailed as error:
            return GateStatus(installed=False, closes=str(error), lease_ms=lease_ms)

    def _standing(self) -> bool:
        try:
            return self._gate.installed()
        except ControlFailed:
            return False

    def _shut(self) -> None:
        """The rules of the policy cannot be had (a user is gone): the boot file's stand in for them."""
        if self._standing():
            return
        try:
            self._gate.restore(self._boot_rules())
        except (ControlFailed, UntrustedInput):
            pass  # install has said why, and tries again with the next tick


def _services(decision: Decision, policy: Policy, now: Moment, uncertainty_ms: int) -> ServiceLeases | None:
    """The leases of services with hours of their own; None = none may pass."""
    passing = lease.services(decision, policy, now=now, uncertainty_ms=uncertainty_ms)
    if not passing:
        return None
    beginning = {
        opening.service: lease.for_new_flows(
            opening, passing[opening.service], now=now, uncertainty_ms=uncertainty_ms
        )
        for opening in decision.services
        if opening.service in passing
    }
    return ServiceLeases(passing, beginning)
