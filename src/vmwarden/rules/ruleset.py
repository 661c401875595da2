# SPDX-License-Identifier: Apache-2.0
"""The closed rules of the gate, as nft text.

The text is plain nft: the boot unit loads it with `nft -f`, before any Python runs.  Closed is what it is
by itself; open is only what the table inet vmwarden_alive of a living warden makes of it:

    priority  table           chain     does
    -360      vmwarden        clear_*   takes our two bits off every packet's mark: nobody else may set them;
                                        on the way out it also sees who begins a TCP flow (rules.direction)
    -350      vmwarden_alive  permit_*  sets bits while a lease runs (vmwarden.linux.nft)
    -340      vmwarden        judge_*   passes what has a lease's bits, then manage, reach and the link's own;
                                        drops

Every chain stands at prerouting (_in), output (_out) and forward (_forward).  A forwarded packet is judged
twice, at prerouting and at forward: the first lets through what the second must refuse, because before
routing nobody knows whether a packet to a manage port is for this VM or for something behind it.
Postrouting needs no judge: all that gets there came through output or forward.

Two sets switch something on, and are empty otherwise: `ending` (rules.ending) and `booting` (rules.booting).

What the rules may not contain, and why (reference/gate.md has the measurements): `ct`, because it turns
connection tracking on for every packet, and before the lease established flows would outlive it; reliance
on a chain's policy, because it is not yet in force for a moment while a table is replaced; times, because
nft evaluates them by a clock that can be set.
"""

import re
from collections.abc import Mapping

from vmwarden.model.policy import Policy
from vmwarden.rules import booting, direction, drain, ending, timed_services
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
ALIVE_TABLE = "vmwarden_alive"

#: Bits of the packet mark.  29 and 30 because the usual guests use others: kube-proxy 14-15, Docker and
#: CNI plugins below 16, Tailscale 16-23, Calico from 16 up (eBPF 20-28), wg-quick and Istio small numbers.
OPEN_BIT = 0x2000_0000
GUARDED_BIT = 0x4000_0000
OUR_BITS = OPEN_BIT | GUARDED_BIT
#: of the lease `drain`, for a policy that has one (rules.drain)
DRAIN_BITS = OUR_BITS
OTHER_BITS = 0xFFFF_FFFF ^ OUR_BITS
#: of the lease for services with hours of their own, and ours only in a policy that has some
#: (rules.timed_services); any of our bits says that the warden lives
SERVICES_BIT = 0x8000_0000

#: before connection tracking (-200) and raw (-300), after its defragmentation (-400)
CLEAR_PRIORITY = -360
PERMIT_PRIORITY = -350
JUDGE_PRIORITY = -340

#: hook of each suffix
HOOKS = {"in": "prerouting", "out": "output", "forward": "forward"}
#: begins the comment of each last drop; the fingerprint follows
COMMENT = "vmwarden.gate/1"
#: the packet's family is the key, as of the lease
_SWITCH = "type nf_proto", "flags timeout;"

_LINK_IN, _LINK_OUT = link(ip="meta nfproto ipv4", ip6="meta nfproto ipv6")

#: in place of whatever the table held before
_ANEW = f"add table inet {TABLE}\ndelete table inet {TABLE}\n"
_MARK = re.compile(rf'counter drop comment "{COMMENT} ([0-9a-f]{{16}})"')
#: behind the table in a boot file: who loads the rules again later (rules.flat) leaves it out
_BOOTING = (
    f"add element inet {TABLE} {booting.SET} "
    f"{{ ipv4 timeout {booting.UNTIL_END}, ipv6 timeout {booting.UNTIL_END} }}\n"
)


def closed(policy: Policy, *, users: Mapping[str, int], metadata: bool = True) -> str:
    """The file that replaces table inet vmwarden by this policy's closed rules, in one transaction.

    users: uid of every user named in policy.reach.  metadata: whether the platform's metadata service may
    be asked while set `booting` is filled.  Whatever the table held before is gone.
    Raises Malformed: an address that is none, a flow without exactly one port, UDP in manage, a user
    that is not in users.
    """
    return _file(_ANEW, policy, users, metadata)


