# SPDX-License-Identifier: Apache-2.0
"""The gate on Debian's 6.1 kernel: the same tables, marks, leases and deaths as where the tests run.

Numbers under TCG are inflated some twenty times: what counts here is what passes, and that the gate closes.
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

#: run in the guest: a network of namespaces, a gate, and what passes in each state
PROGRAM = r"""
import json, os, signal, socket, sys, time
sys.path.insert(0, "/opt/vmwarden/lib")
from vmwarden.controls.gate import NftGate
from vmwarden.model.policy import FlowIn, Manage, Policy, Scope, Valid
from vmwarden.rules.ruleset import OUR_BITS
from network import PEER, VM, VM6, lan

def policy(scopes):
    return Policy(
        format="vmwarden.policy/1", name="gate", version=1, vms=("vm",), mode="enforce",
        valid=Valid(from_="2026-11-01T00:00Z", until="2027-11-01T00:00Z"),
        manage=Manage(in_=(FlowIn(from_="10.99.0.2/32", tcp=22),)),
        scopes=tuple(
            Scope(name=f"s{n}", in_=(FlowIn(from_="10.99.0.2/32", udp=7001 + n),)) for n in range(scopes)
        ),
    )

def udp(source, target, to, port, mark=0):
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    kind = socket.SOCK_DGRAM
    with target.socket(kind, family) as receiver, source.socket(kind, family) as sender:
        receiver.bind((to, port))
        receiver.settimeout(0.5)
        if mark:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        try:
            sender.sendto(b"x", (to, port))
            return receiver.recv(1) == b"x"
        except (TimeoutError, PermissionError):
            return False

def tcp(source, target, to, port):
    with target.socket(socket.SOCK_STREAM) as listener, source.socket(socket.SOCK_STREAM) as client:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((to, port)); listener.listen(1); client.settimeout(2.0)
        try:
            client.connect((to, port)); return True
        except TimeoutError:
            return False

found = {"kernel": os.uname().release}
with lan() as net, net.vm.entered():
    def look():
        return {
            "in": udp(net.peer, net.vm, VM, 9000), "out": udp(net.vm, net.peer, PEER, 9000),
            "in, IPv6": udp(net.peer, net.vm, VM6, 9000), "through": udp(net.behind, net.peer, PEER, 9000),
            "scope": udp(net.peer, net.vm, VM, 7001), "manage": tcp(net.peer, net.vm, VM, 22),
            "spoofed": udp(net.vm, net.peer, PEER, 9000, mark=OUR_BITS),
        }
    before = net.vm.ruleset()
    gate = NftGate()
    found["owner"] = gate.capabilities().owner
    gate.install(policy(1)); found["closed"] = look()
    gate.lease(30000, guarded=True); found["guarded"] = look()
    gate.install(policy(30)); found["guarded after an exchange"] = look()
    gate.lease(30000); found["open"] = look()
    gate.lease(1500); gate.lease(1500); time.sleep(2); found["lapsed"] = look()
    for milliseconds in (20, 21, 25):
        gate.lease(milliseconds); time.sleep(0.5); found[f"lapsed after {milliseconds}"] = look()
    found["installed"] = gate.installed()
    taken = []
    for _ in range(50):
        start = time.perf_counter(); gate.lease(5000); taken.append(time.perf_counter() - start)
    found["renewal_ms"] = sorted(taken)[25] * 1000
    gate.close()
    found["let go"] = look()
    child = os.fork()
    if child == 0:
        held = NftGate(); held.install(policy(1)); held.lease(30000)
        signal.pause()
    time.sleep(3); found["held by a child"] = look()
    os.kill(child, signal.SIGKILL); os.waitpid(child, 0); found["child killed"] = look()
    NftGate().remove()
    found["removed"] = look()
    found["traces"] = net.vm.ruleset() != before
print(json.dumps(found))
"""

EVERYTHING = {"in", "out", "in, IPv6", "through", "scope", "manage", "spoofed"}


def test_the_gate_on_the_kernel_of_debian_12(fast_machine: Callable[..., Machine]) -> None:
    guest = fast_machine(layers=(install_layer(),)).guest
    guest.put("/tmp/gate.py", PROGRAM)
    # what is installed in a VM has no test rooms; this one file needs nothing of them
    guest.put("/tmp/network.py", Path(network.__file__).read_bytes())
    found: dict[str, Any] = json.loads(guest.out("python3 /tmp/gate.py", timeout=240).splitlines()[-1])
    passed = {
        state: {name for name, passes in seen.items() if passes}
        for state, seen in found.items()
        if isinstance(seen, dict)
    }
    assert found["kernel"].startswith("6.1.")
    assert found["owner"] is True
    assert passed.pop("guarded") == passed.pop("guarded after an exchange") == {"manage", "scope"}
    assert passed.pop("open") == passed.pop("held by a child") == passed.pop("removed") == EVERYTHING
    assert passed == {state: {"manage"} for state in passed}, "closed in every other state"
    assert {"closed", "lapsed", "lapsed after 20", "let go", "child killed"} <= set(passed)
    assert found["installed"] is True
    assert found["traces"] is False
    print(f"\n{found['kernel']}: renewal {found['renewal_ms']:.2f} ms under TCG")
