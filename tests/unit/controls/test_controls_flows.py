# SPDX-License-Identifier: Apache-2.0
"""The ending of flows, with a table that is handed in: what it looks at, and how much of a turn it takes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import pytest

from tests.unit.rules.test_rules_ruleset import bare
from vmwarden.controls.flows import BATCH, LOOKS, OwnFlows
from vmwarden.errors import ControlFailed
from vmwarden.linux.sock_diag import Destroyed, Handle
from vmwarden.model.flow import Flow, FlowProtocol
from vmwarden.model.policy import Reach

PEER = bytes((10, 1, 1, 1))
VM = bytes((10, 0, 2, 15))
#: of the kernel, seconds
A_LOOK, A_DESTROY = 0.001, 0.0005


def tcp(port: int, remote: bytes = PEER) -> Flow:
    return Flow("tcp", VM, port, remote, 443, 1000)


class InjectedTable:
    """A kernel's table; every call of it takes time."""

    def __init__(self, flows: Iterable[Flow]) -> None:
        self.standing = list(flows)
        self.immortal: set[Flow] = set()
        self.reborn = 0
        self.protocols: tuple[FlowProtocol, ...] = ("tcp", "udp")
        self.able = True
        self.now = 0.0
        self.largest = 0
        self.opened = self.closed = 0

    def __call__(self) -> "InjectedTable":
        self.opened += 1
        return self

    def shown(self) -> tuple[FlowProtocol, ...]:
        return self.protocols

    def can_destroy(self) -> bool:
        return self.able

    def flows(self, protocol: FlowProtocol) -> Iterator[tuple[Handle, ...]]:
        found = [Handle(flow, 2, bytes(48)) for flow in self.standing if flow.protocol == protocol]
        for first in range(0, len(found), 250):
            self.now += A_LOOK
            yield tuple(found[first : first + 250])

    def destroy(self, handles: Sequence[Handle]) -> Destroyed:
        self.now += A_DESTROY
        self.largest = max(self.largest, len(handles))
        refused = sum(handle.flow in self.immortal for handle in handles)
        gone = {handle.flow for handle in handles} - self.immortal
        self.standing = [flow for flow in self.standing if flow not in gone]
        if self.reborn:
            self.standing += gone
        return Destroyed(len(handles) - refused, 0, refused)

    def close(self) -> None:
        self.closed += 1


def nobody(_: Iterable[str]) -> Mapping[str, int]:
    raise ControlFailed("there is no such user")


def flows_of(table: InjectedTable) -> OwnFlows:
    return OwnFlows(uids=nobody, table=table, own=lambda: (), seconds=lambda: table.now)


def test_a_turn_ends_when_its_time_is_over_and_the_next_goes_on() -> None:
    table = InjectedTable(tcp(port) for port in range(1000, 6000))
    flows = flows_of(table)
    flows.begin(bare())
    assert len(table.standing) == 5000, "begin ends none"
    taken: list[float] = []
    while True:
        began = table.now
        progress = flows.go_on(5)
        taken.append(table.now - began)
        if progress.done:
            break
    assert max(taken) <= 0.005 + A_LOOK + A_DESTROY
    assert len(taken) > 5
    assert (progress.ended, progress.kept, progress.refused) == (5000, 0, 0)
    assert table.standing == []
    assert table.largest == BATCH
    assert (table.opened, table.closed) == (1, 1)


def test_without_time_nothing_is_done() -> None:
    table = InjectedTable([tcp(1)])
    flows = flows_of(table)
    flows.begin(bare())
    assert not flows.go_on(0).done
    assert len(table.standing) == 1


def test_what_the_closed_gate_keeps_is_counted_once_and_stays() -> None:
    itself = tcp(1, remote=VM)
    table = InjectedTable([itself, tcp(2), Flow("udp", VM, 3, PEER, 53, 0)])
    flows = flows_of(table)
    flows.begin(bare())
    progress = flows.go_on(1000)
    assert (progress.ended, progress.kept, progress.done) == (2, 1, True)
    assert table.standing == [itself]


def test_what_is_begun_as_fast_as_it_is_ended_does_not_keep_us_for_ever() -> None:
    table = InjectedTable([tcp(1)])
    table.reborn = 1
    flows = flows_of(table)
    flows.begin(bare())
    progress = flows.go_on(1000)
    assert (progress.ended, progress.done) == (LOOKS, True)


def test_what_the_kernel_cannot_end_is_said() -> None:
    table = InjectedTable([tcp(1), tcp(2)])
    table.immortal = {tcp(1)}
    flows = flows_of(table)
    flows.begin(bare())
    progress = flows.go_on(1000)
    assert (progress.ended, progress.refused, progress.done) == (1, 1, True)


def test_once_done_there_is_nothing_to_do_until_it_is_begun_again() -> None:
    table = InjectedTable([tcp(1)])
    flows = flows_of(table)
    assert flows.go_on(1000).done
    flows.begin(bare())
    assert flows.go_on(1000).done
    table.standing = [tcp(2)]
    assert flows.go_on(1000).ended == 1
    assert table.standing == [tcp(2)]
    flows.begin(bare())
    assert flows.go_on(1000).ended == 1
    assert table.standing == []


def test_a_user_that_this_vm_does_not_have_keeps_no_flow_and_hinders_nothing() -> None:
    table = InjectedTable([Flow("udp", VM, 3, PEER, 123, 1000)])
    flows = flows_of(table)
    flows.begin(bare(reach=(Reach(to="10.1.1.1/32", as_="nobody-here", udp=123),)))
    assert flows.go_on(1000).ended == 1


def test_a_kernel_that_cannot_end_flows_says_so() -> None:
    table = InjectedTable([tcp(1)])
    flows = flows_of(table)
    assert flows.ends() == "TCP and UDP"
    table.able = False
    assert "CONFIG_INET_DIAG_DESTROY" in flows.ends()
    with pytest.raises(ControlFailed, match="CONFIG_INET_DIAG_DESTROY"):
        flows.begin(bare())
    table.able, table.protocols = True, ()
    assert "tcp_diag" in flows.ends()
    with pytest.raises(ControlFailed, match="tcp_diag"):
        flows.begin(bare())
    table.protocols = ("tcp",)
    assert flows.ends() == "TCP"
    flows.begin(bare())
    assert flows.go_on(1000).ended == 1
    assert table.opened == table.closed


def test_the_table_is_let_go_when_it_fails() -> None:
    class Failing(InjectedTable):
        def destroy(self, handles: Sequence[Handle]) -> Destroyed:
            raise ControlFailed("no right")

    table = Failing([tcp(1)])
    flows = flows_of(table)
    flows.begin(bare())
    with pytest.raises(ControlFailed):
        flows.go_on(1000)
    assert (table.opened, table.closed) == (1, 1)
