# SPDX-License-Identifier: Apache-2.0
"""Other programs that change the rules of this machine, while a process guards the gate: what passes a closed
gate, what an open one loses.  Figures: docs/reference/interference.md.

pytest -m soak -s tests/integration/test_interference.py     200 times each, with the figures
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.gate_policy import nft_gate
from tests.integration.stamped_flows import StampedFlow, StampedFlows
from vmwarden.linux import nft
from vmwarden.linux.nfnetlink import NFPROTO_NETDEV, Connection
from vmwarden.rules.ruleset import TABLE
from vmwarden.testing.network import BEHIND, PEER, VM, Lan

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[2]
OPEN_MS = 3_000
#: watched after each act of others
GAP_S = 0.05
#: a guardian on a loaded machine
MENDED_WITHIN_S = 15.0
#: what others can have pass a closed gate where tables do not last, from the first packet to the last, ms:
#: nearly all of it is the time until a busy machine runs the guardian
LEAK_BUDGET_MS = 250.0


@dataclass(frozen=True)
class Leak:
    """What passed after one act of others: packets, and milliseconds from the first to the last."""

    packets: int
    ms: float

    @classmethod
    def of(cls, stamps: list[int]) -> "Leak":
        return cls(len(stamps), (stamps[-1] - stamps[0]) / 1e6 if stamps else 0.0)


class Guarded:
    """A running guardian."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def cpu_s(self) -> float:
        """CPU seconds so far, of children that have ended too (nft)."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / 100  # USER_HZ; utime stime cutime cstime

    def said(self) -> list[str]:
        """What it did until now; ends it."""
        assert self.process.poll() is None, "it ended by itself"
        self.process.kill()
        assert self.process.stdout is not None
        return self.process.stdout.read().decode().splitlines()


@contextmanager
def guarded(network: Lan, *, lease_ms: int, lasting: bool) -> Iterator[Guarded]:
    """The gate, guarded by another process.  lease_ms: 0 = closed."""
    with network.vm.entered():
        if lasting and not nft_gate().capabilities().persist:
            pytest.skip("this kernel has no such device: tables that last (Linux 6.9)")
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.integration.gate_guardian",
                str(lease_ms),
                "lasting" if lasting else "plain",
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"standing\n"
        yield Guarded(process)
    finally:
        process.kill()
        process.wait(20)
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def flowing(network: Lan) -> Iterator[StampedFlows]:
    """In, out, and through in both directions; manage and scopes are none of them."""
    flows = StampedFlows()
    flows.add("in", network.peer, network.vm, to=(VM, 9100), at=(VM, 9100))
    flows.add("out", network.vm, network.peer, to=(PEER, 9100), at=(PEER, 9100))
    flows.add("through out", network.behind, network.peer, to=(PEER, 9102), at=(PEER, 9102))
    flows.add("through in", network.peer, network.behind, to=(BEHIND, 9103), at=(BEHIND, 9103))
    try:
        with flows.running():
            yield flows
    finally:
        flows.close()


def wait_until_mended(network: Lan) -> None:
    deadline = time.monotonic() + MENDED_WITHIN_S
    with network.vm.entered(), closing(Connection()) as kernel:
        while nft.standing(kernel, nft.BRIDGE_TABLE) or not (
            nft.standing(kernel, TABLE) and nft.standing(kernel, TABLE, family=NFPROTO_NETDEV)
        ):
            assert time.monotonic() < deadline, network.vm.ruleset()
            time.sleep(0.005)
    time.sleep(GAP_S)


def after_each(acts: int, act: Callable[[int], object], flows: StampedFlows, network: Lan) -> list[Leak]:
    leaks = []
    for number in range(acts):
        tried = [flow.tried for flow in flows.flows]
        flows.arrived()
        act(number)
        wait_until_mended(network)
        leaks.append(Leak.of(flows.arrived()))
        assert all(flow.tried > n for flow, n in zip(flows.flows, tried, strict=True)), "nothing flowed"
    return leaks


def lost(flows: list[StampedFlow]) -> int:
    return sum(flow.tried - flow.received for flow in flows)


def report(what: str, leaks: list[Leak]) -> None:
    ms = sorted(leak.ms for leak in leaks)
    packets = sorted(leak.packets for leak in leaks)
    print(
        f"\n{what} x {len(leaks)}: {sum(leak.packets > 0 for leak in leaks)} leaked; "
        f"packets p50 {statistics.median(packets):g}, max {packets[-1]}; "
        f"ms p50 {statistics.median(ms):.2f}, max {ms[-1]:.2f}"
    )


def rules(network: Lan) -> str:
    return network.vm.ruleset()


def flusher(network: Lan, folder: Path) -> Callable[[int], object]:
    """By turns `nft flush ruleset`, and what `systemctl reload nftables` does."""
    file = folder / "nftables.conf"
    file.write_text(
        "#!/usr/sbin/nft -f\nflush ruleset\ntable inet filter {\n"
        "  chain input { type filter hook input priority filter; }\n"
        "  chain forward { type filter hook forward priority filter; }\n"
        "  chain output { type filter hook output priority filter; }\n}\n"
    )
    return lambda number: network.vm.run("nft", *(("-f", str(file)) if number % 2 else ("flush ruleset",)))


ACTS = pytest.mark.parametrize("acts", [6, pytest.param(200, marks=pytest.mark.soak)])


@ACTS
@pytest.mark.parametrize("lasting", [True, False], ids=["lasting", "plain"])
def test_the_ruleset_is_flushed_while_closed(network: Lan, lasting: bool, acts: int, tmp_path: Path) -> None:
    with guarded(network, lease_ms=0, lasting=lasting) as guardian, flowing(network) as flows:
        leaks = after_each(acts, flusher(network, tmp_path), flows, network)
        report(f"flush while closed, {'lasting' if lasting else 'plain'}", leaks)
        assert f"table inet {TABLE}" in rules(network)
        assert nft.BRIDGE_TABLE not in rules(network)
        said = guardian.said()
    assert set(said) == {"repaired"}, said
    if lasting:
        assert sum(leak.packets for leak in leaks) == 0
    assert max(leak.ms for leak in leaks) <= LEAK_BUDGET_MS, leaks


@ACTS
@pytest.mark.parametrize("lasting", [True, False], ids=["lasting", "plain"])
def test_the_ruleset_is_flushed_while_open(network: Lan, lasting: bool, acts: int, tmp_path: Path) -> None:
    with guarded(network, lease_ms=OPEN_MS, lasting=lasting) as guardian:
        with flowing(network) as flows:
            act = flusher(network, tmp_path)
            for number in range(acts):
                act(number)
                wait_until_mended(network)
        missing = lost(flows.flows)
        tried = sum(flow.tried for flow in flows.flows)
        print(
            f"\nflush while open, {'lasting' if lasting else 'plain'} x {acts}: "
            f"{missing} of {tried} packets lost, {missing / acts:.1f} a flush"
        )
        said = guardian.said()
    assert set(said) == {"repaired"}, said
    assert tried > 10 * acts
