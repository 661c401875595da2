# SPDX-License-Identifier: Apache-2.0
"""What happens to open flows when the process that holds the gate is killed, or stopped.

pytest -m soak -s tests/integration/test_gate_death.py     200 deaths, 50 stops, with the figures
"""

import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.gate_policy import nft_gate
from vmwarden.testing.network import PEER, VM, Lan
from vmwarden.testing.traffic import Flow, Traffic

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[2]
START_WITHIN_S = 20.0
#: an outage of some 0.3 s doubles TCP's timer a few times; then it sends again
RESUME_WITHIN_S = 20.0


@contextmanager
def holder(network: Lan, *, lease_ms: int, period_ms: int) -> Iterator[subprocess.Popen[bytes]]:
    """A running process that holds the gate open."""
    with network.vm.entered():
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.gate_holder", str(lease_ms), str(period_ms)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        yield process
    finally:
        process.kill()
        process.wait(START_WITHIN_S)
        if process.stdout is not None:
            process.stdout.close()


def flows_of(traffic: Traffic, network: Lan) -> list[Flow]:
    return [
        traffic.udp("udp in", network.peer, network.vm, to=VM, port=9100),
        traffic.udp("udp out", network.vm, network.peer, to=PEER, port=9100),
        traffic.tcp("tcp in", network.peer, network.vm, to=VM, port=9101),
        traffic.tcp("tcp out", network.vm, network.peer, to=PEER, port=9101),
    ]


def wait_until_all_flow(flows: list[Flow]) -> None:
    before = [flow.received for flow in flows]
    deadline = time.monotonic() + RESUME_WITHIN_S
    while any(flow.received <= count for flow, count in zip(flows, before, strict=True)):
        assert time.monotonic() < deadline, [(flow.name, flow.received) for flow in flows]
        time.sleep(0.01)


def end_after_ms(flows: list[Flow], since_ns: int, *, watched_s: float) -> list[float]:
    """How long after since_ns each flow's last packet came; and then no more came."""
    time.sleep(watched_s)
    last = [flow.last_ns for flow in flows]
    time.sleep(0.1)
    assert last == [flow.last_ns for flow in flows], "still open"
    return [max(0.0, (stamp - since_ns) / 1e6) for stamp in last]


def report(what: str, ends: list[float]) -> None:
    ordered = sorted(ends)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    print(
        f"\n{what}: last packet of {len(ends)} flows after "
        f"p50 {statistics.median(ordered):.2f}, p99 {p99:.2f}, max {ordered[-1]:.2f} ms"
    )


@pytest.mark.parametrize("deaths", [8, pytest.param(200, marks=pytest.mark.soak)])
def test_the_gate_dies_with_its_holder_and_the_next_one_opens_it_again(network: Lan, deaths: int) -> None:
    with network.vm.entered():
        if not nft_gate().capabilities().owner:
            pytest.skip("no shared data: this kernel has no owner tables")
    traffic = Traffic()
    ends: list[float] = []
    with holder(network, lease_ms=10_000, period_ms=200) as first:
        flows = flows_of(traffic, network)
        with traffic.running():
            wait_until_all_flow(flows)
            ends += kill(first, flows)
            for _ in range(deaths - 1):
                with holder(network, lease_ms=10_000, period_ms=200) as next_one:
                    wait_until_all_flow(flows)
                    ends += kill(next_one, flows)
    traffic.close()
    report(f"SIGKILL x {deaths}", ends)
    assert statistics.median(ends) <= 10, ends
    assert max(ends) <= 200, "a loaded machine takes its time to end a process, but not that long"


def kill(process: subprocess.Popen[bytes], flows: list[Flow]) -> list[float]:
    killed_ns = time.clock_gettime_ns(time.CLOCK_REALTIME)
    process.kill()
    return end_after_ms(flows, killed_ns, watched_s=0.25)


@pytest.mark.parametrize("stops", [3, pytest.param(50, marks=pytest.mark.soak)])
def test_a_stopped_holder_loses_the_lease_and_takes_it_up_again(network: Lan, stops: int) -> None:
    lease_ms, period_ms = 600, 150
    traffic = Traffic()
    ends: list[float] = []
    with holder(network, lease_ms=lease_ms, period_ms=period_ms) as process:
        flows = flows_of(traffic, network)
        with traffic.running():
            for _ in range(stops):
                wait_until_all_flow(flows)
                stopped_ns = time.clock_gettime_ns(time.CLOCK_REALTIME)
                process.send_signal(signal.SIGSTOP)
                ends += end_after_ms(flows, stopped_ns, watched_s=lease_ms / 1000 + 0.2)
                process.send_signal(signal.SIGCONT)
            wait_until_all_flow(flows)
    traffic.close()
    report(f"SIGSTOP x {stops}, T = {lease_ms} ms", ends)
    assert max(ends) <= lease_ms + 20
    assert statistics.median(ends) > lease_ms - 2 * period_ms, "it was the lease that ended it"
