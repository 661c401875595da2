# SPDX-License-Identifier: Apache-2.0
"""What passes a closed gate, as nft rules: the same for both layers.

Where a function gives two lists, they are (inbound, outbound).  "jump replies" needs a chain of that name
with REPLIES in it, and "@asked4", "@asked6" the sets of ASKED.
"""

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network

from vmwarden.errors import Malformed
from vmwarden.model.policy import FlowIn, FlowOut, Policy, Reach

#: A client sends a handful of messages a minute; the rate bounds what the ports can carry while closed.
#: Inbound more, since the answers to all neighbours may be broadcast.
_DHCP_OUT = "limit rate 5/second burst 10 packets"
_DHCP_IN = "limit rate 50/second burst 50 packets"
#: RFC 1191 and RFC 8201: without these a manage flow through a tunnel hangs; one way, and few
_TOO_BIG = "limit rate 10/second burst 20 packets"

#: Neighbour discovery (133-136, RFC 4861: only with hop limit 255, so never from beyond the link) and the
#: multicast listener messages that switches need to deliver it (130-132, 143, RFC 3810: hop limit 1).
_LINK = (
    "icmpv6 type 133-136 ip6 hoplimit 255 accept",
    "icmpv6 type 130-132 ip6 hoplimit 1 accept",
    "icmpv6 type 143 ip6 hoplimit 1 accept",
)
#: A later fragment has no transport header, but on Linux 6.18 nft reads ports and flags out of an IPv4 one
#: all the same, from whatever its sender put there.  Before everything that passes by port.
LATER_FRAGMENTS = ("ip frag-off & 0x1fff != 0 counter drop", "frag frag-off != 0 counter drop")
#: a reply of TCP has ACK, or is a bare RST: nobody can begin a flow against its direction
REPLIES = ("tcp flags & ack == ack accept", "tcp flags & (syn | rst) == rst accept")

Network = IPv4Network | IPv6Network

#: what a family is called in a rule, the type of its addresses, and the end of the names of its sets
FAMILIES = (("ip", "ipv4_addr", "4"), ("ip6", "ipv6_addr", "6"))
#: How long a question over UDP may be answered: the longest wait of NTP and DNS clients between two tries.
_ANSWER_WITHIN = "10s"


def named_set(name: str, of: str, more: str) -> str:
    """The line of one set.  of: the type of its keys, or what they are made of (typeof)."""
    return f"\tset {name} {{ {of}; {more} }}"


def flow_sets(stem: str, more: str) -> list[str]:
    """A set of flows for each family; flow() makes its keys.  more: size, flags, timeout."""
    return [
        named_set(stem + end, f"type {kind} . inet_service . {kind} . inet_service", more)
        for _, kind, end in FAMILIES
    ]


def flow(family: str, protocol: str, *, inbound: bool) -> str:
    """What names a flow, read out of a packet: address and port of the other end, then our own."""
    other, own = ("s", "d") if inbound else ("d", "s")
    return f"{family} {other}addr . {protocol} {other}port . {family} {own}addr . {protocol} {own}port"


#: Questions of reach over UDP: only what was asked is answered.  Full: nothing more is asked for 10 s.
ASKED = tuple(flow_sets("asked", f"size 1024; flags dynamic,timeout; timeout {_ANSWER_WITHIN};"))


def chain(name: str, rules: Iterable[str], *, hook: str = "") -> list[str]:
    """The lines of one chain; hook: what makes it a base chain."""
    head = [f"\t\t{hook}"] if hook else []
    return [f"\tchain {name} {{", *head, *(f"\t\t{rule}" for rule in rules), "\t}"]


def link(*, ip: str, ip6: str) -> tuple[list[str], list[str]]:
    """What the link itself needs.  ip, ip6: how this family of tables tells the protocol of a packet."""
    into = [
        *_LINK,
        f"{ip} udp sport 67 udp dport 68 {_DHCP_IN} accept",
        f"{ip6} udp sport 547 udp dport 546 {_DHCP_IN} accept",
    ]
    out = [
        *_LINK,
        f"{ip} udp sport 68 udp dport 67 {_DHCP_OUT} accept",
        f"{ip6} udp sport 546 udp dport 547 {_DHCP_OUT} accept",
    ]
    return into, out


