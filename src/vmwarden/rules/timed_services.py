# SPDX-License-Identifier: Apache-2.0
"""Services with hours of their own (hours.services), as nft rules: the same for both layers.

A packet is of a service if its other end and its port are.  While the service is leased it passes, also where
the rest of the VM is closed; while it is not, it meets a closed gate (chain closed_in or closed_out), also
where the rest is open.

    timed_<way>      by protocol and port alone, in one look-up: nearly every packet of others ends here
    asked_<way>      what asks a service: address, protocol and port to the chain of its number, one look-up
    answered_<way>   what answers one, of TCP only what can be no beginning
    leased_<number>  passes while the number is in the set `service`; in `service_drain`, if it begins nothing

So what a packet costs does not depend on how many services there are.  The port stands first in a key:
for each element that agrees in the fields so far, the kernel's look-up of ranges takes a step more
(nft_set_pipapo).

A number stands for a service, or for several that claim the very same flow: those pass while all of them may.
Of two address ranges the narrower counts.  nft can look up the address in a map or in a set with times, and
not in one through the other: the chain is what carries the number from the first to the second.

way: in, out, and forward.  A forwarded packet is judged as inbound when it comes, and as outbound when it
goes; it may be refused as a service's, and it never passes as one.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from vmwarden.model.policy import Policy
from vmwarden.rules import drain
from vmwarden.rules.passing import FAMILIES, Network, address, named_set, port

#: numbers of services that pass; element: number_key, with what is left of the lease
SET = "service"
#: numbers of services whose open flows live on while none begins; in a policy with a drain
DRAIN_SET = "service_drain"

#: In front of timed_<way> where the rest of the VM is open: a later fragment has no ports, and the first is
#: judged, without which it is of no use.
FRAGMENTS_PASS = ("ip frag-off & 0x1fff != 0 accept", "frag frag-off != 0 accept")
#: a segment of TCP that is no reply (see passing.REPLIES)
_NO_REPLY = "tcp flags & ack == 0x0 tcp flags & (syn | rst) != rst return"
#: of a first fragment that ends before its flags nothing is certain: it does not pass
_BEGUN = ("tcp flags & (syn | ack) != syn accept", "meta l4proto udp accept")


@dataclass(frozen=True, slots=True)
class Claim:
    """Which number a flow has.  first, last: the addresses of the other end; family: ip or ip6."""

    family: str
    first: str
    last: str
    protocol: str
    port: int
    number: int

    @property
    def others(self) -> str:
        """The addresses, in nft."""
        return self.first if self.first == self.last else f"{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class Services:
    """All services of a policy.  served: flows to ports of this VM; called: to ports of others.

    numbers: by number less one, the names of the services that it stands for.  drains: there is a drain.
    """

    served: tuple[Claim, ...]
    called: tuple[Claim, ...]
    numbers: tuple[frozenset[str], ...]
    drains: bool

    def elements(
        self, leases: Mapping[str, int], new_flows: Mapping[str, int] | None = None
    ) -> dict[str, list[tuple[bytes, int]]]:
        """What has to be in which set of a table, of either layer: key and milliseconds from now.

        leases: by name of the service, how long its flows may pass; not there = not.  new_flows: how long new
        ones may begin; None = as long.  Every set of the tables is named, also one that has to be empty.
        """
        begin = leases if new_flows is None else new_flows
        found = {SET: list(self._timed(begin, leases))}
        if self.drains:
            found[DRAIN_SET] = list(self._timed(leases, leases))
        return found

    def _timed(self, one: Mapping[str, int], other: Mapping[str, int]) -> Iterator[tuple[bytes, int]]:
        for number, names in enumerate(self.numbers, start=1):
            milliseconds = min(min(one.get(name, 0), other.get(name, 0)) for name in names)
            if milliseconds > 0:
                yield number_key(number), milliseconds


def number_key(number: int) -> bytes:
    """The key in SET and DRAIN_SET: a mark, four bytes in the machine's own order."""
    return struct.pack("=I", number)


def there_are(policy: Policy) -> bool:
    """Whether the policy has services with hours of their own."""
    return policy.hours is not None and bool(policy.hours.services)


def services(policy: Policy) -> Services:
    """Raises Malformed: an address that is none, a flow without exactly one port."""
    known: dict[frozenset[str], int] = {}
    served: list[tuple[str, Network, str, int, str]] = []
    called: list[tuple[str, Network, str, int, str]] = []
    for service in policy.hours.services if policy.hours is not None else ():
        known[frozenset((service.name,))] = len(known) + 1
        where = f"hours.services {service.name}"
        for entry in service.in_:
            served.append((*address(entry.from_, where), *port(entry.tcp, entry.udp, where), service.name))
        for target in service.out:
            called.append((*address(target.to, where), *port(target.tcp, target.udp, where), service.name))
    claims = tuple(_claims(served, known)), tuple(_claims(called, known))
    return Services(*claims, tuple(known), drain.asked(policy))


