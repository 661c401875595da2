# SPDX-License-Identifier: Apache-2.0
"""Every way into, out of and through the VM, for the matrix of docs/reference/gate-coverage.md.

A scene is a network with something built on it, or done to it once both layers stand.  A way is one
question of it: does this get there?
"""

import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.integration import gate_probe as probe
from tests.integration.gate_around import XDP_TX, XdpSender, attach_xdp
from tests.integration.gate_frames import Ear, Ends, Frame, crafted, mac, resets, send
from tests.integration.gate_policy import MANAGE_IN, MANAGE_OUT, PROBER_UID, REACH
from vmwarden.controls.gate import NftGate
from vmwarden.model.link import Link
from vmwarden.testing.network import (
    BEHIND,
    GATEWAY,
    PEER,
    PEER6,
    VM,
    VM6,
    Lan,
    Namespace,
)
from vmwarden.testing.traffic import family_of

GUEST, GUEST6 = "10.99.0.9", "fd99::9"
GROUP = "239.7.7.7"
#: devices of the VM's that lead to what is inside it; every other veth stands for a NIC
INSIDE = frozenset(("eth1",))


def stands_in(link: Link) -> bool:
    return link.kind == "veth" and link.name not in INSIDE


@dataclass(frozen=True, slots=True)
class Way:
    """passes: whether it gets there.  closed: whether it should while closed.  opened: while open.
    why: what passes closed, and why.
    lone: whether the first layer alone, closed, lets it through (measured; expected here).
    leased: it is judged by the second layer only, so that after the warden's death its lease still counts.
    cut: from quarantined on, the device that it takes is switched off.
    told: while flows are ended, from quarantined on, it is let out.
    """

    passes: Callable[[], bool]
    closed: bool = False
    opened: bool = True
    lone: bool = False
    leased: bool = False
    cut: bool = False
    told: bool = False
    why: str = ""


@dataclass(slots=True)
class Scene:
    """built: before there is a gate; done: once both layers stand and before the gate hears of it.

    Either raises CommandFailed where this kernel has not got what it needs.
    """

    name: str
    ways: Callable[[Lan], dict[str, Way]]
    built: Callable[[Lan], None] = field(default=lambda lan: None)
    done: Callable[[Lan, NftGate], None] = field(default=lambda lan, gate: None)


def scenes() -> tuple[Scene, ...]:
    return (
        Scene("this VM", _plain),
        Scene("packet sockets of this VM", _packet_sockets),
        Scene("container, routed", _routed),
        Scene("container behind NAT", _published, _publish),
        Scene("container on a bridge that holds the uplink", _bridged, _bridge),
        Scene("macvlan child in another namespace", _macvlan, _make_macvlan),
        Scene("ipvlan child in another namespace", _ipvlan, _make_ipvlan),
        Scene("hot-plugged NIC", _second_nic, done=_hot_plug),
        Scene("renamed NIC", lambda lan: _nic(lan, "renamed0"), done=_rename),
        Scene("NIC removed and returned", lambda lan: _nic(lan, "eth0"), done=_return),
        Scene("VLAN child", _vlan, _make_vlan),
        Scene("bond", _bond, _make_bond),
        Scene("tc redirect from another device", _redirected, done=_redirect),
        Scene("XDP program on the uplink", _bounced, done=_bounce),
        Scene("AF_XDP", _af_xdp),
        Scene("uplink moved to another namespace", _moved, done=_move),
    )


def ends(lan: Lan, device: str = "eth0", *, there: str = "eth0", where: Namespace | None = None) -> Ends:
    """From a device of this VM, or of another namespace, to one of the peer."""
    return Ends(mac(where or lan.vm, device), mac(lan.peer, there), VM, PEER, VM6, PEER6)