def boot_file(policy: Policy, *, users: Mapping[str, int], metadata: bool = True) -> str:
    """As closed, for vmwarden-closed.service: root may ask the metadata service for booting.UNTIL_END."""
    return closed(policy, users=users, metadata=metadata) + (_BOOTING if metadata else "")


def exchanged(policy: Policy, *, users: Mapping[str, int], metadata: bool = True) -> str:
    """Like closed, for a table that stands as closed made it: keeps the chains and changes their rules.

    Each chain then has, for every packet, either all its old rules or all its new ones.  A deleted and
    a new chain are both at the hook for a moment, and a packet may meet either, both or none.  What is in
    the sets stays.
    """
    return _file(f"add table inet {TABLE}\nflush table inet {TABLE}\n", policy, users, metadata)


def fingerprint(policy: Policy, *, users: Mapping[str, int], metadata: bool = True) -> str:
    """Names these rules: 16 hex digits of a SHA-256 over them, as written in the last drop of each chain."""
    return _named(_body(policy, users, metadata))


def _named(body: list[str]) -> str:
    return sha256("\n".join(body).encode()).hexdigest()[:16]


def _file(head: str, policy: Policy, users: Mapping[str, int], metadata: bool) -> str:
    body = _body(policy, users, metadata)
    mark = f'comment "{COMMENT} {_named(body)}"'
    lines = [line.replace("counter drop", f"counter drop {mark}") for line in body]
    return (
        f"# vmwarden: the gate, closed, by policy {policy.name} version {policy.version}\n"
        f"{head}table inet {TABLE} {{\n" + "\n".join(lines) + "\n}\n"
    )


def _body(policy: Policy, users: Mapping[str, int], metadata: bool) -> list[str]:
    drains = drain.asked(policy)
    timed = timed_services.services(policy) if timed_services.there_are(policy) else None
    ours = OUR_BITS if timed is None else OUR_BITS | SERVICES_BIT
    into, out = always(policy, users)
    scopes_in, scopes_out = scopes(policy)
    chains = {"replies": list(REPLIES), "scopes_in": scopes_in, "scopes_out": scopes_out}
    chains |= direction.chains(policy)
    chains |= {
        "ending_in": [*ending.calls(), *ending.noted("reject with tcp reset")],
        "ending_out": [*ending.made(), *ending.own()],
    }
    sets = [*direction.SETS, *ASKED, *ending.SETS, named_set(ending.SET, *_SWITCH)]
    if metadata:
        sets.append(named_set(booting.SET, *_SWITCH))
        chains |= {"booting_in": booting.into(), "booting_out": booting.out()}
        into = [f"meta nfproto @{booting.SET} jump booting_in", *into]
        out = [f"meta nfproto @{booting.SET} jump booting_out", *out]
    if drains:
        sets += drain.SETS
        chains |= {
            "open_in": drain.opened(inbound=True),
            "open_out": drain.opened(inbound=False),
            "drain_in": drain.draining(inbound=True),
            "drain_out": drain.draining(inbound=False),
            "drain_forward": drain.forwarded(),
        }
    guarded = f"{_leased(GUARDED_BIT, ours)} jump {'scopes' if timed is None else 'guarded'}_"
    end = f"meta nfproto @{ending.SET} meta l4proto tcp jump ending_"
    judged = {"forward": list[str]()}
    if timed is not None:
        sets += timed_services.sets(timed)
        chains |= timed_services.leased_chains(timed)
        chains |= timed_services.way_chains(timed, "forward", refused="counter drop")
        chains["open_forward"] = _timed_first("forward", ["accept"])
        if drains:
            chains["drain_forward"] = _timed_first("forward", drain.forwarded())
    for suffix, device, own, link_rules in (
        ("in", "iif", into, [*_LINK_IN, *too_big(policy)]),
        ("out", "oif", out, _LINK_OUT),
    ):
        loopback = f"{device} lo accept"
        first = [loopback, *LATER_FRAGMENTS, *direction.refused(inbound=suffix == "in")]
        last = [*own, *link_rules, end + suffix]
        leases = [guarded + suffix]
        if timed is not None:
            chains |= timed_services.way_chains(timed, suffix, refused=f"goto closed_{suffix}")
            chains[f"closed_{suffix}"] = [*first, *last, "counter drop"]
            chains[f"guarded_{suffix}"] = [f"jump timed_{suffix}", f"jump scopes_{suffix}"]
            chains.setdefault(f"open_{suffix}", ["accept"])
            for name in (f"open_{suffix}", f"drain_{suffix}"):
                if name in chains:
                    chains[name] = [loopback, *_timed_first(suffix, chains[name])]
            leases.append(f"{_leased(SERVICES_BIT, ours)} jump timed_{suffix}")
        judged[suffix] = [*first, *leases, *last]
    lines = list(sets)
    for name, rules in chains.items():
        lines += chain(name, rules)
    for suffix, hook in HOOKS.items():
        # most packets have no mark at all: for them this is one comparison
        cleared = [f"meta mark != 0x00000000 {_clear(ours)}"]
        if suffix == "out":
            cleared.append(direction.LOOK)
        lines += chain(
            f"clear_{suffix}",
            cleared,
            hook=f"type filter hook {hook} priority {CLEAR_PRIORITY}; policy accept;",
        )
    for suffix, hook in HOOKS.items():
        lease = [
            _leased(OPEN_BIT, ours) + (f" jump open_{suffix}" if f"open_{suffix}" in chains else " accept")
        ]
        if drains:
            lease.append(f"{_leased(DRAIN_BITS, ours)} jump drain_{suffix}")
        lines += chain(
            f"judge_{suffix}",
            [*lease, *judged[suffix], "counter drop"],
            hook=f"type filter hook {hook} priority {JUDGE_PRIORITY}; policy drop;",
        )
    return lines


