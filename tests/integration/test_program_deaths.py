# SPDX-License-Identifier: Apache-2.0
"""Warden and watcher killed and stopped while they hold a gate open: the last packets of mixed flows.

The programs are whole and the gate is real; the test stands in for systemd and starts the next warden.  With
systemd, in a guest: tests/vm/test_vm_death.py.

pytest -m soak -s tests/integration/test_program_deaths.py     200 of each, with the figures
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.integration.enforcing import Enforcing, boot_ms, enforcing, enrolled, until
from vmwarden.testing.network import PEER, VM, Lan
from vmwarden.testing.traffic import Flow, Traffic

pytestmark = pytest.mark.root

MANAGE = 22
#: TCP_RTO_MAX_MS of include/uapi/linux/tcp.h (6.15): a flow that was cut off tries again within a second
_TCP_RTO_MAX, _RTO_MS = 44, 1_000
#: a process ends within this, and its sockets with it, also where ten others want the same two CPUs: 215 ms
#: were seen then.  What is left of the lease is 3 s and more.
AT_ONCE_MS, USUALLY_MS = 500.0, 50.0
#: the kernel's timer of a lease and one packet under way
LATE_MS = 20.0
#: a renewal that was slow is taken back near the end of what supports it, and the next comes T/3 later; then
#: it may be too late for one more
EARLY_MS = 500.0
#: what it said before it was stopped may be heard so much later, and lasts from then on
HEARD_MS = 1_000.0
#: nothing comes for so long after the last packet, though every sender tries: each 2 ms, if it may run
QUIET_S, TRIES = 0.1, 5
#: openings are rationed (rules.quota); a new warden has a ration of its own
STOPS_A_WARDEN = 50

Record = Callable[[str, object], None]


@dataclass(frozen=True)
class Flowing:
    """Flows that need the lease, and one of manage, which does not."""

    flows: tuple[Flow, ...]
    manage: Flow
    began: float

    @property
    def pace_ms(self) -> float:
        """Between two packets of a flow, on this machine, so far."""
        return (time.monotonic() - self.began) * 1000 / self._tried()

    def wait(self) -> None:
        """Until more packets of every flow have come."""
        before = [flow.received for flow in self.flows]
        until(
            lambda: all(flow.received > count for flow, count in zip(self.flows, before, strict=True)),
            "some flow stands still",
        )

    def ends(self, *, watched_s: float) -> tuple[list[int], int]:
        """CLOCK_REALTIME of each flow's last packet within watched_s, and how many flows went on after it."""
        time.sleep(watched_s)
        last, passed, tried = [flow.last_ns for flow in self.flows], self.manage.received, self._tried()
        time.sleep(QUIET_S)
        until(lambda: self._tried() >= tried + TRIES, "nothing tries to pass")
        until(lambda: self.manage.received > passed, "manage stands still")
        return last, sum(flow.last_ns != ns for flow, ns in zip(self.flows, last, strict=True))

    def _tried(self) -> int:
        """Packets of the flow that has the fewest; a full stream tries none."""
        return min(flow.sent + flow.refused for flow in self.flows if not flow.stream)


@contextlib.contextmanager
def flowing(network: Lan) -> Iterator[Flowing]:
    """From an open gate on; at the end all that was sent has come, or is lost."""
    traffic = Traffic(tick_s=0.002)
    try:
        flows = (
            traffic.udp("udp in", network.peer, network.vm, to=VM, port=9100),
            traffic.udp("udp out", network.vm, network.peer, to=PEER, port=9100),
            traffic.udp("udp through", network.behind, network.peer, to=PEER, port=9102),
            traffic.tcp("tcp in", network.peer, network.vm, to=VM, port=9101),
            traffic.tcp("tcp out", network.vm, network.peer, to=PEER, port=9101),
        )
        manage = traffic.tcp("manage in", network.peer, network.vm, to=VM, port=MANAGE)
        for flow in flows:
            if flow.stream:
                with contextlib.suppress(OSError):  # an older kernel takes its time
                    flow.sender.setsockopt(socket.IPPROTO_TCP, _TCP_RTO_MAX, _RTO_MS)
        with traffic.running():
            yield Flowing(flows, manage, time.monotonic())
    finally:
        traffic.close()


def realtime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_REALTIME)


def last_end_ms(warden: Enforcing) -> int:
    """CLOCK_BOOTTIME at which what a stopped watcher has said ends.

    What it said last may be heard late, and is judged with the next tick: so ask until shortly before it.
    """
    end_ms = 0
    while (asked := warden.status().decision.lease_until_boot_ms or end_ms) > end_ms:
        end_ms = asked
        time.sleep(max(0.0, (end_ms - boot_ms(realtime_ns())) / 1000 - 0.2))
    return end_ms


@dataclass
class Ends:
    """Of all rounds: how long after the signal each flow went on, and how many did not stop even then."""

    found_ms: list[float] = field(default_factory=list)
    longest_ms: list[float] = field(default_factory=list)
    still_open: int = 0
    pace_ms: float = 0.0
    manage: str = ""

    def watch(self, flows: Flowing, signalled_ns: int, *, watched_s: float) -> list[int]:
        """One round.  Returns CLOCK_REALTIME of the last packets."""
        last, more = flows.ends(watched_s=watched_s)
        found_ms = [max(0.0, (ns - signalled_ns) / 1e6) for ns in last]
        self.found_ms += found_ms
        self.longest_ms.append(max(found_ms))  # a single flow may have waited for a CPU
        self.still_open += more
        self.pace_ms = flows.pace_ms
        self.manage = f"{flows.manage.retransmitted()} of {flows.manage.sent}"
        return last

    def report(self, record: Record, what: str) -> None:
        ordered = sorted(self.found_ms)
        p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
        said = (
            f"{len(ordered)} flows, a packet each {self.pace_ms:.1f} ms: last one after"
            f" min {ordered[0]:.2f}, p50 {statistics.median(ordered):.2f}, p99 {p99:.2f},"
            f" max {ordered[-1]:.2f} ms; still open: {self.still_open};"
            f" of manage sent again: {self.manage}"
        )
        record(what, said)
        print(f"{what}: {said}")


