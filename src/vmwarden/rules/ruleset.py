# SPDX-License-Identifier: Apache-2.0
"""The closed rules of the gate, as nft text.

The text is plain nft: the boot unit loads it with `nft -f`, before any Python runs.  Closed is what it is
by itself; open is only what the table inet vmwarden_alive of a living warden makes of it:

    priority  table           chain     does
    -360      vmwarden        clear_*   takes our two bits off every packet's mark: nobody else may set them
    -350      vmwarden_alive  permit_*  sets a bit while a lease runs (vmwarden.linux.nft)
    -340      vmwarden        judge_*   passes what has a bit, then manage, reach and the link's own; drops

Every chain stands at prerouting (_in), output (_out) and forward (_forward).  A forwarded packet is judged
twice, at prerouting and at forward: the first lets through what the second must refuse, because before
routing nobody knows whether a packet to a manage port is for this VM or for something behind it.
Postrouting needs no judge: all that gets there came through output or forward.

What the rules may not contain, and why (reference/gate.md has the measurements): `ct state` before the
lease, because established flows would outlive it; reliance on a chain's policy, because it is not yet in
force for a moment while a table is replaced; times, because nft evaluates them by a clock that can be set.
"""

import re
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network

from vmwarden.errors import Malformed
from vmwarden.model.policy import FlowIn, FlowOut, Policy, Reach
from vmwarden.rules.sha2 import sha256

TABLE = "vmwarden"
ALIVE_TABLE = "vmwarden_alive"

#: Bits of the packet mark.  29 and 30 because the usual guests use others: kube-proxy 14-15, Docker and
#: CNI plugins below 16, Tailscale 16-23, Calico from 16 up (eBPF 20-28), wg-quick and Istio small numbers.
OPEN_BIT = 0x2000_0000
GUARDED_BIT = 0x4000_0000
OUR_BITS = OPEN_BIT | GUARDED_BIT
OTHER_BITS = 0xFFFF_FFFF ^ OUR_BITS

#: before connection tracking (-200) and raw (-300), after its defragmentation (-400)
CLEAR_PRIORITY = -360
PERMIT_PRIORITY = -350
JUDGE_PRIORITY = -340

#: hook of each suffix
HOOKS = {"in": "prerouting", "out": "output", "forward": "forward"}
#: begins the comment of each last drop; the fingerprint follows
COMMENT = "vmwarden.gate/1"

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
_LINK_IN = (
    *_LINK,
    f"meta nfproto ipv4 udp sport 67 udp dport 68 {_DHCP_IN} accept",
    f"meta nfproto ipv6 udp sport 547 udp dport 546 {_DHCP_IN} accept",
)
_LINK_OUT = (
    *_LINK,
    f"meta nfproto ipv4 udp sport 68 udp dport 67 {_DHCP_OUT} accept",
    f"meta nfproto ipv6 udp sport 546 udp dport 547 {_DHCP_OUT} accept",
)

#: in place of whatever the table held before
_ANEW = f"add table inet {TABLE}\ndelete table inet {TABLE}\n"
_MARK = re.compile(rf'counter drop comment "{COMMENT} ([0-9a-f]{{16}})"')

_CLEAR = f"meta mark set meta mark & {OTHER_BITS:#010x}"


def closed(policy: Policy, *, users: Mapping[str, int]) -> str:
    """The file that replaces table inet vmwarden by this policy's closed rules, in one transaction.

    users: uid of every user named in policy.reach.  Whatever the table held before is gone.
    Raises Malformed: an address that is none, a flow without exactly one port, UDP in manage, a user
    that is not in users.
    """
    return _file(_ANEW, policy, users)


def exchanged(policy: Policy, *, users: Mapping[str, int]) -> str:
    """Like closed, for a table that stands as closed made it: keeps the chains and changes their rules.

    Each chain then has, for every packet, either all its old rules or all its new ones.  A deleted and
    a new chain are both at the hook for a moment, and a packet may meet either, both or none.
    """
    return _file(f"add table inet {TABLE}\nflush table inet {TABLE}\n", policy, users)


def fingerprint(policy: Policy, *, users: Mapping[str, int]) -> str:
    """Names these rules: 16 hex digits of a SHA-256 over them, as written in the last drop of each chain."""
    return sha256("\n".join(_body(policy, users)).encode()).hexdigest()[:16]


def _file(head: str, policy: Policy, users: Mapping[str, int]) -> str:
    mark = f'comment "{COMMENT} {fingerprint(policy, users=users)}"'
    lines = [line.replace("counter drop", f"counter drop {mark}") for line in _body(policy, users)]
    return (
        f"# vmwarden: the gate, closed, by policy {policy.name} version {policy.version}\n"
        f"{head}table inet {TABLE} {{\n" + "\n".join(lines) + "\n}\n"
    )


def _body(policy: Policy, users: Mapping[str, int]) -> list[str]:
    into, out = _always(policy, users)
    scopes_in, scopes_out = _scopes(policy)
    lines: list[str] = []
    for suffix, hook in HOOKS.items():
        lines += _chain(
            f"clear_{suffix}",
            # most packets have no mark at all: for them this is one comparison
            [f"meta mark != 0x00000000 {_CLEAR}"],
            hook=f"type filter hook {hook} priority {CLEAR_PRIORITY}; policy accept;",
        )
    lines += _chain("replies", ["tcp flags & ack == ack accept", "tcp flags & (syn | rst) == rst accept"])
    lines += _chain("scopes_in", scopes_in)
    lines += _chain("scopes_out", scopes_out)
    lease = f"meta mark & {OPEN_BIT:#010x} == {OPEN_BIT:#010x} {_CLEAR} accept"
    guarded = f"meta mark & {GUARDED_BIT:#010x} == {GUARDED_BIT:#010x} {_CLEAR} jump scopes_"
    judged = {
        "in": [lease, "iif lo accept", guarded + "in", *into],
        "out": [lease, "oif lo accept", guarded + "out", *out],
        "forward": [lease],
    }
    for suffix, hook in HOOKS.items():
        lines += _chain(
            f"judge_{suffix}",
            [*judged[suffix], "counter drop"],
            hook=f"type filter hook {hook} priority {JUDGE_PRIORITY}; policy drop;",
        )
    return lines


