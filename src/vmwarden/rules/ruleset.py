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
from collections.abc import Mapping

from vmwarden.model.policy import Policy
from vmwarden.rules.passing import LATER_FRAGMENTS, REPLIES, always, chain, link, scopes, too_big
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

_LINK_IN, _LINK_OUT = link(ip="meta nfproto ipv4", ip6="meta nfproto ipv6")

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
    into, out = always(policy, users)
    into += [*_LINK_IN, *too_big(policy)]
    out += _LINK_OUT
    scopes_in, scopes_out = scopes(policy)
    lines: list[str] = []
    for suffix, hook in HOOKS.items():
        lines += chain(
            f"clear_{suffix}",
            # most packets have no mark at all: for them this is one comparison
            [f"meta mark != 0x00000000 {_CLEAR}"],
            hook=f"type filter hook {hook} priority {CLEAR_PRIORITY}; policy accept;",
        )
    lines += chain("replies", REPLIES)
    lines += chain("scopes_in", scopes_in)
    lines += chain("scopes_out", scopes_out)
    lease = f"meta mark & {OPEN_BIT:#010x} == {OPEN_BIT:#010x} {_CLEAR} accept"
    guarded = f"meta mark & {GUARDED_BIT:#010x} == {GUARDED_BIT:#010x} {_CLEAR} jump scopes_"
    judged = {
        "in": [lease, "iif lo accept", *LATER_FRAGMENTS, guarded + "in", *into],
        "out": [lease, "oif lo accept", *LATER_FRAGMENTS, guarded + "out", *out],
        "forward": [lease],
    }
    for suffix, hook in HOOKS.items():
        lines += chain(
            f"judge_{suffix}",
            [*judged[suffix], "counter drop"],
            hook=f"type filter hook {hook} priority {JUDGE_PRIORITY}; policy drop;",
        )
    return lines


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
