# SPDX-License-Identifier: Apache-2.0
"""A slot ends while flows run: a whole warden before the real gate, in a network namespace.

pytest -m soak -s tests/integration/test_hours_cut.py     150 cuts; the warden runs, was stopped, was killed
"""

import datetime
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest

from tests.integration.gate_policy import gate_policy, uids
from tests.unit.warden.ward import FakePower, FakeServices, FakeState, no_tls
from vmwarden.controls.flows import OwnFlows
from vmwarden.controls.gate import NftGate
from vmwarden.controls.second_layer import SecondLayer
from vmwarden.linux.clock import SystemClock
from vmwarden.model.enrolment import Enrolment
from vmwarden.model.hours import Interval, TimeRange
from vmwarden.model.installed import Installed, Outcome
from vmwarden.model.policy import Hours, Policy
from vmwarden.testing.journal import MemoryJournal
from vmwarden.testing.network import PEER, VM, Lan
from vmwarden.testing.traffic import Flow, Traffic
from vmwarden.warden.stamps import Stamps
from vmwarden.warden.warden import Warden

pytestmark = pytest.mark.root

#: design.md, budgets: last packet of an open flow after the slot's end
LATE_MS = 10.0
SLOT_S = 5


def policy_until(end_s: int, **more: object) -> Policy:
    """Open until that second, since an hour."""

    def clock(utc_s: int) -> str:
        return datetime.datetime.fromtimestamp(utc_s, datetime.UTC).strftime("%H:%M:%S")

    times = (TimeRange(start_time=clock(end_s - 3_600), end_time=clock(end_s)),)
    hours = Hours(open=(Interval(times=times),), **more)  # type: ignore[arg-type]
    return msgspec.structs.replace(gate_policy(), hours=hours)


@contextmanager
def warden(network: Lan, in_force: Policy) -> Iterator[tuple[Warden, NftGate]]:
    with network.vm.entered():
        gate = NftGate(uids, second=SecondLayer(uids, stands_in=lambda link: link.name == "eth0"))
        made = Warden(
            state=FakeState(
                Installed(
                    outcome=Outcome.ENFORCE,
                    enrolment=Enrolment(vm="vm", key="ssh-ed25519 AAAA"),
                    policy=in_force,
                    armed=True,
                    confirmed=True,
                )
            ),
            clock=SystemClock(),
            gate=gate,
            flows=OwnFlows(uids=uids),
            journal=MemoryJournal(),
            services=FakeServices(),
            power=FakePower(),
            stamps=Stamps(connect=no_tls, random=bytes),
            nonce=lambda: "nonce-of-the-test-0000000000000",
            say=lambda _: None,
        )
        try:
            made.start()
            for _ in range(50):
                # the first renewal on a busy machine may come too late for its slot, and is taken back
                if made.status().posture == "open":
                    break
                time.sleep(0.02)
                made.tick()
            yield made, gate
        finally:
            gate.remove()


def run(made: Warden, until_s: float) -> None:
    """As the loop does."""
    while (left := until_s - time.time()) > 0:
        wait = min(left, made.tick_ms() / 1000)
        if select.select(made.gate_filenos(), (), (), wait)[0]:
            made.gate_event()
        made.tick()


def late_ms(flow: Flow, end_s: int) -> float:
    return flow.last_ns / 1e6 - end_s * 1000


def flows_of(traffic: Traffic, network: Lan) -> list[Flow]:
    return [
        traffic.udp("udp in", network.peer, network.vm, to=VM, port=9100),
        traffic.udp("udp out", network.vm, network.peer, to=PEER, port=9100),
        traffic.udp("udp through", network.behind, network.peer, to=PEER, port=9102),
        traffic.tcp("tcp in", network.peer, network.vm, to=VM, port=9101),
        traffic.tcp("tcp out", network.vm, network.peer, to=PEER, port=9101),
    ]


def cut(network: Lan, *, before: str, slot_s: int) -> list[float]:
    """How late the last packet of each flow was, milliseconds.  [] = too short a slot for this machine."""
    end_s = int(time.time()) + slot_s
    with warden(network, policy_until(end_s)) as (made, gate):
        traffic = Traffic()
        try:
            flows = flows_of(traffic, network)
            if time.time() > end_s - 1.5:
                return []
            with traffic.running():
                # stopped: nobody renews, looks or closes from half a second before the end on
                run(made, end_s - 0.5 if before else end_s + 0.5)
                if before == "killed":
                    gate.close()  # as the kernel does with the sockets of who dies
                time.sleep(max(0.0, end_s + 0.5 - time.time()))
        except TimeoutError:
            assert time.time() > end_s, "a flow could not be opened in an open slot"
            return []
        finally:
            traffic.close()
    assert all(flow.received > 20 for flow in flows)
    return [late_ms(flow, end_s) for flow in flows]


@pytest.mark.parametrize("before", ["", "stopped", "killed"], ids=lambda before: before or "running")
@pytest.mark.parametrize("cuts", [3, pytest.param(50, marks=pytest.mark.soak)])
def test_the_kernel_cuts_at_the_end_of_the_slot(network: Lan, cuts: int, before: str) -> None:
    late: list[float] = []
    for _ in range(cuts):
        for slot_s in (4, 8, 16):
            if found := cut(network, before=before, slot_s=slot_s):
                late += found
                break
    assert len(late) >= cuts * 5 * 0.9
    late.sort()
    print(f"\n{len(late)} flows cut: p50 {late[len(late) // 2]:.1f} ms, latest {late[-1]:.1f} ms")
    assert late[-1] <= LATE_MS


def test_both_ends_are_told(network: Lan) -> None:
    end_s = int(time.time()) + SLOT_S + 1
    with warden(network, policy_until(end_s)) as (made, _):
        traffic = Traffic()
        flows = [flow for flow in flows_of(traffic, network) if flow.stream]
        run(made, end_s + 1.0)
        for flow in flows:
            for end in (flow.sender, flow.receiver):
                error = end.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                assert error, f"{flow.name}: one end was not told"
        traffic.close()


def test_in_the_drain_open_flows_finish_and_none_begins(network: Lan) -> None:
    end_s = int(time.time()) + 2 * SLOT_S
    with warden(network, policy_until(end_s, drain=f"{SLOT_S}s")) as (made, _):
        traffic = Traffic()
        flows = flows_of(traffic, network)
        with traffic.running():
            run(made, end_s - SLOT_S + 0.3)
            began = [flow.received for flow in flows]
            with (
                network.vm.socket(socket.SOCK_STREAM) as door,
                network.peer.socket(socket.SOCK_STREAM) as late_comer,
            ):
                door.bind((VM, 9109))
                door.listen(1)
                late_comer.settimeout(0.7)
                with pytest.raises(TimeoutError):
                    late_comer.connect((VM, 9109))
            run(made, end_s - 0.2)
            assert all(flow.received > before + 100 for flow, before in zip(flows, began, strict=True))
            run(made, end_s + 0.3)
        assert max(late_ms(flow, end_s) for flow in flows) <= LATE_MS
        traffic.close()