def _chain(name: str, rules: Iterable[str], *, hook: str = "") -> list[str]:
    head = [f"\t\t{hook}"] if hook else []
    return [f"\tchain {name} {{", *head, *(f"\t\t{rule}" for rule in rules), "\t}"]


def _always(policy: Policy, users: Mapping[str, int]) -> tuple[list[str], list[str]]:
    """What passes in every posture but poweroff: (inbound, outbound)."""
    into: list[str] = []
    out: list[str] = []
    for flow in policy.manage.in_:
        _tcp_only(flow.udp, "manage.in")
        _flow_in(flow, "manage.in", into, out)
    for target in policy.manage.out:
        _tcp_only(target.udp, "manage.out")
        _flow_out(target, "manage.out", "", into, out)
    for service in policy.reach:
        if service.as_ not in users:
            raise Malformed(
                f"reach: there is no user {service.as_} on this VM", mend="create it, or name another"
            )
        _flow_out(service, "reach", f"meta skuid {users[service.as_]} ", into, out)
    into += _LINK_IN
    out += _LINK_OUT
    if policy.manage.in_ or policy.manage.out:
        into.append(f"icmp type destination-unreachable icmp code 4 {_TOO_BIG} accept")
        into.append(f"icmpv6 type packet-too-big {_TOO_BIG} accept")
    return into, out


def _scopes(policy: Policy) -> tuple[list[str], list[str]]:
    """What passes in guarded besides: (inbound, outbound)."""
    into: list[str] = []
    out: list[str] = []
    for scope in policy.scopes:
        for flow in scope.in_:
            _flow_in(flow, f"scope {scope.name}", into, out)
        for target in scope.out:
            _flow_out(target, f"scope {scope.name}", "", into, out)
    return into, out


def _flow_in(flow: FlowIn, where: str, into: list[str], out: list[str]) -> None:
    family, address = _address(flow.from_, where)
    protocol, port = _port(flow.tcp, flow.udp, where)
    into.append(f"{family} saddr {address} {protocol} dport {port} accept")
    out.append(f"{family} daddr {address} {protocol} sport {port} {_reply(protocol)}")


def _flow_out(flow: FlowOut | Reach, where: str, user: str, into: list[str], out: list[str]) -> None:
    family, address = _address(flow.to, where)
    protocol, port = _port(flow.tcp, flow.udp, where)
    out.append(f"{user}{family} daddr {address} {protocol} dport {port} accept")
    into.append(f"{family} saddr {address} {protocol} sport {port} {_reply(protocol)}")


def _reply(protocol: str) -> str:
    # A TCP reply has ACK, or is a bare RST; so nobody can begin a flow against its direction.  UDP has
    # nothing that tells a reply: its rule passes both ways.
    return "jump replies" if protocol == "tcp" else "accept"


def _address(text: str, where: str) -> tuple[str, IPv4Network | IPv6Network]:
    try:
        network = ip_network(text, strict=False)
    except ValueError as error:
        raise Malformed(f"{where}: {error}", mend="write like 10.20.0.0/16 or fd00::/8") from error
    return ("ip" if network.version == 4 else "ip6"), network


def _port(tcp: int | None, udp: int | None, where: str) -> tuple[str, int]:
    if tcp is not None and udp is None:
        return "tcp", tcp
    if udp is not None and tcp is None:
        return "udp", udp
    raise Malformed(f"{where}: a flow has exactly one port", mend="write either tcp: or udp:")


def _tcp_only(udp: int | None, where: str) -> None:
    if udp is not None:
        raise Malformed(f"{where}: UDP cannot tell who began a flow", mend="name a TCP port")


def intact(text: str) -> bool:
    """Whether text is a file that closed has written, whole and unchanged.

    Its own witness is the fingerprint in it.  That finds damage, not forgery: who could forge it is root.
    nft loads an empty file without a word, and a file cut off after its second line, and both close nothing.
    """
    if text == NO_MANAGE:
        return True
    head, opened, rest = text.partition(f"table inet {TABLE} {{\n")
    body, ended, after = rest.rpartition("\n}\n")
    title, _, start = head.partition("\n")
    marks = set(_MARK.findall(body))
    if not opened or not ended or after or len(marks) != 1 or start != _ANEW or not title.startswith("# "):
        return False
    return marks == {sha256(_MARK.sub("counter drop", body).encode()).hexdigest()[:16]}


def _shut() -> str:
    lines = []
    for suffix, rules in (
        ("in", ("iif lo accept", *_LINK_IN)),
        ("out", ("oif lo accept", *_LINK_OUT)),
        ("forward", ()),
    ):
        hook = f"type filter hook {HOOKS[suffix]} priority {JUDGE_PRIORITY}; policy drop;"
        lines += _chain(f"judge_{suffix}", (*rules, "counter drop"), hook=hook)
    return "\n".join(
        (
            "# vmwarden: the gate, closed, without any way to manage",
            f"add table inet {TABLE}",
            f"delete table inet {TABLE}",
            f"table inet {TABLE} {{",
            *lines,
            "}\n",
        )
    )


#: Closed without manage, and no lease opens it: for an armed VM that has lost its policy and its boot file.
NO_MANAGE = _shut()