def _timed_first(suffix: str, rules: list[str]) -> list[str]:
    """What passes while the rest of the VM does: services are told apart before."""
    return [*timed_services.FRAGMENTS_PASS, f"jump timed_{suffix}", *rules]


def _leased(bits: int, ours: int) -> str:
    return f"meta mark & {ours:#010x} == {bits:#010x} {_clear(ours)}"


def _clear(ours: int) -> str:
    return f"meta mark set meta mark & {0xFFFF_FFFF ^ ours:#010x}"


def intact(text: str) -> bool:
    """Whether text is a file that closed or boot_file has written, whole and unchanged.

    Its own witness is the fingerprint in it.  That finds damage, not forgery: who could forge it is root.
    nft loads an empty file without a word, and a file cut off after its second line, and both close nothing.
    """
    if text == NO_MANAGE:
        return True
    head, opened, rest = text.partition(f"table inet {TABLE} {{\n")
    body, ended, after = rest.rpartition("\n}\n")
    if after == _BOOTING:
        after = ""
    title, _, start = head.partition("\n")
    marks = set(_MARK.findall(body))
    if not opened or not ended or after or len(marks) != 1 or start != _ANEW or not title.startswith("# "):
        return False
    return marks == {sha256(_MARK.sub("counter drop", body).encode()).hexdigest()[:16]}


def _shut() -> str:
    lines = []
    for suffix, rules in (
        ("in", ("iif lo accept", *LATER_FRAGMENTS, *_LINK_IN)),
        ("out", ("oif lo accept", *LATER_FRAGMENTS, *_LINK_OUT)),
        ("forward", ()),
    ):
        hook = f"type filter hook {HOOKS[suffix]} priority {JUDGE_PRIORITY}; policy drop;"
        lines += chain(f"judge_{suffix}", (*rules, "counter drop"), hook=hook)
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
