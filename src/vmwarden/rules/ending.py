# SPDX-License-Identifier: Apache-2.0
"""How both ends of a TCP flow are told that it has ended, as nft rules: bare resets, few, and for a while.

The set `ending` of a table switches this on, with the keys of the table's lease; the warden puts it in for
some seconds when it takes quarantined.  It is empty in every other posture: `held` drops silently.

    ending_in    answers what has ACK with a reset: one in RESET_AGAIN for each flow, RATE in all
    ending_out   lets out a reset that ending_in has just made, and those of sockets of this VM (SOCK_DESTROY)

A blanket rule for resets would let payload out: a segment with RST may carry data.  So what goes out has a
known length and no room for any: an IP header without options, a TCP header of 20 bytes, or for a socket of
this VM of 32 (with its time stamps).

reset4, reset6: the resets that were made just now, by address and port of the other end, then of ours.
"""

from vmwarden.rules.passing import FAMILIES, flow, flow_sets

SET = "ending"
#: a flow is answered once in this time: a sender that is cut has hundreds of segments under way
RESET_AGAIN = "500ms"
RATE = "limit rate over 200/second burst 200 packets"
#: the warden destroys its sockets in one go
_OWN_RATE = "limit rate 1000/second burst 1000 packets"
SETS = tuple(flow_sets("reset", f"size 4096; flags dynamic,timeout; timeout {RESET_AGAIN};"))

#: Of the IP packet that is a bare reset, by family: the length of what is behind the IPv6 header, or of all
#: of the IPv4 packet; TCP headers of 20 and of 32 bytes.
_LENGTHS = {"ip": ("ip length", 40, 52), "ip6": ("ip6 nexthdr tcp ip6 length", 20, 32)}


def calls() -> list[str]:
    """The first rules of ending_in: what is not answered.  A new flow is not, and no reset ever is."""
    known = [f"{_key(family)} @reset{end} return" for family, _, end in FAMILIES]
    return ["tcp flags & (syn | rst | ack) != ack return", *known, f"{RATE} return"]


def noted(then: str) -> list[str]:
    """The flow is written down as told, and then..."""
    return [f"add @reset{end} {{ {_key(family)} }} {then}" for family, _, end in FAMILIES]


def made() -> list[str]:
    """A reset that was made for a flow just told.  Its source is whoever the other end was talking to."""
    return [
        f"{field} {short} tcp doff 5 tcp flags == rst {flow(family, 'tcp', inbound=False)} @reset{end} accept"
        for (family, _, end), (field, short, _) in zip(FAMILIES, _LENGTHS.values(), strict=True)
    ]


def own() -> list[str]:
    """A reset of a socket of this VM.  What the kernel makes for another has no socket and no user."""
    any_user = "meta skuid 0-4294967295"
    return [
        f"{field} {length} tcp doff {words} tcp flags {{ rst, rst | ack }} {any_user} {_OWN_RATE} accept"
        for field, short, long in _LENGTHS.values()
        for length, words in ((short, 5), (long, 8))
    ]


def _key(family: str) -> str:
    return flow(family, "tcp", inbound=True)
