# SPDX-License-Identifier: Apache-2.0
"""The holder of the gate becomes another program in the same process, under traffic.

pytest -m soak -s tests/integration/test_gate_handover.py     100 times open, 100 times closed
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vmwarden.testing.network import PEER, VM, Lan
from vmwarden.testing.traffic import Flow, Traffic

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[2]
END_WITHIN_S = 20.0


@contextmanager
def holder(network: Lan, *, lease_ms: int) -> Iterator[subprocess.Popen[bytes]]:
    with network.vm.entered():
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.gate_successor", str(lease_ms)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
    try:
        assert life(process) == (0, process.pid)
        yield process
    finally:
        process.kill()
        process.wait(END_WITHIN_S)
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def life(process: subprocess.Popen[bytes]) -> tuple[int, int]:
    assert process.stdout is not None
    number, pid = process.stdout.readline().split()
    return int(number), int(pid)


def start_again(process: subprocess.Popen[bytes], number: int) -> None:
    assert process.stdin is not None
    process.stdin.write(b"again\n")
    process.stdin.flush()
    assert life(process) == (number, process.pid)


def flows_of(traffic: Traffic, network: Lan) -> list[Flow]:
    return [
        traffic.udp("udp in", network.peer, network.vm, to=VM, port=9100),
        traffic.udp("udp out", network.vm, network.peer, to=PEER, port=9100),
        traffic.udp("udp through", network.behind, network.peer, to=PEER, port=9102),
    ]


@pytest.mark.parametrize("times", [5, pytest.param(100, marks=pytest.mark.soak)])
def test_open_loses_nothing(network: Lan, times: int) -> None:
    traffic = Traffic()
    with holder(network, lease_ms=10_000) as process:
        flows = [
            *flows_of(traffic, network),
            traffic.tcp("tcp in", network.peer, network.vm, to=VM, port=9101),
        ]
        began = time.monotonic()
        with traffic.running():
            for number in range(1, times + 1):
                start_again(process, number)
        seconds = time.monotonic() - began
    print(
        f"\n{times} times in {seconds:.1f} s:",
        *(f"{f.name} {f.received} of {f.sent}" for f in flows),
        sep="\n  ",
    )
    assert [(flow.name, flow.lost) for flow in flows if flow.lost] == []
    assert all(flow.sent > 50 * times for flow in flows)
    traffic.close()


@pytest.mark.parametrize("times", [5, pytest.param(100, marks=pytest.mark.soak)])
def test_closed_lets_nothing_through(network: Lan, times: int) -> None:
    traffic = Traffic()
    with holder(network, lease_ms=0) as process:
        flows = flows_of(traffic, network)
        with traffic.running():
            for number in range(1, times + 1):
                start_again(process, number)
    print(f"\n{times} times:", *(f"{f.name} {f.received} of {f.sent + f.refused}" for f in flows), sep="\n  ")
    assert [(flow.name, flow.received) for flow in flows] == [(flow.name, 0) for flow in flows]
    assert all(flow.sent + flow.refused > 50 * times for flow in flows)
    traffic.close()


def test_a_successor_that_dies_closes_at_once(network: Lan) -> None:
    traffic = Traffic()
    with holder(network, lease_ms=10_000) as process:
        flow = traffic.udp("udp in", network.peer, network.vm, to=VM, port=9100)
        start_again(process, 1)
        with traffic.running():
            time.sleep(0.2)
            process.kill()
            process.wait(END_WITHIN_S)
            before = flow.received
            time.sleep(0.3)
        assert before > 50
        assert flow.received - before < 20
    traffic.close()