def sets(found: Services) -> list[str]:
    """Of a table."""
    names = (SET, DRAIN_SET) if found.drains else (SET,)
    return [named_set(name, "type mark", "flags timeout;") for name in names]


def leased_chains(found: Services) -> dict[str, list[str]]:
    """A chain for each number, for all ways."""
    chains: dict[str, list[str]] = {}
    if found.drains:
        chains["service_drained"] = list(_BEGUN)
    for number in range(1, len(found.numbers) + 1):
        # nothing of the mark is left in this, so that it is the number
        key = f"meta mark & 0x00000000 | {number:#010x}"
        rules = [f"{key} @{SET} accept"]
        if found.drains:
            rules.append(f"{key} @{DRAIN_SET} goto service_drained")
        chains[f"leased_{number}"] = rules
    return chains


def way_chains(found: Services, way: str, *, refused: str) -> dict[str, list[str]]:
    """timed_<way> and what it jumps to.  It comes back with what is of no service.

    refused: what happens to a packet of a service that is not leased.  Not in front of it: later fragments,
    whose ports are none.
    """
    inbound = way == "in"
    asked, answered = (found.served, found.called) if inbound else (found.called, found.served)
    end = "saddr" if inbound else "daddr"
    timed: list[str] = []
    chains: dict[str, list[str]] = {}
    for name, claims, field, first in (
        ("asked", asked, "dport", ()),
        ("answered", answered, "sport", (_NO_REPLY,)),
    ):
        if not claims:
            continue
        ports = dict.fromkeys(f"{claim.protocol} . {claim.port}" for claim in claims)
        timed.append(f"meta l4proto . th {field} {_braces(ports)} jump {name}_{way}")
        rules = list(first)
        for family, those in _by_family(claims):
            key = f"th {field} . meta l4proto . {family} {end}"
            named = [(f"{claim.port} . {claim.protocol} . {claim.others}", claim.number) for claim in those]
            rules.append(f"{key} vmap {_braces(f'{each} : jump leased_{number}' for each, number in named)}")
            rules.append(f"{key} {_braces(each for each, _ in named)} {refused}")
        chains[f"{name}_{way}"] = rules
    return chains | {f"timed_{way}": timed}


def outgoing(found: Services) -> tuple[list[str], list[str]]:
    """(served, called): what an outgoing packet of TCP has to match, for rules.direction."""
    served, called = (
        [f"tcp {field} . {family} daddr {_others(those)}" for family, those in _by_family(_tcp(claims))]
        for field, claims in (("sport", found.served), ("dport", found.called))
    )
    return served, called


def _claims(
    flows: Iterable[tuple[str, Network, str, int, str]], known: dict[frozenset[str], int]
) -> Iterator[Claim]:
    """Ranges that do not overlap.  known: the numbers given so far, by the services that they stand for."""
    by_port: dict[tuple[str, str, int], dict[Network, set[str]]] = {}
    for family, network, protocol, number, name in flows:
        by_port.setdefault((family, protocol, number), {}).setdefault(network, set()).add(name)
    for (family, protocol, number), networks in sorted(by_port.items()):
        for first, last, network in _narrowest(networks):
            names = frozenset(networks[network])
            given = known.setdefault(names, len(known) + 1)
            kind = type(network.network_address)
            yield Claim(family, str(kind(first)), str(kind(last)), protocol, number, given)


def _narrowest(networks: Iterable[Network]) -> Iterator[tuple[int, int, Network]]:
    """(first, last, the narrowest network around them), of networks of one family."""
    around: list[tuple[int, Network]] = []
    at = 0
    for network in sorted(networks, key=lambda each: (int(each.network_address), each.prefixlen)):
        first = int(network.network_address)
        while around and around[-1][0] < first:
            last, outer = around.pop()
            if at <= last:
                yield at, last, outer
                at = last + 1
        if around and at < first:
            yield at, first - 1, around[-1][1]
        at = first
        around.append((int(network.broadcast_address), network))
    while around:
        last, outer = around.pop()
        if at <= last:
            yield at, last, outer
            at = last + 1


def _by_family(claims: Iterable[Claim]) -> Iterator[tuple[str, list[Claim]]]:
    every = list(claims)
    for family, _, _ in FAMILIES:
        if those := [claim for claim in every if claim.family == family]:
            yield family, those


def _tcp(claims: Iterable[Claim]) -> list[Claim]:
    return [claim for claim in claims if claim.protocol == "tcp"]


def _others(claims: Iterable[Claim]) -> str:
    return _braces(f"{claim.port} . {claim.others}" for claim in claims)


def _braces(elements: Iterable[str]) -> str:
    return f"{{ {', '.join(elements)} }}"