def _plain(lan: Lan) -> dict[str, Way]:
    vm, peer = lan.vm, lan.peer
    always = "always passes: "
    return {
        "UDP out": Way(lambda: probe.udp(vm, peer, PEER, 9000)),
        "UDP in": Way(lambda: probe.udp(peer, vm, VM, 9000)),
        "TCP out": Way(lambda: probe.tcp(vm, peer, PEER, 9002)),
        "TCP in": Way(lambda: probe.tcp(peer, vm, VM, 9002)),
        "ICMP out": Way(lambda: probe.ping(vm, PEER)),
        "ICMP in": Way(lambda: probe.ping(peer, VM)),
        "UDP out, IPv6": Way(lambda: probe.udp(vm, peer, PEER6, 9010)),
        "UDP in, IPv6": Way(lambda: probe.udp(peer, vm, VM6, 9010)),
        "TCP in, IPv6": Way(lambda: probe.tcp(peer, vm, VM6, 9012)),
        "ICMPv6 out": Way(lambda: probe.ping(vm, PEER6)),
        "ICMPv6 in": Way(lambda: probe.ping(peer, VM6)),
        "UDP in fragments out": Way(lambda: _long(vm, peer, PEER)),
        "UDP in fragments in": Way(lambda: _long(peer, vm, VM)),
        "UDP in fragments in, IPv6": Way(lambda: _long(peer, vm, VM6)),
        "multicast out": Way(lambda: _multicast(vm, peer)),
        "multicast in": Way(lambda: _multicast(peer, vm)),
        "raw socket out (IP_HDRINCL)": Way(lambda: _raw(vm, lan, socket.AF_INET)),
        "raw socket out, IPv6 with extension headers": Way(lambda: _raw(vm, lan, socket.AF_INET6)),
        "ARP": Way(lambda: _answered(lan, "-4", VM), closed=True, lone=True, why=always + "the link"),
        "neighbour discovery": Way(
            lambda: _answered(lan, "-6", VM6), closed=True, lone=True, why=always + "the link"
        ),
        "manage in": Way(
            lambda: probe.tcp(peer, vm, VM, MANAGE_IN, sent_from=PEER),
            closed=True,
            lone=True,
            why=always + "manage",
        ),
        "manage in, IPv6": Way(
            lambda: probe.tcp(peer, vm, VM6, MANAGE_IN), closed=True, lone=True, why=always + "manage"
        ),
        "manage out": Way(
            lambda: probe.tcp(vm, peer, PEER, MANAGE_OUT), closed=True, lone=True, why=always + "manage"
        ),
        "SYN out through manage in": Way(lambda: probe.tcp(vm, peer, PEER, 9003, source_port=MANAGE_IN)),
        "reach by its user": Way(
            lambda: probe.udp_answered(vm, peer, PEER, REACH, uid=PROBER_UID),
            closed=True,
            lone=True,
            why=always + "reach",
        ),
        "reach by another user": Way(lambda: probe.udp_answered(vm, peer, PEER, REACH, uid=0)),
    }


_TOLD = "judged by the second layer only; let out for some seconds while flows are ended, a few, without data"


def _packet_sockets(lan: Lan) -> dict[str, Way]:
    ear = (lan.peer, "eth0")
    ways = {
        f"out: {name}": _frame_way(lan.vm, ear, name, lambda token: crafted(ends(lan), token))
        for name in crafted(ends(lan), b"")
    }
    ways["out with PACKET_QDISC_BYPASS: IPv4, UDP"] = _frame_way(
        lan.vm, ear, "IPv4, UDP", lambda token: crafted(ends(lan), token), bypass=True
    )
    for name in resets(ends(lan), b"8 octets"):
        way = _frame_way(lan.vm, ear, name, lambda token: resets(ends(lan), token))
        bare = name == "TCP reset"
        ways[f"out: {name}"] = replace(way, told=bare, why=_TOLD if bare else "")
    ways["tap: frames that come in are seen"] = Way(
        lambda: _tapped(lan),
        closed=True,
        lone=True,
        why="out of reach: a packet socket sees frames before any hook (CAP_NET_RAW)",
    )
    return ways


def _frame_way(
    where: Namespace,
    heard_at: tuple[Namespace, str],
    name: str,
    made: Callable[[bytes], dict[str, Frame]],
    *,
    device: str = "eth0",
    bypass: bool = False,
) -> Way:
    def passes() -> bool:
        token = os.urandom(8)
        with Ear(*heard_at) as ear:
            send(where, made(token)[name], device=device, bypass=bypass)
            return ear.heard(token)

    # what is no IP, ARP or tagged, or claims to be what it is not, never passes the second layer
    never = name in ("another EtherType", "IPv4, called ARP")
    return Way(passes, opened=not never, lone=True, leased=not never)


