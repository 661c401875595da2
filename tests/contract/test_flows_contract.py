# SPDX-License-Identifier: Apache-2.0
"""What every ports.flows.Flows does: the kernel's and the fake."""

import os
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_network
from typing import Protocol

import pytest

from tests.integration.gate_policy import MANAGE_IN, MANAGE_OUT, gate_policy, uids
from vmwarden.controls.flows import OwnFlows
from vmwarden.model.flow import Flow, Progress
from vmwarden.ports.flows import Flows
from vmwarden.testing.flows import FakeFlows
from vmwarden.testing.network import PEER, STRANGER, VM, Lan, lan


class Stand(Protocol):
    """Flows with the world around them."""

    @property
    def flows(self) -> Flows: ...

    def connect(self, to: str, port: int) -> object:
        """The VM begins a TCP flow to something that listens there; a name for it."""
        ...

    def alive(self, name: object) -> bool: ...


class FakeStand:
    def __init__(self) -> None:
        self.flows = FakeFlows(own=[ip_network(f"{VM}/32")])
        self._port = 40000

    def connect(self, to: str, port: int) -> object:
        self._port += 1
        flow = Flow("tcp", socket.inet_aton(VM), self._port, socket.inet_aton(to), port, 0)
        self.flows.alive.append(flow)
        return flow

    def alive(self, name: object) -> bool:
        return name in self.flows.alive


class KernelStand:
    def __init__(self, network: Lan, stack: ExitStack) -> None:
        self._network = network
        self._stack = stack
        self.flows = OwnFlows(uids=uids)

    def connect(self, to: str, port: int) -> object:
        target = self._network.vm if to == VM else self._network.peer
        with target.socket(socket.SOCK_STREAM) as door:
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            door.bind((to, port))
            door.listen(1)
            client = self._stack.enter_context(self._network.vm.socket(socket.SOCK_STREAM))
            client.connect((to, port))
            self._stack.enter_context(door.accept()[0])
        return client

    def alive(self, name: object) -> bool:
        assert isinstance(name, socket.socket)
        return not select.select([name], [], [], 0)[0]


@pytest.fixture(scope="module")
def network() -> Iterator[Lan]:
    if os.geteuid() != 0:
        pytest.skip("needs root: makes network namespaces")
    with lan() as made:
        yield made


@pytest.fixture(params=["fake", pytest.param("kernel", marks=pytest.mark.root)])
def stand(request: pytest.FixtureRequest) -> Iterator[Stand]:
    if request.param == "fake":
        yield FakeStand()
        return
    network: Lan = request.getfixturevalue("network")
    with ExitStack() as stack, network.vm.entered():
        yield KernelStand(network, stack)


def test_all_flows_end_but_those_that_the_closed_gate_keeps(stand: Stand) -> None:
    managing = stand.connect(PEER, MANAGE_OUT)
    other = [stand.connect(STRANGER, MANAGE_OUT), stand.connect(PEER, MANAGE_IN), stand.connect(PEER, 80)]
    stand.flows.begin(gate_policy())
    assert all(map(stand.alive, other)), "begin ends none"
    assert stand.flows.go_on(1000) == Progress(ended=3, kept=1, refused=0, done=True)
    assert stand.alive(managing)
    assert not any(map(stand.alive, other))


def test_the_vm_with_itself_is_kept(stand: Stand) -> None:
    itself = stand.connect(VM, 80)
    stand.flows.begin(gate_policy())
    assert stand.flows.go_on(1000).done
    assert stand.alive(itself)


def test_it_goes_on_where_it_stopped(stand: Stand) -> None:
    names = [stand.connect(PEER, 80) for _ in range(5)]
    stand.flows.begin(gate_policy())
    assert stand.flows.go_on(0) == Progress(), "without time nothing is done"
    assert all(map(stand.alive, names))
    for _ in range(100):
        progress = stand.flows.go_on(0.01)
        if progress.done:
            break
    assert progress.ended == 5
    assert not any(map(stand.alive, names))


def test_before_it_is_begun_and_when_it_is_done_nothing_ends(stand: Stand) -> None:
    first = stand.connect(PEER, 80)
    assert stand.flows.go_on(1000).done
    assert stand.alive(first)
    stand.flows.begin(gate_policy())
    assert stand.flows.go_on(1000).ended == 1
    second = stand.connect(PEER, 80)
    assert stand.flows.go_on(1000).ended == 1
    assert stand.alive(second)
    stand.flows.begin(gate_policy())
    assert stand.flows.go_on(1000).ended == 1
    assert not stand.alive(second)


def test_beginning_again_starts_from_the_beginning(stand: Stand) -> None:
    name = stand.connect(PEER, 80)
    stand.flows.begin(gate_policy())
    stand.flows.begin(gate_policy())
    assert stand.flows.go_on(1000).ended == 1
    assert not stand.alive(name)


def test_it_says_what_it_can_end(stand: Stand) -> None:
    assert stand.flows.ends() == "TCP and UDP"
