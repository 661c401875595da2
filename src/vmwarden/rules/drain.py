# SPDX-License-Identifier: Apache-2.0
"""The lease `drain`, as nft rules: open flows live, new ones are refused, in both directions and forwarded.

It passes less than the open lease and more than none: what it does not pass goes on to what always passes.
TCP needs no memory: what is no SYN belongs to a flow that began before.  For the rest the gate has to have
seen it while it was open: known_udp by addresses and ports, known_pair by addresses and protocol (ICMP,
ESP, GRE).  So only a policy that asks for a drain pays for that, and only its packets that are not TCP.
"""

from vmwarden.model.policy import Policy
from vmwarden.rules import duration
from vmwarden.rules.passing import FAMILIES, flow, flow_sets, named_set

#: as Linux's connection tracking keeps a UDP flow of both directions (nf_conntrack_udp_timeout_stream)
_REMEMBERED = "2m"
#: Of each set.  Full: what is not remembered ends when the drain begins.
_MORE = f"size 65536; flags dynamic,timeout; timeout {_REMEMBERED};"
SETS = (
    *flow_sets("known_udp", _MORE),
    *(
        named_set(f"known_pair{end}", f"type {kind} . {kind} . inet_proto", _MORE)
        for _, kind, end in FAMILIES
    ),
)

#: What is certainly part of an older flow.  A later fragment is of no use without the first, which is judged;
#: a first one may end before its flags, and then it is not certain.
OLD = (
    "ip frag-off & 0x1fff != 0 accept",
    "frag frag-off != 0 accept",
    "tcp flags & (syn | ack) != syn accept",
)
#: what tells an open flow that its packets do not get there
_ERRORS = (
    "icmp type { destination-unreachable, time-exceeded, parameter-problem } accept",
    "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } accept",
)


def asked(policy: Policy) -> bool:
    """Whether the policy has a drain."""
    return policy.hours is not None and duration.milliseconds(policy.hours.drain) > 0


def opened(*, inbound: bool) -> list[str]:
    """In place of the open lease's accept: it passes everything, and remembers."""
    rules = ["meta l4proto tcp accept", f"{'iif' if inbound else 'oif'} lo accept"]
    for family, _, end in FAMILIES:
        key = flow(family, "udp", inbound=inbound)
        rules.append(f"update @known_udp{end} {{ {key} }} accept")
    for family, _, end in FAMILIES:
        rules.append(f"meta l4proto != udp update @known_pair{end} {{ {_pair(family, inbound)} }} accept")
    return [*rules, "accept"]


def draining(*, inbound: bool) -> list[str]:
    """What passes in a drain besides what always passes."""
    rules = [*OLD, *_ERRORS]
    for family, _, end in FAMILIES:
        key = flow(family, "udp", inbound=inbound)
        rules.append(f"{key} @known_udp{end} update @known_udp{end} {{ {key} }} accept")
        if inbound:
            # of a forwarded flow both directions come in, and it began in one of them
            rules.append(f"{flow(family, 'udp', inbound=False)} @known_udp{end} accept")
            rules.append(f"{_pair(family, False)} @known_pair{end} accept")
        rules.append(f"{_pair(family, inbound)} @known_pair{end} accept")
    return rules


def forwarded() -> list[str]:
    """For what was judged already when it came in, where a SYN to a port of manage may have passed."""
    return [*OLD, "meta l4proto != tcp accept"]


def _pair(family: str, inbound: bool) -> str:
    other, own = ("s", "d") if inbound else ("d", "s")
    return f"{family} {other}addr . {family} {own}addr . meta l4proto"
