# SPDX-License-Identifier: Apache-2.0
"""Who began a TCP flow, as nft rules of the first layer: a flow against its direction ends with the lease.

While the gate is open, anybody may begin a flow from the port of manage.out, or this VM one from the port of
manage.in.  Its packets look like replies of manage, and would pass on while closed.  Only their beginning
tells, and this VM's own stack shows it on the way out: with a SYN it begins, with SYN and ACK it lets the
other begin.  So nothing but an outgoing SYN pays for it.  docs/adr/0011 has what was weighed against it.

backward4, backward6: flows that look like replies of manage, reach, a scope or a service (hours.services) and
were begun against their direction; key flow(), no timeout: however long such a flow is idle, it is known.  A
flow with the same addresses and ports that is begun rightly takes the old one out.  Full: no further such
flow begins.
"""

from collections.abc import Iterable, Iterator
from ipaddress import collapse_addresses, ip_address

from vmwarden.model.flow import TcpTable
from vmwarden.model.policy import FlowOut, Policy, Reach
from vmwarden.rules import timed_services
from vmwarden.rules.passing import FAMILIES, Network, address, flow, flow_sets

#: flows of each family; about 100 and 140 bytes each.  Nobody's ordinary clients call from a port of manage.
SIZE = 16_384
SETS = tuple(flow_sets("backward", f"size {SIZE}; flags dynamic;"))
#: for the chain that sees every outgoing packet before the lease does
LOOK = "tcp flags & syn == syn jump begins"

#: family in nft, network of the other end, port
_Flow = tuple[str, Network, int]


def chains(policy: Policy) -> dict[str, list[str]]:
    """Rules of each chain, by name.  Raises Malformed."""
    served, called = list(_grouped(_served(policy))), list(_grouped(_called(policy)))
    timed_answers, timed_begins = timed_services.begun(timed_services.services(policy))
    return {
        "rightly": [f"delete @backward{end} {{ {_key(family)} }}" for family, _, end in FAMILIES],
        "backward": [
            *(f"add @backward{end} {{ {_key(family)} }} return" for family, _, end in FAMILIES),
            "counter drop",
        ],
        "answers": [
            *(f"{networks} tcp sport {ports} goto rightly" for networks, ports in served),
            *(f"{networks} tcp dport {ports} goto backward" for networks, ports in called),
            *timed_answers,
        ],
        "begins": [
            "tcp flags & ack == ack goto answers",
            *(f"{networks} tcp dport {ports} goto rightly" for networks, ports in called),
            *(f"{networks} tcp sport {ports} goto backward" for networks, ports in served),
            *timed_begins,
        ],
    }


def refused(*, inbound: bool) -> list[str]:
    """For a judge, after the lease: flows begun against their direction."""
    return [
        f"{flow(family, 'tcp', inbound=inbound)} @backward{end} counter drop" for family, _, end in FAMILIES
    ]


def begun_before(policy: Policy, table: TcpTable) -> dict[str, tuple[bytes, ...]]:
    """Elements for flows that were begun against their direction before there were rules to see it, by set.

    Told by the port here: somebody listens on it, and no program is given such a port when it calls out.
    The other way round, a call from a port of manage.in, nothing tells it from the owner's own session while
    his sshd restarts: it is not named here.  Raises Malformed.
    """
    timed = policy.hours.services if policy.hours is not None else ()
    of_services = [
        (*address(target.to, f"hours.services {service.name}"), target.tcp)
        for service in timed
        for target in service.out
        if target.tcp is not None
    ]
    served, called = _by_port(_served(policy)), _by_port([*_called(policy), *of_services])
    found: dict[str, list[bytes]] = {f"backward{end}": [] for _, _, end in FAMILIES}
    for each in table.established:
        remote = ip_address(each.remote)
        if (
            each.local_port in table.listening
            and any(remote in network for network in called.get(each.remote_port, ()))
            and not any(remote in network for network in served.get(each.local_port, ()))
        ):
            # the parts of a key are padded to four bytes each
            ports = (number.to_bytes(2) + bytes(2) for number in (each.remote_port, each.local_port))
            key = b"".join(part for end in zip((each.remote, each.local), ports, strict=True) for part in end)
            found["backward4" if len(each.remote) == 4 else "backward6"].append(key)
    return {name: tuple(keys) for name, keys in found.items()}


def _key(family: str) -> str:
    return flow(family, "tcp", inbound=False)


def _served(policy: Policy) -> list[_Flow]:
    """TCP to ports of this VM."""
    entries = [
        *((entry, "manage.in") for entry in policy.manage.in_),
        *((entry, f"scope {scope.name}") for scope in policy.scopes for entry in scope.in_),
    ]
    return [(*address(entry.from_, where), entry.tcp) for entry, where in entries if entry.tcp is not None]


def _called(policy: Policy) -> list[_Flow]:
    """TCP to ports of others."""
    targets: list[tuple[FlowOut | Reach, str]] = [
        *((target, "manage.out") for target in policy.manage.out),
        *((service, "reach") for service in policy.reach),
        *((target, f"scope {scope.name}") for scope in policy.scopes for target in scope.out),
    ]
    return [(*address(target.to, where), target.tcp) for target, where in targets if target.tcp is not None]


def _by_port(flows: Iterable[_Flow]) -> dict[int, list[Network]]:
    found: dict[int, list[Network]] = {}
    for _, network, port in flows:
        found.setdefault(port, []).append(network)
    return found


def _grouped(flows: Iterable[_Flow]) -> Iterator[tuple[str, str]]:
    """(the networks of the other ends, the ports), as few as they can be: a SYN goes through all of them."""
    networks: dict[tuple[str, int], list[Network]] = {}
    for family, network, port in flows:
        networks.setdefault((family, port), []).append(network)
    ports: dict[tuple[str, str], list[str]] = {}
    for (family, port), those in sorted(networks.items(), key=lambda item: item[0]):
        collapsed = collapse_addresses(those)  # type: ignore[type-var]
        ports.setdefault((family, ", ".join(str(each) for each in collapsed)), []).append(str(port))
    for (family, joined), numbers in ports.items():
        yield f"{family} daddr {{ {joined} }}", f"{{ {', '.join(numbers)} }}"