def _routed(lan: Lan) -> dict[str, Way]:
    behind, peer, vm = lan.behind, lan.peer, lan.vm
    return {
        "out, UDP": Way(lambda: probe.udp(behind, peer, PEER, 9000)),
        "in, UDP": Way(lambda: probe.udp(peer, behind, BEHIND, 9000)),
        "in, TCP to the port of manage": Way(lambda: probe.tcp(peer, behind, BEHIND, MANAGE_IN)),
        "to this VM, UDP": Way(lambda: probe.udp(behind, vm, GATEWAY, 9000)),
        "to this VM, TCP to the port of manage": Way(lambda: probe.tcp(behind, vm, GATEWAY, MANAGE_IN)),
    }


PUBLISHED = 8080


def _publish(lan: Lan) -> None:
    """As Docker does: ports of the VM's lead to the container, and what it sends gets the VM's address."""
    lan.peer.run("ip", "route", "del", f"{BEHIND}/32")
    for words in (
        ("table", "ip", "published"),
        ("chain", "ip", "published", "in", "{ type nat hook prerouting priority dstnat; }"),
        ("chain", "ip", "published", "out", "{ type nat hook postrouting priority srcnat; }"),
        ("rule", "ip", "published", "in", f"tcp dport {{ {PUBLISHED}, {MANAGE_IN} }} dnat to {BEHIND}"),
        ("rule", "ip", "published", "out", f"ip saddr {BEHIND} oif eth0 masquerade"),
    ):
        lan.vm.run("nft", "add", *words)


def _published(lan: Lan) -> dict[str, Way]:
    behind, peer = lan.behind, lan.peer
    return {
        "out, UDP": Way(lambda: probe.udp(behind, peer, PEER, 9000)),
        "out, TCP to the port of manage": Way(lambda: probe.tcp(behind, peer, PEER, MANAGE_OUT)),
        "in, TCP to a published port": Way(lambda: probe.tcp(peer, behind, VM, PUBLISHED, heard_at=BEHIND)),
        "in, TCP to the port of manage, published": Way(
            lambda: probe.tcp(peer, behind, VM, MANAGE_IN, sent_from=PEER, heard_at=BEHIND)
        ),
    }


def _bridge(lan: Lan) -> None:
    lan.vm.run("ip", "link", "add", "br0", "type", "bridge")
    # where it is on, the first layer sees bridged IP packets, too; most VMs have not got it
    with lan.vm.entered():
        for name in ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables"):
            switch = Path("/proc/sys/net/bridge") / name
            if switch.exists():
                switch.write_text("0")
    for device in ("eth0", "eth1"):
        lan.vm.run("ip", "addr", "flush", "dev", device)
        lan.vm.run("ip", "link", "set", device, "master", "br0")
    lan.vm.run("ip", "link", "set", "br0", "up")
    lan.vm.run("ip", "addr", "add", f"{VM}/24", "dev", "br0")
    lan.behind.run("ip", "addr", "flush", "dev", "eth0")
    _live_at_the_link(lan.behind, "eth0")


def _live_at_the_link(where: Namespace, device: str) -> None:
    where.run("ip", "link", "set", device, "up")
    where.run("ip", "addr", "add", f"{GUEST}/24", "dev", device)
    where.run("ip", "addr", "add", f"{GUEST6}/64", "dev", device, "nodad")


def _bridged(lan: Lan) -> dict[str, Way]:
    behind, peer = lan.behind, lan.peer
    ways = _neighbours(lan)
    ways["this VM over the bridge: UDP out"] = Way(lambda: probe.udp(lan.vm, peer, PEER, 9000))
    ways["this VM over the bridge: manage in"] = Way(
        lambda: probe.tcp(peer, lan.vm, VM, MANAGE_IN, sent_from=PEER),
        closed=True,
        lone=True,
        why="always passes: manage",
    )
    ear, back = (peer, "eth0"), (behind, "eth0")
    outward = Ends(mac(behind), mac(peer), GUEST, PEER, GUEST6, PEER6)
    inward = Ends(mac(peer), mac(behind), PEER, GUEST, PEER6, GUEST6)
    for name in crafted(outward, b""):
        if "called" in name:
            continue  # what comes in at a device is called what it is
        ways[f"crafted, out: {name}"] = _frame_way(behind, ear, name, lambda token: crafted(outward, token))
        ways[f"crafted, in: {name}"] = _frame_way(peer, back, name, lambda token: crafted(inward, token))
    return ways


