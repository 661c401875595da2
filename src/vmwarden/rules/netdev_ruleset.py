# SPDX-License-Identifier: Apache-2.0
"""The closed rules of the second layer, as nft text: table netdev vmwarden, at the devices themselves.

The first layer (rules.ruleset) judges what goes through this VM's IP stack.  This one judges every frame
of an uplink: of packet sockets, of bridges, of macvlan and ipvlan children in other namespaces.

The text names no device.  The warden makes two base chains for each uplink over netlink, each device in a
transaction of its own, so that one that has just gone costs the others nothing:

    in_<index>, out_<index>   meta protocol @lease accept; goto judge_in | judge_out      policy drop

What is different from the first layer, and why:

- The lease set is keyed by EtherType, so open means IPv4, IPv6 and what is tagged.  ARP always passes,
  and what bridges, bonds and 802.1X say to their neighbour; everything else never does.
- There is no mark and no owned table: when the warden dies this layer closes with its lease.
- It does not know who began a flow: the first layer does, and sees all flows that this VM's own stack has.
- A service with hours of its own is leased in the set `service`, which ends by itself, too.  While it is not,
  it is refused wherever it comes from or goes to, a container on a bridge too; what has its tag still in the
  frame is not looked into.
- In a drain a new TCP flow is refused; for the rest see the first layer, which does not see what is bridged.
- manage, reach and scopes are for addresses of this VM (fib ... type local).  What a container on a bridge
  or a macvlan child sends to the same port is not ours.
- On the way out the protocol that a packet claims must be the EtherType in its frame.  A packet socket says
  what it likes about its frames: one that calls itself ARP must not carry IP.
- Only a packet that has a transport header passes by port: later fragments are dropped first, and IPv6
  extension headers are walked by the kernel.  There is no connection tracking here to put them together.
"""

from collections.abc import Mapping

from vmwarden.model.policy import Policy
from vmwarden.rules import booting, drain, ending, timed_services
from vmwarden.rules.passing import (
    ASKED,
    LATER_FRAGMENTS,
    REPLIES,
    always,
    chain,
    link,
    named_set,
    scopes,
    too_big,
)
from vmwarden.rules.sha2 import sha256

TABLE = "vmwarden"
LEASE_SET = "lease"
GUARDED_SET = "lease_guarded"
DRAIN_SET = "lease_drain"
#: In place of LEASE_SET where services have hours of their own: the chains of the devices accept by that one
#: before any judge.  Only such a policy's table has it.
TIMED_SET = "lease_timed"
JUDGES = {"in": "judge_in", "out": "judge_out"}

#: EtherTypes that a lease passes: IPv4, IPv6; 802.1Q and 802.1ad, where the tag is still in the frame
LEASED = (0x0800, 0x86DD, 0x8100, 0x88A8)
#: and those of the sets ending and booting
SWITCHED = (0x0800, 0x86DD)
#: before the priorities that others use there (nft's "filter" is 0)
PRIORITY = -500
#: begins the comment of each last drop; the fingerprint follows
COMMENT = "vmwarden.layer2/1"

#: Spanning tree (LLC: 4 is the kernel's number for it), LACP, 802.1X, to the group addresses that no bridge
#: passes on (IEEE 802.1D 7.12.6).  Without them a bond or a bridge below manage falls apart while closed.
#: In numbers: nft adds a condition to `ether daddr` that is never met on the way out.
_NEIGHBOUR = "@ll,0,44 0x0180c200000 limit rate 50/second burst 50 packets accept"
_NEIGHBOURS = tuple(f"meta protocol {kind:#06x} {_NEIGHBOUR}" for kind in (0x0004, 0x8809, 0x888E))

#: the frame's own EtherType, and the one behind a tag (also where the tag is kept beside the frame)
_TRUE = "meta protocol {0:#06x} @ll,96,16 {0:#06x} {1}"
_TRUE_TAGGED = "@ll,96,16 0x8100 @ll,128,16 {0:#06x} meta protocol {0:#06x} {1}"
_ARP, _IPV4, _IPV6 = 0x0806, 0x0800, 0x86DD

#: What is answered with a reset is answered by the first layer, so it has to get there, to be dropped: only
#: what is for this VM or goes through it, and nothing that goes on at the link (a bridge, macvlan, ipvlan).
_FOR_US = (
    "fib daddr type local goto told",
    "fib daddr oif exists fib daddr . iif oif missing goto told",
)


def table(policy: Policy, *, users: Mapping[str, int], metadata: bool = True) -> str:
    """The file that makes the table, or exchanges its rules where it stands: base chains and leases stay.

    users: uid of every user named in policy.reach.  metadata: as of rules.ruleset.closed.
    Raises Malformed as that does.
    """
    chains = _chains(policy, users, metadata)
    mark = f'counter drop comment "{COMMENT} {_named(chains)}"'
    lines = [f"# vmwarden: the second layer, closed, by policy {policy.name} version {policy.version}"]
    # a chain has to be there to be flushed, and everything that is jumped to before it is named
    lines += [f"add table netdev {TABLE}", *(f"add chain netdev {TABLE} {name}" for name in chains)]
    lines += [f"flush chain netdev {TABLE} {name}" for name in chains]
    lines.append(f"table netdev {TABLE} {{")
    keyed = (LEASE_SET, GUARDED_SET, DRAIN_SET, ending.SET, booting.SET)
    timed = timed_services.services(policy) if timed_services.there_are(policy) else None
    for name in keyed if timed is None else (*keyed, TIMED_SET):
        lines.append(named_set(name, "type ether_type", "flags timeout;"))
    lines += [*ASKED, *ending.SETS, *(timed_services.sets(timed) if timed is not None else ())]
    for name, rules in chains.items():
        lines += chain(name, [rule.replace("counter drop", mark) for rule in rules])
    return "\n".join(lines) + "\n}\n"


