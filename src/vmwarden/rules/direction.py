# SPDX-License-Identifier: Apache-2.0
"""Who began a TCP flow, as nft rules of the first layer: a flow against its direction ends with the lease.

While the gate is open, anybody may begin a flow from the port of manage.out, or this VM one from the port of
manage.in.  Its packets look like replies of manage, and would pass on while closed.  Only their beginning
tells, and this VM's own stack shows it on the way out: with a SYN it begins, with SYN and ACK it lets the
other begin.  So nothing but an outgoing SYN pays for it.  docs/adr/0011 has what was weighed against it.

backward4, backward6: flows that look like replies of manage, reach, a scope or a service (hours.services) and
were begun against their direction, or rightly as another of these that passes less long; key flow(), no
timeout: however long such a flow is idle, it is known.  A flow with the same addresses and ports that is
begun rightly takes the old one out.  Full: no further such flow begins.
"""

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, collapse_addresses, ip_address

from vmwarden.model.flow import TcpTable
from vmwarden.model.policy import Policy
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
    """Rules of each chain, by name.  Raises Malformed.

    A flow may have been begun rightly as one thing and look like a reply of another: what passes longer
    counts first, manage before all.  Reach is the last that is right: it passes always, but for one user, and
    who began is not asked here.
    """
    services_in, services_out = timed_services.outgoing(timed_services.services(policy))
    manage_in, scopes_in = (_matches(flows, "sport") for flows in (_manage_in(policy), _scopes_in(policy)))
    manage_out, scopes_out = (
        _matches(flows, "dport") for flows in (_manage_out(policy), _scopes_out(policy))
    )
    reach = _matches(_reach(policy), "dport")
    return {
        "rightly": [f"delete @backward{end} {{ {_key(family)} }}" for family, _, end in FAMILIES],
        "backward": [
            *(f"add @backward{end} {{ {_key(family)} }} return" for family, _, end in FAMILIES),
            "counter drop",
        ],
        "answers": [
            *_all(manage_in, "rightly"),
            *_all([*manage_out, *reach, *services_out], "backward"),
            *_all(scopes_in, "rightly"),
            *_all(scopes_out, "backward"),
            *_all(services_in, "rightly"),
        ],
        "begins": [
            "tcp flags & ack == ack goto answers",
            *_all(manage_out, "rightly"),
            *_all([*manage_in, *services_in], "backward"),
            *_all(scopes_out, "rightly"),
            *_all(scopes_in, "backward"),
            *_all([*reach, *services_out], "rightly"),
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
    manage_in, scopes_in = _by_port(_manage_in(policy)), _by_port(_scopes_in(policy))
    longer = _by_port([*_manage_out(policy), *_reach(policy), *_services_out(policy)])
    scopes_out = _by_port(_scopes_out(policy))
    found: dict[str, list[bytes]] = {f"backward{end}": [] for _, _, end in FAMILIES}
    for each in table.established:
        remote = ip_address(each.remote)
        served, called = (each.local_port, remote), (each.remote_port, remote)
        if (
            each.local_port in table.listening
            and not _has(manage_in, *served)
            and (_has(longer, *called) or (_has(scopes_out, *called) and not _has(scopes_in, *served)))
        ):
            # the parts of a key are padded to four bytes each
            ports = (number.to_bytes(2) + bytes(2) for number in (each.remote_port, each.local_port))
            key = b"".join(part for end in zip((each.remote, each.local), ports, strict=True) for part in end)
            found["backward4" if len(each.remote) == 4 else "backward6"].append(key)
    return {name: tuple(keys) for name, keys in found.items()}


def _key(family: str) -> str:
    return flow(family, "tcp", inbound=False)


def _all(matches: Iterable[str], chain: str) -> list[str]:
    return [f"{match} goto {chain}" for match in matches]


def _manage_in(policy: Policy) -> list[_Flow]:
    return _tcp((entry.from_, entry.tcp, "manage.in") for entry in policy.manage.in_)


def _manage_out(policy: Policy) -> list[_Flow]:
    return _tcp((target.to, target.tcp, "manage.out") for target in policy.manage.out)


def _reach(policy: Policy) -> list[_Flow]:
    return _tcp((service.to, service.tcp, "reach") for service in policy.reach)


def _scopes_in(policy: Policy) -> list[_Flow]:
    return _tcp(
        (entry.from_, entry.tcp, f"scope {scope.name}") for scope in policy.scopes for entry in scope.in_
    )


def _scopes_out(policy: Policy) -> list[_Flow]:
    return _tcp(
        (target.to, target.tcp, f"scope {scope.name}") for scope in policy.scopes for target in scope.out
    )


def _services_out(policy: Policy) -> list[_Flow]:
    timed = policy.hours.services if policy.hours is not None else ()
    return _tcp(
        (target.to, target.tcp, f"hours.services {service.name}")
        for service in timed
        for target in service.out
    )


def _tcp(entries: Iterable[tuple[str, int | None, str]]) -> list[_Flow]:
    """Of (address, port, where in the policy)."""
    return [(*address(text, where), port) for text, port, where in entries if port is not None]


def _by_port(flows: Iterable[_Flow]) -> dict[int, list[Network]]:
    found: dict[int, list[Network]] = {}
    for _, network, port in flows:
        found.setdefault(port, []).append(network)
    return found


def _has(by_port: Mapping[int, list[Network]], port: int, other: IPv4Address | IPv6Address) -> bool:
    return any(other in network for network in by_port.get(port, ()))


def _matches(flows: Iterable[_Flow], field: str) -> list[str]:
    """What an outgoing packet has to match, as few as they can be: a SYN goes through all of them.

    field: where its port stands, sport or dport.
    """
    networks: dict[tuple[str, int], list[Network]] = {}
    for family, network, port in flows:
        networks.setdefault((family, port), []).append(network)
    ports: dict[tuple[str, str], list[str]] = {}
    for (family, port), those in sorted(networks.items(), key=lambda item: item[0]):
        collapsed = collapse_addresses(those)  # type: ignore[type-var]
        ports.setdefault((family, ", ".join(str(each) for each in collapsed)), []).append(str(port))
    return [
        f"{family} daddr {{ {joined} }} tcp {field} {{ {', '.join(numbers)} }}"
        for (family, joined), numbers in ports.items()
    ]
