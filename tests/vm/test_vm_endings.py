# SPDX-License-Identifier: Apache-2.0
"""Direction, resets, drain and the exemption at boot on Debian's 6.1 kernel: as where the tests run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from testbed.machine import Machine
from testbed.provision import install_layer
from vmwarden.testing import network

pytestmark = pytest.mark.vm

#: run in the guest: a network of namespaces, both layers of the gate, and what passes
PROGRAM = r"""
import json, os, select, socket, sys
sys.path.insert(0, "/opt/vmwarden/lib")
from vmwarden.controls.gate import NftGate
from vmwarden.controls.second_layer import SecondLayer
from vmwarden.linux import nft
from vmwarden.linux.sock_diag import SockDiag
from vmwarden.model.hours import Interval
from vmwarden.model.policy import FlowIn, FlowOut, Hours, Manage, Policy, Valid
from vmwarden.rules.ruleset import DRAIN_BITS, HOOKS, OPEN_BIT, boot_file, closed
from network import BEHIND, PEER, VM, lan

def policy(hours=None):
    manage = Manage(in_=(FlowIn(from_="10.99.0.2/32", tcp=22),), out=(FlowOut(to="10.99.0.2/32", tcp=443),))
    return Policy(
        format="vmwarden.policy/1", name="gate", version=1, vms=("vm",), mode="enforce", manage=manage,
        valid=Valid(from_="2026-11-01T00:00Z", until="2027-11-01T00:00Z"), hours=hours,
    )

held = []
def tcp(source, target, to, port, sport=0):
    door, caller = target.socket(socket.SOCK_STREAM), source.socket(socket.SOCK_STREAM)
    for each in (door, caller):
        each.settimeout(1); each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); held.append(each)
    door.bind((to, port)); door.listen(1)
    caller.bind(("0.0.0.0", sport))
    try:
        caller.connect((to, port))
    except TimeoutError:
        door.close(); return None
    answering = door.accept()[0]; answering.settimeout(1); held.append(answering); door.close()
    caller.settimeout(1)
    return caller, answering

def alive(ends):
    if ends is None: return False
    for one, other in (ends, ends[::-1]):
        try:
            one.send(b"x")
            if other.recv(1) != b"x": return False
        except OSError: return False
    return True

def told(end, tries=75):
    # TCP waits longer each time before it tries again
    for _ in range(tries):
        try:
            end.send(b"token-of-this-vm"); end.settimeout(0.2); end.recv(1)
        except TimeoutError: continue
        except OSError: return True
    return False

def udp(source, target, to, port):
    server, client = target.socket(socket.SOCK_DGRAM), source.socket(socket.SOCK_DGRAM)
    server.bind((to, port)); held.extend((server, client))
    server.settimeout(1); client.settimeout(1)
    def passes():
        try:
            client.sendto(b"x", (to, port)); _, where = server.recvfrom(9)
            server.sendto(b"x", where); return client.recv(1) == b"x"
        except OSError: return False
    return passes

def ear(where):
    with where.entered(): made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    made.setsockopt(263, 23, 1)
    def heard():
        frames = []
        while select.select([made], [], [], 0.3)[0]:
            data = made.recv(65536)
            if data[12:14] == b"\x08\0" and data[23] == 6: frames.append(data)
        return frames
    return heard

