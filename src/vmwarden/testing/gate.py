# SPDX-License-Identifier: Apache-2.0
"""A gate without a kernel."""

from typing import Literal

from vmwarden.errors import BugError, ControlFailed
from vmwarden.model.handover import GateHandover
from vmwarden.model.policy import Policy
from vmwarden.model.verdict import Finding
from vmwarden.ports.clock import Clock
from vmwarden.ports.gate import LONGEST_LEASE_MS, SHORTEST_LEASE_MS, Heard, ServiceLeases
from vmwarden.rules.ruleset import closed

#: what passes: everything because there is no gate, everything by a lease, manage and scopes, manage
Passing = Literal["free", "open", "guarded", "manage"]


class FakeGate:
    """Behaves as ports.gate.Gate by the clock it is given; tests/contract holds it to the real one.

    acts: every call, in order: ("install", name, version), ("restore", rules), ("lease", ms, guarded),
    ("flush",), ("remove",).
    failing: set it, and every method raises ControlFailed with that text until it is "" again.
    told: what heard() says next, once.  ways: what around() finds; cut_links switches off their devices.
    """

    def __init__(self, clock: Clock, *, uid: int = 1000) -> None:
        """uid: stands for every user that a policy names."""
        self._clock = clock
        self._uid = uid
        self._rules = ""
        self._holding = False
        self._until_boot_ms = 0
        self._boot_id = ""
        self._guarded = False
        self.acts: list[tuple[str | int | bool, ...]] = []
        self.failing = ""
        self.told = Heard()
        self.ways: tuple[Finding, ...] = ()
        #: of the last lease
        self.services: ServiceLeases | None = None
        self._cut: tuple[str, ...] = ()

    def install(self, policy: Policy) -> None:
        self._act("install", policy.name, policy.version)
        self._rules = closed(policy, users={service.as_: self._uid for service in policy.reach})
        self._holding = True

    def restore(self, rules: str) -> None:
        self._act("restore", rules)
        self._rules = rules
        self._holding = True

    def filenos(self) -> tuple[int, ...]:
        return ()

    def heard(self) -> Heard:
        self._may_fail()
        told, self.told = self.told, Heard()
        return told

    def around(self) -> tuple[Finding, ...]:
        return self.ways

    def cut_links(self) -> tuple[str, ...]:
        self._may_fail()
        cut = tuple(dict.fromkeys(way.subject for way in self.ways if way.subject not in self._cut))
        self._cut += cut
        if cut:
            self.acts.append(("cut_links", *cut))
        return cut

    def mend_links(self) -> tuple[str, ...]:
        self._may_fail()
        mended, self._cut = self._cut, ()
        if mended:
            self.acts.append(("mend_links", *mended))
        return mended

    def hand_over(self) -> GateHandover | None:
        self._act("hand_over")
        if not self._holding:
            return None
        return GateHandover(connection=3, keeper=4, fingerprint="f", rules="r", permit="p", form="m")

    def take_over(self, word: GateHandover) -> None:
        self._act("take_over")
        self._holding = True

    def closes_on_death(self) -> str:
        return "at once"

    def on_flush(self) -> str:
        return "they stay"

    def out_of_reach(self) -> tuple[str, ...]:
        return ("serial line ttyS0",)

    def end_flows(self, milliseconds: int) -> None:
        self._act("end_flows", milliseconds)
        self._needs_hold()

    def lease(
        self,
        milliseconds: int,
        *,
        guarded: bool = False,
        new_flows_ms: int | None = None,
        services: ServiceLeases | None = None,
    ) -> None:
        if milliseconds > LONGEST_LEASE_MS:
            raise BugError(f"a lease of {milliseconds} ms: at most {LONGEST_LEASE_MS}")
        self._act("lease", milliseconds, guarded, *(() if new_flows_ms is None else (new_flows_ms,)))
        self._needs_hold()
        self.services = services
        granted = milliseconds if milliseconds >= SHORTEST_LEASE_MS else 0
        now = self._clock.now()
        self._until_boot_ms = now.boot_ms + granted
        self._boot_id = now.boot_id
        self._guarded = guarded

    def flush(self) -> None:
        self._act("flush")
        self._needs_hold()
        self._until_boot_ms = 0

    def installed(self) -> bool:
        self._may_fail()
        return self._holding and bool(self._rules)

    def left_behind(self) -> bool:
        self._may_fail()
        return bool(self._rules) and not self._holding

    def remove(self) -> None:
        self._act("remove")
        self._rules = ""
        self._holding = False
        self._until_boot_ms = 0

    def passing(self) -> Passing:
        """What passes now; not part of the port."""
        if not self._rules:
            return "free"
        now = self._clock.now()
        if now.boot_ms >= self._until_boot_ms or now.boot_id != self._boot_id:
            return "manage"
        return "guarded" if self._guarded else "open"

    def tamper(self) -> None:
        """Somebody else deletes the rules, as `nft flush ruleset` does; not part of the port."""
        self._rules = ""

    def die(self) -> None:
        """The process that holds the gate dies: the rules stay, the permit goes; not part of the port."""
        self._holding = False
        self._until_boot_ms = 0

    def _act(self, *act: str | int | bool) -> None:
        self._may_fail()
        self.acts.append(act)

    def _may_fail(self) -> None:
        if self.failing:
            raise ControlFailed(self.failing)

    def _needs_hold(self) -> None:
        if not self._holding:
            raise ControlFailed("the gate is not installed", mend="install it first")