def _neighbours(lan: Lan) -> dict[str, Way]:
    """Somebody who is at the link with an address and a MAC of his own, through our uplink."""
    behind, peer = lan.behind, lan.peer
    return {
        "UDP out": Way(lambda: probe.udp(behind, peer, PEER, 9000), lone=True, leased=True),
        "UDP in": Way(lambda: probe.udp(peer, behind, GUEST, 9000), lone=True, leased=True),
        "UDP out, IPv6": Way(lambda: probe.udp(behind, peer, PEER6, 9000), lone=True, leased=True),
        "TCP in to the port of manage": Way(
            lambda: probe.tcp(peer, behind, GUEST, MANAGE_IN, sent_from=PEER), lone=True, leased=True
        ),
        "TCP out to the port of manage": Way(
            lambda: probe.tcp(behind, peer, PEER, MANAGE_OUT), lone=True, leased=True
        ),
    }


def _make_macvlan(lan: Lan) -> None:
    lan.vm.run("ip", "link", "add", "link", "eth0", "name", "mv0", "type", "macvlan", "mode", "bridge")
    lan.vm.run("ip", "link", "set", "mv0", "netns", lan.behind.name)
    lan.behind.run("ip", "link", "set", "eth0", "down")
    _live_at_the_link(lan.behind, "mv0")


def _macvlan(lan: Lan) -> dict[str, Way]:
    ways = _neighbours(lan)
    ear = (lan.peer, "eth0")
    outward = Ends(mac(lan.behind, "mv0"), mac(lan.peer), GUEST, PEER, GUEST6, PEER6)
    for name in ("IPv4, UDP", "another EtherType"):
        ways[f"packet socket of the child: {name}"] = _frame_way(
            lan.behind, ear, name, lambda token: crafted(outward, token), device="mv0"
        )
    return ways


def _make_ipvlan(lan: Lan) -> None:
    lan.vm.run("ip", "link", "add", "link", "eth0", "name", "iv0", "type", "ipvlan", "mode", "l2")
    lan.vm.run("ip", "link", "set", "iv0", "netns", lan.behind.name)
    lan.behind.run("ip", "link", "set", "eth0", "down")
    _live_at_the_link(lan.behind, "iv0")


def _ipvlan(lan: Lan) -> dict[str, Way]:
    return _neighbours(lan)


def _hot_plug(lan: Lan, _: NftGate) -> None:
    lan.vm.run("ip", "link", "add", "new0", "type", "veth", "peer", "name", "new0", "netns", lan.peer.name)
    lan.vm.run("ip", "link", "set", "new0", "up")
    lan.peer.run("ip", "link", "set", "new0", "up")


def _second_nic(lan: Lan) -> dict[str, Way]:
    ear = (lan.peer, "new0")
    made = ends(lan, "new0", there="new0")
    return {
        f"packet socket out: {name}": _frame_way(
            lan.vm, ear, name, lambda token: crafted(made, token), device="new0"
        )
        for name in ("IPv4, UDP", "IPv6, UDP behind extension headers")
    }


def _rename(lan: Lan, _: NftGate) -> None:
    lan.vm.run("ip", "link", "set", "eth0", "down")
    lan.vm.run("ip", "link", "set", "eth0", "name", "renamed0")
    lan.vm.run("ip", "link", "set", "renamed0", "up")


def _return(lan: Lan, gate: NftGate) -> None:
    lan.vm.run("ip", "link", "del", "eth0")
    gate.heard()
    lan.vm.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", lan.peer.name)
    lan.vm.run("ip", "addr", "add", f"{VM}/24", "dev", "eth0")
    lan.vm.run("ip", "link", "set", "eth0", "up")
    lan.peer.run("ip", "addr", "add", f"{PEER}/24", "dev", "eth0")
    lan.peer.run("ip", "link", "set", "eth0", "up")