found = {"kernel": os.uname().release}
with lan() as net, net.vm.entered():
    # an uplink of a number that its other end does not have: see tests/integration/test_gate_resets.py
    def ip(where, words): where.run("ip", *words.split())
    ip(net.vm, "link del eth0")
    ip(net.vm, f"link add eth0 index 77 type veth peer name eth0 netns {net.peer.name}")
    for where, address in ((net.vm, VM), (net.peer, PEER)):
        ip(where, f"addr add {address}/24 dev eth0")
        ip(where, "link set eth0 up")
    ip(net.peer, f"route add {BEHIND}/32 via {VM}")
    gate = NftGate(second=SecondLayer(stands_in=lambda link: link.kind == "veth" and link.name == "eth0"))
    gate.install(policy()); gate.lease(30000)
    against = tcp(net.peer, net.vm, VM, 9003, 443); manage = tcp(net.peer, net.vm, VM, 22)
    found["against, open"] = alive(against)
    gate.flush()
    found["against, closed"] = alive(against); found["manage, closed"] = alive(manage)
    gate.lease(30000)
    through, own, gone = (tcp(net.behind, net.peer, PEER, 9010), tcp(net.peer, net.vm, VM, 9011),
                          tcp(net.peer, net.vm, VM, 9012))
    outside = ear(net.peer); outside()
    gate.flush()
    found["silent in held"] = not told(through[0], 3) and not told(own[0], 3)
    found["frames in held"] = len(outside())
    for table, four, six in (("inet", "ipv4", "ipv6"), ("netdev", "ip", "ip6")):
        nft.load(f"add element {table} vmwarden ending {{ {four} timeout 60s, {six} timeout 60s }}\n")
    found["told"] = [told(end) for end in (*through, own[0])]
    sockets = SockDiag()
    for batch in sockets.flows("tcp"):
        sockets.destroy([handle for handle in batch if handle.flow.local_port == 9012])
    try:
        gone[0].recv(1); found["reset of a socket"] = False
    except OSError as error: found["reset of a socket"] = isinstance(error, ConnectionResetError)
    frames = outside()
    found["frames in quarantined"] = len(frames)
    bare = [frame for frame in frames if len(frame) in (54, 66) and frame[47] & 4]
    found["with payload"] = len(frames) - len(bare)
    gate.remove()
    # a drain: the permit as text
    bits = {"lease": OPEN_BIT, "lease_drain": DRAIN_BITS}
    permit = "".join(
        f"chain permit_{end} {{ type filter hook {hook} priority -350; policy accept;\n"
        + "".join(f"meta nfproto @{name} meta mark set meta mark | {b} accept\n" for name, b in bits.items())
        + "}\n"
        for end, hook in HOOKS.items()
    )
    sets = "".join(f"set {name} {{ type nf_proto; flags timeout; }}\n" for name in bits)
    drained = policy(Hours(open=(Interval(),), drain="30s"))
    nft.load(closed(drained, users={}) + "table inet vmwarden_alive {\n" + sets + permit + "}\n")
    def lease(name):
        nft.load("".join(f"flush set inet vmwarden_alive {each}\n" for each in bits)
            + f"add element inet vmwarden_alive {name} {{ ipv4 timeout 60s, ipv6 timeout 60s }}\n")
    lease("lease")
    flow, datagrams = tcp(net.peer, net.vm, VM, 9020), udp(net.peer, net.vm, VM, 9020)
    found["before the drain"] = [alive(flow), datagrams()]
    lease("lease_drain")
    found["old in the drain"] = [alive(flow), datagrams()]
    found["new in the drain"] = [
        *(alive(tcp(*ends, 9021)) for ends in ((net.peer, net.vm, VM), (net.vm, net.peer, PEER))),
        alive(tcp(net.behind, net.peer, PEER, 9021)),
        *(udp(*ends, 9021)() for ends in ((net.peer, net.vm, VM), (net.vm, net.peer, PEER))),
    ]
    nft.load("delete table inet vmwarden\ndelete table inet vmwarden_alive\n")
    # at boot
    ip(net.peer, "addr add 169.254.169.254/32 dev eth0")
    ip(net.vm, "route add 169.254.169.254/32 dev eth0")
    nft.load(boot_file(policy(), users={}))
    found["at boot"] = alive(tcp(net.vm, net.peer, "169.254.169.254", 80))
    nft.load("flush set inet vmwarden booting\n")
    found["after boot"] = alive(tcp(net.vm, net.peer, "169.254.169.254", 80))
print(json.dumps(found))
"""


def test_how_flows_end_on_the_kernel_of_debian_12(fast_machine: Callable[..., Machine]) -> None:
    guest = fast_machine(layers=(install_layer(),)).guest
    guest.put("/tmp/endings.py", PROGRAM)
    # what is installed in a VM has no test rooms; this one file needs nothing of them
    guest.put("/tmp/network.py", Path(network.__file__).read_bytes())
    found: dict[str, Any] = json.loads(guest.out("python3 /tmp/endings.py", timeout=240).splitlines()[-1])
    assert found.pop("kernel").startswith("6.1.")
    assert found.pop("frames in quarantined") > 0
    assert found == {
        "against, open": True,
        "against, closed": False,
        "manage, closed": True,
        "silent in held": True,
        "frames in held": 0,
        "told": [True, True, True],
        "reset of a socket": True,
        "with payload": 0,
        "before the drain": [True, True],
        "old in the drain": [True, True],
        "new in the drain": [False] * 5,
        "at boot": True,
        "after boot": False,
    }
