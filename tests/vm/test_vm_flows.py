# SPDX-License-Identifier: Apache-2.0
"""Ending the VM's own flows on Debian's 6.1 kernel: the states that its SOCK_DESTROY knows, and the time."""

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

MANY = 500
#: run in the guest, in namespaces of its own
PROGRAM = r"""
import contextlib, json, os, socket, sys, time
sys.path.insert(0, "/opt/vmwarden/lib")
from vmwarden.controls.flows import OwnFlows
from vmwarden.linux.sock_diag import SockDiag
from vmwarden.model.policy import FlowIn, Manage, Policy, Valid
from network import PEER, PEER6, VM, VM6, lan

POLICY = Policy(
    format="vmwarden.policy/1", name="flows", version=1, vms=("vm",), mode="enforce",
    valid=Valid(from_="2026-11-01T00:00Z", until="2027-11-01T00:00Z"),
    manage=Manage(in_=(FlowIn(from_="10.99.0.2/32", tcp=22),)),
)
kept = []

def made(where, address, kind=socket.SOCK_STREAM):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kept.append(where.socket(kind, family)); kept[-1].settimeout(5)
    return kept[-1]

def door(where, address, port):
    listening = made(where, address); listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if address == "::":
        listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listening.bind((address, port)); listening.listen(128)
    return listening

def tcp(source, target, to, port, at=""):
    listening, client = door(target, at or to, port), made(source, to)
    if to == VM:
        client.bind((PEER, 0))
    client.connect((to, port)); server = listening.accept()[0]; listening.close(); server.settimeout(5)
    kept.append(server)
    return client, server

def said(sock):
    try:
        return "read" if sock.recv(10) else "end"
    except OSError as error:
        return type(error).__name__

def end_all():
    flows = OwnFlows(); flows.begin(POLICY)
    while not (progress := flows.go_on(10)).done:
        pass
    return progress.ended

def states():
    return sorted(line.split()[0] for line in net.vm.run("ss", "-Htan").stdout.decode().splitlines())

found = {"ends": OwnFlows().ends()}
with lan() as net, net.vm.entered():
    vm, peer = net.vm, net.peer
    into = [tcp(peer, vm, VM, 8001), tcp(peer, vm, VM6, 8002), tcp(peer, vm, VM, 8003, "::")]
    out = [tcp(vm, peer, PEER, 8004), tcp(vm, peer, PEER6, 8005)]
    ssh, sshd = tcp(peer, vm, VM, 22)
    udp = made(vm, PEER, socket.SOCK_DGRAM); udp.connect((PEER, 5000))
    listening = door(vm, VM, 8006)
    table = SockDiag(); found["established"] = len(table.tcp().established)
    found["listening"] = sorted(table.tcp().listening); table.close()
    found["ended"] = end_all()
    found["here"] = sorted({said(s) for s in [s for _, s in into] + [c for c, _ in out] + [udp]})
    found["there"] = sorted({said(s) for s in [c for c, _ in into] + [s for _, s in out]})
    ssh.sendall(b"still"); found["ssh"] = said(sshd)
    for sock in (sshd, ssh):  # who closes first is in TIME_WAIT
        sock.close()
    found["after"] = states()
    opening = made(vm, PEER); opening.setblocking(False); opening.connect_ex(("10.99.0.99", 8001))
    left, close_wait = tcp(peer, vm, VM, 8007); left.shutdown(socket.SHUT_WR); said(close_wait)
    orphan, _ = tcp(vm, peer, PEER, 8008)
    peer.run("nft", "add table ip deaf;"
             "add chain ip deaf in { type filter hook input priority 0; policy drop; }")
    knocking = made(peer, VM); knocking.setblocking(False); knocking.connect_ex((VM, 8006))
    orphan.sendall(b"never acknowledged"); orphan.close(); time.sleep(0.1)
    found["half"] = states(); end_all(); found["half, after"] = states()
    knocking.close(); peer.run("nft", "delete table ip deaf")
    bulk = door(vm, VM, 8009); clients = []
    for _ in range(MANY):
        clients.append(made(peer, VM)); clients[-1].connect((VM, 8009)); kept.append(bulk.accept()[0])
    began = time.monotonic(); found["many"] = end_all(); took = (time.monotonic() - began) * 1000
    found["many there"] = sorted({said(sock) for sock in clients})
    for sock in kept:
        sock.close()
print(json.dumps([found, round(took)]))
"""


def test_flows_are_ended_on_the_kernel_of_debian_12(
    fast_machine: Callable[..., Machine], record_property: Callable[[str, object], None]
) -> None:
    guest = fast_machine(layers=(install_layer(),)).guest
    guest.put("/tmp/flows.py", PROGRAM.replace("MANY", str(MANY)))
    # what is installed in a VM has no test rooms; this one file needs nothing of them
    guest.put("/tmp/network.py", Path(network.__file__).read_bytes())
    said = json.loads(guest.out("ulimit -n 4096; python3 /tmp/flows.py", timeout=240).splitlines()[-1])
    found: dict[str, Any] = said[0]
    record_property(f"ending {MANY} flows, emulated [ms]", said[1])
    print(f"ending {MANY} flows, emulated: {said[1]} ms")
    assert found == {
        "ends": "TCP and UDP",
        "established": 6,
        "listening": [8006],
        "ended": 6,
        "here": ["ConnectionAbortedError"],
        "there": ["ConnectionResetError"],
        "ssh": "read",
        "after": ["LISTEN", "TIME-WAIT"],
        "half": ["CLOSE-WAIT", "FIN-WAIT-1", "LISTEN", "SYN-RECV", "SYN-SENT", "TIME-WAIT"],
        "half, after": ["LISTEN", "TIME-WAIT"],
        "many": MANY,
        "many there": ["ConnectionResetError"],
    }