@pytest.mark.parametrize("deaths", [3, pytest.param(200, marks=pytest.mark.soak)])
def test_a_killed_warden_closes_at_once_and_the_next_one_opens(
    network: Lan, tmp_path: Path, deaths: int, record_property: Record
) -> None:
    root = enrolled(tmp_path, lease="5s", recheck="30s", manage=MANAGE)
    ends = Ends()
    with contextlib.ExitStack() as stack:
        flows: Flowing | None = None
        for _ in range(deaths):
            with enforcing(root, network.vm) as warden:
                warden.supported_until_ms()
                flows = flows or stack.enter_context(flowing(network))
                flows.wait()
                killed = realtime_ns()
                os.kill(warden.pid, signal.SIGKILL)
                ends.watch(flows, killed, watched_s=AT_ONCE_MS / 1000)
    ends.report(record_property, f"warden SIGKILL x {deaths}")
    assert ends.still_open == 0
    assert statistics.median(ends.found_ms) <= USUALLY_MS
    assert max(ends.found_ms) <= AT_ONCE_MS


@pytest.mark.parametrize("stops", [2, pytest.param(200, marks=pytest.mark.soak)])
def test_a_stopped_warden_closes_with_its_lease_and_goes_on(
    network: Lan, tmp_path: Path, stops: int, record_property: Record
) -> None:
    root, lease_ms = enrolled(tmp_path, lease="1s", recheck="30s", manage=MANAGE), 1_000
    ends = Ends()
    with enforcing(root, network.vm) as warden:
        warden.supported_until_ms()
        with flowing(network) as flows:
            for _ in range(stops):
                flows.wait()
                stopped = realtime_ns()
                os.kill(warden.pid, signal.SIGSTOP)
                ends.watch(flows, stopped, watched_s=lease_ms / 1000 + 0.2)
                os.kill(warden.pid, signal.SIGCONT)
            flows.wait()
    ends.report(record_property, f"warden SIGSTOP x {stops}, T = {lease_ms} ms")
    assert ends.still_open == 0
    assert max(ends.found_ms) <= lease_ms + LATE_MS
    assert min(ends.longest_ms) >= lease_ms / 2, "it closed for another reason than the lease"


@pytest.mark.parametrize("deaths", [3, pytest.param(200, marks=pytest.mark.soak)])
def test_a_killed_watcher_closes_nothing_and_is_started_again(
    network: Lan, tmp_path: Path, deaths: int, record_property: Record
) -> None:
    root = enrolled(tmp_path, lease="5s", recheck="15s", manage=MANAGE)
    with enforcing(root, network.vm) as warden:
        warden.supported_until_ms()
        began = warden.said()
        with flowing(network) as flows:
            flows.wait()
            for _ in range(deaths):
                killed = warden.watcher()
                os.kill(killed, signal.SIGKILL)
                until_ms = warden.supported_until_ms()
                warden.watcher(other_than=killed)
                warden.supported_until_ms(after_ms=until_ms)
        said = warden.said().removeprefix(began)
    everything = (*flows.flows, flows.manage)
    told = ", ".join(f"{flow.name} {flow.lost} of {flow.sent + flow.refused}" for flow in everything)
    record_property(f"watcher SIGKILL x {deaths}", told)
    print(f"watcher SIGKILL x {deaths} -> lost: {told}")
    assert said.count("starting it again") == deaths
    assert "posture" not in said, said
    assert [(flow.name, flow.lost) for flow in everything if flow.lost] == []


@pytest.mark.parametrize("stops", [2, pytest.param(200, marks=pytest.mark.soak)])
def test_a_stopped_watcher_closes_when_its_evidence_has_aged(
    network: Lan, tmp_path: Path, stops: int, record_property: Record
) -> None:
    root, recheck_ms = enrolled(tmp_path, lease="1s", recheck="3s", manage=MANAGE), 3_000
    ends = Ends()
    past: list[float] = []  # from the end of the evidence to the last packet of a round, ms
    with contextlib.ExitStack() as stack:
        flows: Flowing | None = None
        for begun in range(0, stops, STOPS_A_WARDEN):
            with enforcing(root, network.vm) as warden:
                warden.supported_until_ms()
                flows = flows or stack.enter_context(flowing(network))
                for _ in range(min(STOPS_A_WARDEN, stops - begun)):
                    flows.wait()
                    watcher = warden.watcher()
                    stopped = realtime_ns()
                    os.kill(watcher, signal.SIGSTOP)
                    until_ms = last_end_ms(warden)
                    left_s = (until_ms - boot_ms(realtime_ns())) / 1000
                    last = ends.watch(flows, stopped, watched_s=max(0.0, left_s) + 0.2)
                    os.kill(watcher, signal.SIGCONT)
                    past.append(boot_ms(max(last)) - until_ms)
                flows.wait()
    ends.report(record_property, f"watcher SIGSTOP x {stops}, recheck {recheck_ms} ms")
    said = f"of all rounds from {min(past):.1f} to {max(past):.1f} ms after the end of its evidence"
    record_property(f"watcher SIGSTOP x {stops}, last packets", said)
    print(f"last packets {said}")
    assert ends.still_open == 0
    assert max(ends.found_ms) <= recheck_ms + HEARD_MS
    assert max(past) <= LATE_MS
    assert min(past) >= -EARLY_MS, "it closed for another reason than age"