def too_big(policy: Policy) -> list[str]:
    """Inbound: what tells a flow of manage that its packets are too long."""
    if not (policy.manage.in_ or policy.manage.out):
        return []
    return [
        f"icmp type destination-unreachable icmp code 4 {_TOO_BIG} accept",
        f"icmpv6 type packet-too-big {_TOO_BIG} accept",
    ]


def always(policy: Policy, users: Mapping[str, int]) -> tuple[list[str], list[str]]:
    """Manage and reach.  users: uid of every user named in policy.reach.  Raises Malformed."""
    into: list[str] = []
    out: list[str] = []
    for entry in policy.manage.in_:
        _tcp_only(entry.udp, "manage.in")
        _flow_in(entry, "manage.in", into, out)
    for target in policy.manage.out:
        _tcp_only(target.udp, "manage.out")
        _flow_out(target, "manage.out", "", into, out)
    for service in policy.reach:
        if service.as_ not in users:
            raise Malformed(
                f"reach: there is no user {service.as_} on this VM", mend="create it, or name another"
            )
        _reach(service, f"meta skuid {users[service.as_]} ", into, out)
    return into, out


def scopes(policy: Policy) -> tuple[list[str], list[str]]:
    """What passes in guarded besides.  Raises Malformed."""
    into: list[str] = []
    out: list[str] = []
    for scope in policy.scopes:
        for entry in scope.in_:
            _flow_in(entry, f"scope {scope.name}", into, out)
        for target in scope.out:
            _flow_out(target, f"scope {scope.name}", "", into, out)
    return into, out


def _flow_in(entry: FlowIn, where: str, into: list[str], out: list[str]) -> None:
    family, network = address(entry.from_, where)
    protocol, number = port(entry.tcp, entry.udp, where)
    into.append(f"{family} saddr {network} {protocol} dport {number} accept")
    out.append(f"{family} daddr {network} {protocol} sport {number} {_reply(protocol)}")


def _flow_out(target: FlowOut | Reach, where: str, user: str, into: list[str], out: list[str]) -> None:
    family, network = address(target.to, where)
    protocol, number = port(target.tcp, target.udp, where)
    out.append(f"{user}{family} daddr {network} {protocol} dport {number} accept")
    into.append(f"{family} saddr {network} {protocol} sport {number} {_reply(protocol)}")


def _reach(service: Reach, user: str, into: list[str], out: list[str]) -> None:
    if service.tcp is not None:
        _flow_out(service, "reach", user, into, out)
        return
    family, network = address(service.to, "reach")
    _, number = port(service.tcp, service.udp, "reach")
    asked = "asked4" if family == "ip" else "asked6"
    key = flow(family, "udp", inbound=False)
    out.append(f"{user}{family} daddr {network} udp dport {number} update @{asked} {{ {key} }} accept")
    key = flow(family, "udp", inbound=True)
    into.append(f"{family} saddr {network} udp sport {number} {key} @{asked} accept")


def _reply(protocol: str) -> str:
    # UDP has nothing that tells a reply: its rule passes both ways
    return "jump replies" if protocol == "tcp" else "accept"


def address(text: str, where: str) -> tuple[str, Network]:
    """(its family in nft, the network).  Raises Malformed."""
    try:
        network = ip_network(text, strict=False)
    except ValueError as error:
        raise Malformed(f"{where}: {error}", mend="write like 10.20.0.0/16 or fd00::/8") from error
    return ("ip" if network.version == 4 else "ip6"), network


def port(tcp: int | None, udp: int | None, where: str) -> tuple[str, int]:
    """(the protocol in nft, the port).  Raises Malformed."""
    if tcp is not None and udp is None:
        return "tcp", tcp
    if udp is not None and tcp is None:
        return "udp", udp
    raise Malformed(f"{where}: a flow has exactly one port", mend="write either tcp: or udp:")


def _tcp_only(udp: int | None, where: str) -> None:
    if udp is not None:
        raise Malformed(f"{where}: UDP cannot tell who began a flow", mend="name a TCP port")