def _nic(lan: Lan, device: str) -> dict[str, Way]:
    ear = (lan.peer, "eth0")
    made = ends(lan, device)
    return {
        "UDP in": Way(lambda: probe.udp(lan.peer, lan.vm, VM, 9000)),
        "manage in": Way(
            lambda: probe.tcp(lan.peer, lan.vm, VM, MANAGE_IN, sent_from=PEER),
            closed=True,
            lone=True,
            why="always passes: manage",
        ),
        "packet socket out": _frame_way(
            lan.vm, ear, "IPv4, UDP", lambda token: crafted(made, token), device=device
        ),
    }


def _make_vlan(lan: Lan) -> None:
    for where, address in ((lan.vm, "10.98.0.1/24"), (lan.peer, "10.98.0.2/24")):
        where.run("ip", "link", "add", "link", "eth0", "name", "vlan5", "type", "vlan", "id", "5")
        where.run("ip", "addr", "add", address, "dev", "vlan5")
        where.run("ip", "link", "set", "vlan5", "up")


def _vlan(lan: Lan) -> dict[str, Way]:
    ear = (lan.peer, "eth0")
    made = ends(lan)
    return {
        "UDP out": Way(lambda: probe.udp(lan.vm, lan.peer, "10.98.0.2", 9000)),
        "UDP in": Way(lambda: probe.udp(lan.peer, lan.vm, "10.98.0.1", 9000)),
        "packet socket out": _frame_way(
            lan.vm, ear, "IPv4, UDP", lambda token: crafted(made, token), device="vlan5"
        ),
    }


def _make_bond(lan: Lan) -> None:
    lan.vm.run("ip", "link", "add", "bond0", "type", "bond", "mode", "active-backup", "miimon", "10")
    lan.vm.run("ip", "addr", "flush", "dev", "eth0")
    lan.vm.run("ip", "link", "set", "eth0", "down")
    lan.vm.run("ip", "link", "set", "eth0", "master", "bond0")
    lan.vm.run("ip", "addr", "add", f"{VM}/24", "dev", "bond0")
    lan.vm.run("ip", "link", "set", "bond0", "up")


def _bond(lan: Lan) -> dict[str, Way]:
    ear = (lan.peer, "eth0")
    made = ends(lan)
    return {
        "UDP out": Way(lambda: probe.udp(lan.vm, lan.peer, PEER, 9000)),
        "manage in": Way(
            lambda: probe.tcp(lan.peer, lan.vm, VM, MANAGE_IN, sent_from=PEER),
            closed=True,
            lone=True,
            why="always passes: manage",
        ),
        "packet socket out": _frame_way(
            lan.vm, ear, "IPv4, UDP", lambda token: crafted(made, token), device="bond0"
        ),
    }


_AROUND = "out of reach: {}; finding {}, link down from quarantined on"


def _redirect(lan: Lan, _: NftGate) -> None:
    redirect: tuple[str, ...] = ("protocol", "all", "u32", "match", "u32", "0", "0", "action", "mirred")
    redirect += ("egress", "redirect", "dev", "eth0")
    lan.vm.run("tc", "qdisc", "add", "dev", "eth1", "clsact")
    lan.vm.run("tc", "filter", "add", "dev", "eth1", "egress", *redirect)
    lan.vm.run("tc", "filter", "add", "dev", "eth1", "ingress", *redirect)


def _redirected(lan: Lan) -> dict[str, Way]:
    ear = (lan.peer, "eth0")
    made = ends(lan)
    why = _AROUND.format("the kernel does not judge again what tc redirects", "gate.around.tc")
    outward = _frame_way(lan.vm, ear, "IPv4, UDP", lambda token: crafted(made, token), device="eth1")
    inward = _frame_way(lan.behind, ear, "IPv4, UDP", lambda token: crafted(made, token))
    return {
        "on its way out of that device": replace(outward, closed=True, cut=True, why=why),
        "on its way in at that device": replace(inward, closed=True, cut=True, why=why),
    }


def _bounce(lan: Lan, _: NftGate) -> None:
    with lan.vm.entered():
        attach_xdp(socket.if_nametoindex("eth0"), XDP_TX)


def _bounced(lan: Lan) -> dict[str, Way]:
    def passes() -> bool:
        token = os.urandom(8)
        with Ear(lan.peer) as ear:
            send(lan.peer, crafted(ends(lan), token)["IPv4, UDP"])
            return ear.heard(token)

    why = _AROUND.format("XDP comes before every hook", "gate.around.xdp")
    return {"a frame that came in goes out again": Way(passes, closed=True, lone=True, cut=True, why=why)}


