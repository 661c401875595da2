# SPDX-License-Identifier: Apache-2.0
"""The second layer on Debian's 6.1 kernel: egress hook, fib at the device, and what it does when NICs change.

6.1 binds a chain to the device and drops it with the device; 6.18 binds it to the name.
"""

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

#: run in the guest, in namespaces of its own
PROGRAM = r"""
import json, os, socket, sys, time
sys.path.insert(0, "/opt/vmwarden/lib")
from vmwarden.controls.second_layer import SecondLayer
from vmwarden.controls.way_around import WayAround
from vmwarden.model.policy import FlowIn, FlowOut, Manage, Policy, Scope, Valid
from network import PEER, VM, VM6, lan

POLICY = Policy(
    format="vmwarden.policy/1", name="gate", version=1, vms=("vm",), mode="enforce",
    valid=Valid(from_="2026-11-01T00:00Z", until="2027-11-01T00:00Z"),
    manage=Manage(
        in_=(FlowIn(from_="10.99.0.2/32", tcp=22),), out=(FlowOut(to="10.99.0.2/32", tcp=443),)
    ),
    scopes=(Scope(name="s", in_=(FlowIn(from_="10.99.0.2/32", udp=7001),)),),
)

def udp(source, target, to, port):
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    kind = socket.SOCK_DGRAM
    with target.socket(kind, family) as server, source.socket(kind, family) as client:
        server.bind((to, port))
        server.settimeout(0.5)
        try:
            client.sendto(b"x", (to, port))
            return server.recv(1) == b"x"
        except (TimeoutError, PermissionError):
            return False

def tcp(source, target, to, port):
    with target.socket(socket.SOCK_STREAM) as server, source.socket(socket.SOCK_STREAM) as client:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((to, port)); server.listen(1); client.settimeout(2.0)
        try:
            client.connect((to, port)); return True
        except TimeoutError:
            return False

found = {}
with lan() as net, net.vm.entered():
    tries = {
        "in": lambda: udp(net.peer, net.vm, VM, 9000), "out": lambda: udp(net.vm, net.peer, PEER, 9000),
        "in, IPv6": lambda: udp(net.peer, net.vm, VM6, 9000),
        "scope": lambda: udp(net.peer, net.vm, VM, 7001),
        "manage in": lambda: tcp(net.peer, net.vm, VM, 22),
        "manage out": lambda: tcp(net.vm, net.peer, PEER, 443),
    }
    def look(*without):
        return [name for name, passes in tries.items() if name not in without and passes()]
    def state():
        layer.link_event()
        return [layer.installed(), [uplink.name for uplink in layer.uplinks()], len(layer.gone())]
    ip = lambda *words: net.vm.run("ip", "link", *words)
    before = net.vm.ruleset()
    layer = SecondLayer(stands_in=lambda link: link.kind == "veth" and link.name != "eth1")
    layer.install(POLICY); found["closed"] = look(); found["ungated"] = layer.ungated()
    layer.lease(30000, guarded=True); found["guarded"] = look()
    layer.lease(30000); found["open"] = look()
    layer.lease(1500); layer.lease(1500); time.sleep(2); found["lapsed"] = look()
    ip("set", "eth0", "down"); ip("set", "eth0", "name", "r0"); ip("set", "r0", "up")
    found["renamed"] = state(); found["renamed, closed"] = look("in, IPv6")
    ip("del", "r0"); found["removed"] = state()
    ip("add", "r0", "type", "veth", "peer", "name", "r0", "netns", net.peer.name); found["returned"] = state()
    WayAround().link_down(layer.uplinks()[0])
    after = WayAround(); off = after.switched_off(); [after.link_up(each) for each in off]
    found["switched off"] = [[each.name for each in off], len(after.switched_off())]
    ip("set", "r0", "netns", net.behind.name); found["moved"] = state()
    around = WayAround().look(layer.uplinks(), gone=layer.gone())
    found["around"] = [[finding.id, finding.answer] for finding in around]
    layer.remove(); found["traces"] = net.vm.ruleset() != before
print(json.dumps(found))
"""

EVERYTHING = ["in", "out", "in, IPv6", "scope", "manage in", "manage out"]
MANAGE = ["manage in", "manage out"]


def test_the_second_layer_on_the_kernel_of_debian_12(fast_machine: Callable[..., Machine]) -> None:
    guest = fast_machine(layers=(install_layer(),)).guest
    guest.put("/tmp/layer.py", PROGRAM)
    # what is installed in a VM has no test rooms; this one file needs nothing of them
    guest.put("/tmp/network.py", Path(network.__file__).read_bytes())
    found: dict[str, Any] = json.loads(guest.out("python3 /tmp/layer.py", timeout=240).splitlines()[-1])
    assert found == {
        "ungated": {},
        "closed": MANAGE,
        "guarded": ["scope", *MANAGE],
        "open": EVERYTHING,
        "lapsed": MANAGE,
        # installed as made, its uplinks, how many were moved away
        "renamed": [True, ["r0"], 0],
        "renamed, closed": MANAGE,
        "removed": [True, [], 0],
        "returned": [True, ["r0"], 0],
        # by one warden; on again by the next
        "switched off": [["r0"], 0],
        "moved": [True, [], 1],
        "around": [["gate.around.uplink-gone", "deny"]],
        "traces": False,
    }
