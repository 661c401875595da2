# SPDX-License-Identifier: Apache-2.0
"""The network gate."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from vmwarden.model.handover import GateHandover
from vmwarden.model.link import LinkEvent
from vmwarden.model.policy import Policy
from vmwarden.model.verdict import Finding

#: A shorter permission is none.  The kernel counts in ticks of up to 10 ms (HZ=100), and before the change
#: "netfilter: nf_tables: elements with timeout below CONFIG_HZ never expire" it took an end of less than one
#: tick for no end at all: such a lease would stay open.
SHORTEST_LEASE_MS = 20
#: the longest T that design.md allows; asking for more is a mistake of ours
LONGEST_LEASE_MS = 30_000


@dataclass(frozen=True, slots=True)
class Heard:
    """What the kernel told the gate.

    touched: another process has changed our rules, or may have.  links: what happened to the devices.
    lost: there was more about the devices, and it is not known what.
    """

    touched: bool = False
    links: tuple[LinkEvent, ...] = ()
    lost: bool = False


@dataclass(frozen=True, slots=True)
class ServiceLeases:
    """By name of the service, milliseconds from now: how long its flows pass, and how long new ones begin."""

    passing: Mapping[str, int]
    beginning: Mapping[str, int]


class Gate(Protocol):
    """Closes the VM's network, except manage, and holds it open by leases that lapse by themselves.

    All methods raise ControlFailed; the gate is then as closed as it was.
    """

    def install(self, policy: Policy) -> None:
        """Put the closed rules in place, atomically; a lease that runs goes on under the new rules.

        Installing what stands already changes nothing.  Raises Malformed too: the policy has no rules.
        """
        ...

    def restore(self, rules: str) -> None:
        """As install, by the text of a boot file: for a VM whose policy cannot be read any more."""
        ...

    def lease(
        self,
        milliseconds: int,
        *,
        guarded: bool = False,
        new_flows_ms: int | None = None,
        services: ServiceLeases | None = None,
    ) -> None:
        """Renew: permit traffic for so long from now.  guarded: only the named scopes.

        services: those with hours of their own that may pass, also beside a rest that may not (0 ms).

        new_flows_ms: flows begin only for so long; then, until the end, open ones live and new ones are
        refused.  It needs a policy with a drain.  None: as long as the lease.

        There is one lease: this one takes the place of the one before, also of the other kind.
        Below SHORTEST_LEASE_MS it is flush.  Raises BugError above LONGEST_LEASE_MS.
        """
        ...

    def flush(self) -> None:
        """End every lease at once."""
        ...

    def end_flows(self, milliseconds: int) -> None:
        """For so long tell both ends of a flow that is refused that it has ended: forwarded TCP is answered
        with resets, and those of the VM's own sockets get out."""
        ...

    def installed(self) -> bool:
        """Whether all our rules stand, as this gate has put them."""
        ...

    def left_behind(self) -> bool:
        """Whether rules of ours stand that this gate has not put there: the boot file's, or older."""
        ...

    def filenos(self) -> tuple[int, ...]:
        """Readable when there is something to be heard; () = not installed yet."""
        ...

    def heard(self) -> Heard:
        """What happened since the last time.  Devices that came have been gated."""
        ...

    def around(self) -> tuple[Finding, ...]:
        """What carries packets around the gate now, and what of the gate could not be had here."""
        ...

    def cut_links(self) -> tuple[str, ...]:
        """Switch off every uplink that a way leads around; manage ends there, too.  The names of those that
        were switched off by this call."""
        ...

    def mend_links(self) -> tuple[str, ...]:
        """Switch on again what cut_links has switched off.  Their names."""
        ...

    def closes_on_death(self) -> str:
        """For people: when the network closes if this process dies, on this kernel."""
        ...

    def on_flush(self) -> str:
        """For people: what happens if somebody else deletes our rules, on this kernel."""
        ...

    def out_of_reach(self) -> tuple[str, ...]:
        """For people: what of this machine carries data and is not judged; a few words each."""
        ...

    def hand_over(self) -> GateHandover | None:
        """What a successor in this process needs to hold the gate on; its descriptors stay open, this gate is
        not used any more.  None: not installed."""
        ...

    def take_over(self, word: GateHandover) -> None:
        """Hold on what the predecessor held; then install, which changes nothing where nothing is new."""
        ...

    def remove(self) -> None:
        """Leave no trace.  Removing twice is no error."""
        ...
