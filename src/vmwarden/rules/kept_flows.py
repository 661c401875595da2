# SPDX-License-Identifier: Apache-2.0
"""Which of the VM's own flows a closed gate keeps: those whose packets its rules let through both ways.

What rules.passing says as nft rules, said of a connected socket:

- loopback, and the VM to itself;
- manage.in by its port here, manage.out by its port there, reach by its port there and its user;
- DHCP;
- services with hours of their own: they may pass beside a rest that is closed; one that may not is cut.

Not what belongs to scopes: flows are ended from quarantined on, and there scopes do not pass.
"""

from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network

from vmwarden.errors import Malformed
from vmwarden.model.flow import Flow
from vmwarden.model.policy import Policy

Network = IPv4Network | IPv6Network
#: bytes of an address, bits behind the prefix, the prefix
_Prefix = tuple[int, int, int]

_LOOPBACK = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
#: (port here, port there) of DHCP and DHCPv6 clients (RFC 2131, RFC 8415)
_DHCP = frozenset(((68, 67), (546, 547)))


def keeper(policy: Policy, *, users: Mapping[str, int], own: Iterable[Network]) -> Callable[[Flow], bool]:
    """Whether a flow is kept.  What it gives is for thousands of flows and takes a microsecond each.

    users: uid of each user in policy.reach; one that is not there has no flows.  own: what is local to
    the VM.  Raises Malformed: an address that is none.
    """
    here: dict[tuple[str, int], list[_Prefix]] = {}
    there: dict[tuple[str, int], list[tuple[_Prefix, int | None]]] = {}
    for flow_in in policy.manage.in_:
        if flow_in.tcp is not None:
            network = _network(flow_in.from_, "manage.in")
            here.setdefault(("tcp", flow_in.tcp), []).append(_prefix(network))
    for flow_out in policy.manage.out:
        if flow_out.tcp is not None:
            target = _prefix(_network(flow_out.to, "manage.out")), None
            there.setdefault(("tcp", flow_out.tcp), []).append(target)
    for reach in policy.reach:
        if reach.as_ not in users:
            continue
        server = _prefix(_network(reach.to, "reach")), users[reach.as_]
        for protocol, port in (("tcp", reach.tcp), ("udp", reach.udp)):
            if port is not None:
                there.setdefault((protocol, port), []).append(server)
    for service in policy.hours.services if policy.hours is not None else ():
        where = f"hours.services {service.name}"
        for flow_in in service.in_:
            served = _prefix(_network(flow_in.from_, where))
            for protocol, port in (("tcp", flow_in.tcp), ("udp", flow_in.udp)):
                if port is not None:
                    here.setdefault((protocol, port), []).append(served)
        for flow_out in service.out:
            target = _prefix(_network(flow_out.to, where)), None
            for protocol, port in (("tcp", flow_out.tcp), ("udp", flow_out.udp)):
                if port is not None:
                    there.setdefault((protocol, port), []).append(target)
    to_itself = [*_LOOPBACK, *own]
    addresses = {network.network_address.packed for network in to_itself if network.num_addresses == 1}
    networks = [_prefix(network) for network in to_itself if network.num_addresses > 1]

    def kept(flow: Flow) -> bool:
        remote = flow.remote
        if remote in addresses or remote == flow.local:
            return True
        for prefix in here.get((flow.protocol, flow.local_port), ()):
            if _within(remote, prefix):
                return True
        if flow.protocol == "udp" and (flow.local_port, flow.remote_port) in _DHCP:
            return True
        for prefix, uid in there.get((flow.protocol, flow.remote_port), ()):
            if (uid is None or uid == flow.uid) and _within(remote, prefix):
                return True
        return any(_within(remote, prefix) for prefix in networks)

    return kept


def _within(address: bytes, prefix: _Prefix) -> bool:
    length, shift, bits = prefix
    return len(address) == length and int.from_bytes(address) >> shift == bits


def _prefix(network: Network) -> _Prefix:
    shift = network.max_prefixlen - network.prefixlen
    return network.max_prefixlen // 8, shift, int(network.network_address) >> shift


def _network(text: str, where: str) -> Network:
    try:
        return ip_network(text, strict=False)
    except ValueError as error:
        raise Malformed(f"{where}: {error}", mend="write like 10.20.0.0/16 or fd00::/8") from error
