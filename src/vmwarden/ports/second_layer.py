# SPDX-License-Identifier: Apache-2.0
"""What the first layer of the gate needs of the second, which stands at the devices, and of the watch for
ways around both."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from vmwarden.model.handover import SecondLayerHandover
from vmwarden.model.link import GoneUplink, LinksHeard, Uplink
from vmwarden.model.policy import Policy
from vmwarden.model.verdict import Finding

Message = TypeVar("Message", covariant=True)
#: by set: keys, and milliseconds from now
Elements = Mapping[str, Sequence[tuple[bytes, int]]]


@dataclass(frozen=True, slots=True)
class Left:
    """Milliseconds of the first layer's lease that the second may have, 0 = none.  guarded: for the scopes
    only.  drained: for open flows."""

    milliseconds: int = 0
    guarded: bool = False
    drained: int = 0


class SecondLayer(Protocol[Message]):
    """All methods raise ControlFailed; what stood then stands as it was.  Message: the kernel's."""

    def install(self, policy: Policy, *, left: Callable[[], Left]) -> None:
        """Closed rules at every uplink; a lease that runs goes on.  Raises Malformed too.

        left: asked where the table has to be made anew; services with hours of their own wait for the next
        renewal then, as they do in the first layer.
        """
        ...

    def renewal(
        self, milliseconds: int, *, guarded: bool, drained: int = 0, services: Elements | None = None
    ) -> Sequence[Message]:
        """What renews the lease, for a transaction that renews the first layer's, too.

        drained: for so long open flows live, where the lease does not run.  services: what is to be in which
        set, of a policy that has services with hours of their own (rules.timed_services).
        """
        ...

    def ending(self) -> Sequence[Message]:
        """What ends the lease, for a transaction that ends the first layer's, too."""
        ...

    def switched(self, name: str, milliseconds: int) -> Sequence[Message]:
        """What switches on for so long what the rules call so (rules.ending, rules.booting)."""
        ...

    def installed(self) -> bool:
        """Whether everything stands as this process made it, at every uplink that could be gated."""
        ...

    def fileno(self) -> int:
        """Readable when something happened to a device: then call link_event."""
        ...

    def link_event(self) -> LinksHeard:
        """What happened to the devices; each uplink has already been given what it now needs."""
        ...

    def uplinks(self) -> tuple[Uplink, ...]:
        """As of the last look, gated or not."""
        ...

    def ungated(self) -> Mapping[str, str]:
        """Uplinks that have not both chains, by name, and why."""
        ...

    def gone(self) -> tuple[GoneUplink, ...]:
        """Uplinks that were moved to another namespace and have not come back."""
        ...

    def remove(self) -> None:
        """Leave no trace."""
        ...

    def hand_over(self) -> SecondLayerHandover:
        """What a successor in this process needs to go on without touching anything."""
        ...

    def take_over(self, word: SecondLayerHandover) -> None:
        """Go on where the predecessor stopped; before install."""
        ...

    def close(self) -> None:
        """Let go; the closed rules stay, and the lease lapses."""
        ...


class Around(Protocol):
    """Looks for what carries packets around both layers."""

    def look(
        self, uplinks: Iterable[Uplink], *, gone: Iterable[GoneUplink], ungated: Mapping[str, str]
    ) -> tuple[Finding, ...]:
        """Every way around that there is now.  What cannot be read is a finding, too; it raises nothing."""
        ...

    def link_down(self, uplink: Uplink) -> None:
        """Switch it off.  Raises ControlFailed."""
        ...

    def link_up(self, uplink: Uplink) -> None:
        """Switch it on again, if it is still there.  Raises ControlFailed."""
        ...

    def unjudged(self) -> tuple[str, ...]:
        """For people: what of this machine's devices neither layer judges; a few words each."""
        ...

    def switched_off(self) -> tuple[Uplink, ...]:
        """Those that are off by link_down, also of a warden before this one.  Raises ControlFailed."""
        ...

    def close(self) -> None:
        """Let go."""
        ...