def anew(policy: Policy, *, users: Mapping[str, int], metadata: bool = True) -> str:
    """As table, in place of whatever the table held before; base chains and leases go."""
    made = table(policy, users=users, metadata=metadata)
    return f"add table netdev {TABLE}\ndelete table netdev {TABLE}\n" + made


def fingerprint(policy: Policy, *, users: Mapping[str, int], metadata: bool = True) -> str:
    """Names these rules: 16 hex digits, as written in the last drop of each judge."""
    return _named(_chains(policy, users, metadata))


def names(policy: Policy, *, users: Mapping[str, int], metadata: bool = True) -> tuple[str, ...]:
    """Of the chains that table makes."""
    return tuple(_chains(policy, users, metadata))


def _named(chains: Mapping[str, list[str]]) -> str:
    whole = "\n".join(line for name, rules in chains.items() for line in (name, *rules))
    return sha256(whole.encode()).hexdigest()[:16]


def _chains(policy: Policy, users: Mapping[str, int], metadata: bool) -> dict[str, list[str]]:
    into, out = always(policy, users)
    scopes_in, scopes_out = scopes(policy)
    link_in, link_out = link(ip="meta protocol ip", ip6="meta protocol ip6")
    boot_in, boot_out = (booting.into(), booting.out()) if metadata else ([], [])
    judge_out = [
        rule
        for form in (_TRUE, _TRUE_TAGGED)
        for rule in (
            form.format(_ARP, "accept"),
            form.format(_IPV4, "jump true_out"),
            form.format(_IPV6, "jump true_out"),
        )
    ]
    drained = f"meta protocol @{DRAIN_SET} jump drain"
    chains = {
        "replies": list(REPLIES),
        "scopes_in": scopes_in,
        "scopes_out": scopes_out,
        "booting_in": boot_in,
        "booting_out": boot_out,
        "drain": ["meta protocol { 0x8100, 0x88a8 } accept", *drain.OLD, "meta l4proto != tcp accept"],
        "told": ending.noted("accept"),
        "ending_in": ["meta l4proto != tcp return", "meta pkttype != host return", *ending.calls(), *_FOR_US],
        "ending_out": ending.made(),
        "ending_own": ending.own(),
        "local_in": [
            f"meta protocol @{GUARDED_SET} jump scopes_in",
            f"meta protocol @{booting.SET} jump booting_in",
            *into,
            *too_big(policy),
        ],
        "local_out": [
            f"meta protocol @{GUARDED_SET} jump scopes_out",
            f"meta protocol @{booting.SET} jump booting_out",
            *out,
            f"meta protocol @{ending.SET} jump ending_own",
        ],
        "true_out": [
            *LATER_FRAGMENTS,
            *link_out,
            "fib saddr type local jump local_out",
            f"meta protocol @{ending.SET} jump ending_out",
        ],
        JUDGES["in"]: [
            drained,
            "meta protocol arp accept",
            *LATER_FRAGMENTS,
            *link_in,
            "fib daddr type local jump local_in",
            *_NEIGHBOURS,
            f"meta protocol @{ending.SET} jump ending_in",
            "counter drop",
        ],
        JUDGES["out"]: [drained, *judge_out, *_NEIGHBOURS, "counter drop"],
    }
    if timed_services.there_are(policy):
        chains |= _timed(chains, timed_services.services(policy))
    return chains


def _timed(plain: Mapping[str, list[str]], found: timed_services.Services) -> dict[str, list[str]]:
    """The chains that are others where services have hours of their own.  plain: without."""
    chains = timed_services.leased_chains(found)
    tagged = "meta protocol { 0x8100, 0x88a8 } accept"
    truly = [
        form.format(kind, "jump {0}_true_out") for form in (_TRUE, _TRUE_TAGGED) for kind in (_IPV4, _IPV6)
    ]
    passes = {"open": (TIMED_SET, ["accept"]), "drain": (DRAIN_SET, plain["drain"])}
    for way in JUDGES:
        chains |= timed_services.way_chains(found, way, refused=f"goto closed_{way}")
        guarded, *always_passes = plain[f"local_{way}"]
        chains[f"local_{way}"] = always_passes
        chains[f"leased_{way}"] = [guarded, f"jump timed_{way}"]
        chains[f"scopes_{way}"] = [f"jump timed_{way}", *plain[f"scopes_{way}"]]
    looked_up = {way: list[str]() for way in JUDGES}
    for state, (name, rules) in passes.items():
        for way in JUDGES:
            timed_first = [*timed_services.FRAGMENTS_PASS, f"jump timed_{way}", *rules]
            looked_up[way].append(f"meta protocol @{name} jump {state}_{way}")
            if way == "in":
                chains[f"{state}_in"] = [tagged, *timed_first]
            else:
                # whose frame is not what it is called, is of no service and of nothing else
                chains[f"{state}_out"] = [tagged, *(rule.format(state) for rule in truly)]
                chains[f"{state}_true_out"] = timed_first
    chains["closed_in"] = plain[JUDGES["in"]][1:]
    chains["closed_out"] = [*plain["true_out"], "counter drop"]
    chains["true_out"] = [*LATER_FRAGMENTS, "fib saddr type local jump leased_out", *plain["true_out"]]
    chains[JUDGES["in"]] = [
        *looked_up["in"],
        "meta protocol arp accept",
        *LATER_FRAGMENTS,
        "fib daddr type local jump leased_in",
        "goto closed_in",
    ]
    chains[JUDGES["out"]] = [*looked_up["out"], *plain[JUDGES["out"]][1:]]
    return chains