def _af_xdp(lan: Lan) -> dict[str, Way]:
    with lan.vm.entered():
        sender = XdpSender(socket.if_nametoindex("eth0"))

    def passes() -> bool:
        token = os.urandom(8)
        with Ear(lan.peer) as ear:
            sender.send(crafted(ends(lan), token)["IPv4, UDP"].data)
            return ear.heard(token)

    why = _AROUND.format("AF_XDP hands frames to the driver", "gate.around.af-xdp")
    return {"out": Way(passes, closed=True, lone=True, cut=True, why=why)}


def _move(lan: Lan, _: NftGate) -> None:
    lan.vm.run("ip", "link", "set", "eth0", "netns", lan.behind.name, "name", "taken0")
    lan.behind.run("ip", "link", "set", "taken0", "up")


def _moved(lan: Lan) -> dict[str, Way]:
    ear = (lan.peer, "eth0")
    made = ends(lan, "taken0", where=lan.behind)
    why = "out of reach: our tables are in this namespace; finding gate.around.uplink-gone"
    way = _frame_way(lan.behind, ear, "IPv4, UDP", lambda token: crafted(made, token), device="taken0")
    return {"out of that namespace": replace(way, closed=True, leased=False, why=why)}


def _long(source: Namespace, target: Namespace, to: str) -> bool:
    """A datagram of several fragments."""
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    with (
        target.socket(socket.SOCK_DGRAM, family) as receiver,
        source.socket(socket.SOCK_DGRAM, family) as sender,
    ):
        receiver.bind((to, 9004))
        receiver.settimeout(probe.WITHIN_S)
        try:
            sender.sendto(b"x" * 4000, (to, 9004))
            return len(receiver.recv(5000)) == 4000
        except OSError:
            return False


def _multicast(source: Namespace, target: Namespace) -> bool:
    group = socket.inet_aton(GROUP)
    with (
        target.socket(socket.SOCK_DGRAM) as receiver,
        source.socket(socket.SOCK_DGRAM) as sender,
        target.entered(),
    ):
        receiver.bind((GROUP, 9005))
        receiver.setsockopt(
            socket.IPPROTO_IP,
            socket.IP_ADD_MEMBERSHIP,
            struct.pack("=4s4si", group, b"\0" * 4, socket.if_nametoindex("eth0")),
        )
        receiver.settimeout(probe.WITHIN_S)
        with source.entered():
            device = socket.if_nametoindex("eth0")
        sender.setsockopt(
            socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("=4s4si", b"\0" * 4, b"\0" * 4, device)
        )
        try:
            sender.sendto(b"group", (GROUP, 9005))
            return receiver.recv(10) == b"group"
        except OSError:
            return False


def _raw(where: Namespace, lan: Lan, family: socket.AddressFamily) -> bool:
    token = os.urandom(8)
    name = "IPv4, UDP" if family == socket.AF_INET else "IPv6, UDP behind extension headers"
    packet = crafted(ends(lan), token)[name].data[14:]
    with (
        Ear(lan.peer) as ear,
        where.entered(),
        socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw,
    ):
        try:
            raw.sendto(packet, (PEER if family == socket.AF_INET else PEER6, 0))
        except OSError:
            return False
        return ear.heard(token)


def _answered(lan: Lan, family: str, address: str) -> bool:
    """The peer asks the link who has this VM's address, and the VM answers."""
    lan.peer.run("ip", family, "neigh", "flush", "dev", "eth0")
    with lan.peer.socket(socket.SOCK_DGRAM, family_of(address)) as asking:
        asking.sendto(b"", (address, 9006))
    for _ in range(10):
        found = lan.peer.run("ip", family, "neigh", "show", address, "dev", "eth0").stdout.decode()
        if "lladdr" in found:
            return True
    return False


def _tapped(lan: Lan) -> bool:
    token = os.urandom(8)
    made = Ends(mac(lan.peer), mac(lan.vm), PEER, VM, PEER6, VM6)
    with Ear(lan.vm) as tap:
        send(lan.peer, crafted(made, token)["IPv4, UDP"])
        return tap.heard(token)
