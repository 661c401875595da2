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

from tests.integration import gate_probe as probe
from tests.integration.foreign_programs import (
    BRIDGE,
    CONTAINER,
    CONTAINER_PORT,
    DOCKER,
    DOCKER_GONE,
    PUBLISHED_PORT,
    Firewalld,
    container,
    iptables_restore,
)
from tests.integration.gate_policy import gate_policy, nft_gate, uids
from tests.integration.stamped_flows import StampedFlow, StampedFlows
from vmwarden.controls.gate import NftGate
from vmwarden.controls.second_layer import SecondLayer
from vmwarden.linux import nft
from vmwarden.linux.nfnetlink import NFPROTO_NETDEV, Connection
from vmwarden.rules.ruleset import ALIVE_TABLE, TABLE, closed
from vmwarden.testing.network import BEHIND, PEER, VM, Lan

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[2]
OPEN_MS = 3_000
#: watched after each act of others
GAP_S = 0.05
#: a guardian on a loaded machine
MENDED_WITHIN_S = 15.0
#: What others can have pass a closed gate where tables do not last, from the first packet to the last, ms:
#: the median and the most.  It is the time until a busy machine runs the guardian.
LEAK_MEDIAN_MS, LEAK_BUDGET_MS = 100.0, 1500.0

CHANGES = (
    "insert rule inet vmwarden judge_in accept",
    "flush chain inet vmwarden judge_out",
    "flush table inet vmwarden",
    "delete table netdev vmwarden",
    "delete table inet vmwarden",
    "insert rule inet vmwarden judge_forward accept",
)
_HOOKS = ("prerouting", "forward", "output")
ACCEPTS = (
    *(
        ("nft", f"table inet a{n} {{ chain {hook} {{ type filter hook {hook} priority {at}; accept; }}; }}")
        for n, at in enumerate((-500, -345, 0, 500))
        for hook in _HOOKS
    ),
    *(("iptables-nft", "-I", chain, "-j", "ACCEPT") for chain in ("INPUT", "FORWARD", "OUTPUT")),
)
DROPS = """table inet theirs {
  chain prerouting { type filter hook prerouting priority -500; ip daddr 10.99.0.1 drop; }
  chain output { type filter hook output priority 500; ip daddr 10.99.0.2 drop; }
}"""


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
        deadline = time.monotonic() + MENDED_WITHIN_S
        while not all(flow.tried > n + 20 for flow, n in zip(flows.flows, tried, strict=True)):
            assert time.monotonic() < deadline, "nothing flowed"
            time.sleep(0.005)
        leaks.append(Leak.of(flows.arrived()))
    return leaks


def lost(flows: list[StampedFlow]) -> int:
    return sum(flow.tried - flow.received for flow in flows)


def report(what: str, leaks: list[Leak]) -> None:
    ms = sorted(leak.ms for leak in leaks)
    packets = sorted(leak.packets for leak in leaks)
    print(
        f"\n{what} x {len(leaks)}: {sum(leak.packets > 0 for leak in leaks)} leaked; "
        f"packets p50 {statistics.median(packets):g}, max {packets[-1]}; "
        f"ms p50 {statistics.median(ms):.2f}, p99 {ms[int(len(ms) * 0.99)]:.2f}, max {ms[-1]:.2f}"
    )


def rules(network: Lan) -> str:
    return network.vm.ruleset()


def tables(listed: str) -> frozenset[str]:
    """Each table of a listing: up to its brace in the first column.  One that is made anew is listed last."""
    return frozenset(each.strip() for each in listed.split("\n}\n"))


def without_ours(network: Lan) -> frozenset[str]:
    """The rules of others."""
    ours = tuple(f"table {family} {name} " for family in ("inet", "netdev") for name in (TABLE, ALIVE_TABLE))
    return frozenset(each for each in tables(rules(network)) if not each.startswith(ours))


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


@pytest.mark.parametrize("change", ["flush ruleset", "insert rule inet vmwarden judge_in accept"])
def test_hearing_of_a_change_shuts_before_anything_is_repaired(network: Lan, change: str) -> None:
    with network.vm.entered(), closing(nft_gate(lasting=False)) as gate:
        gate.install(gate_policy())
        gate.heard()
        network.vm.run("nft", change)
        assert probe.udp(network.peer, network.vm, VM, 9000), "others can do that here"
        assert gate.heard().touched
        assert not probe.udp(network.peer, network.vm, VM, 9000)
        # the boot unit may load the very same rules meanwhile: shut is shut until we put them back
        nft.load(closed(gate_policy(), users=uids(["prober"])))
        gate.heard()
        assert not gate.installed()
        gate.install(gate_policy())
        assert gate.installed()
        assert nft.BRIDGE_TABLE not in rules(network)
        gate.lease(OPEN_MS)
        network.vm.run("nft", change)
        assert gate.heard().touched
        assert probe.udp(network.peer, network.vm, VM, 9000), "what is open is not shut"
        gate.install(gate_policy())
        gate.lease(OPEN_MS, new_flows_ms=0)
        network.vm.run("nft", change)
        assert gate.heard().touched
        assert nft.BRIDGE_TABLE not in rules(network), "nor what is open in a drain"


@ACTS
@pytest.mark.parametrize("lasting", [True, False], ids=["lasting", "plain"])
def test_the_ruleset_is_flushed_while_closed(network: Lan, lasting: bool, acts: int, tmp_path: Path) -> None:
    with guarded(network, lease_ms=0, lasting=lasting) as guardian, flowing(network) as flows:
        leaks = after_each(acts, flusher(network, tmp_path), flows, network)
        passed = sum(flow.received for flow in flows.flows)
        report(f"flush while closed, {'lasting' if lasting else 'plain'}", leaks)
        assert f"table inet {TABLE}" in rules(network)
        assert nft.BRIDGE_TABLE not in rules(network)
        said = guardian.said()
    assert set(said) == {"repaired"}, said
    if lasting:
        assert passed == 0
    assert statistics.median(leak.ms for leak in leaks) <= LEAK_MEDIAN_MS, leaks
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


@pytest.mark.parametrize("lasting", [True, False], ids=["lasting", "plain"])
def test_others_change_our_rules_while_closed(network: Lan, lasting: bool) -> None:
    with guarded(network, lease_ms=0, lasting=lasting) as guardian:
        good = tables(rules(network))
        leaks = []
        with flowing(network) as flows:
            for change in CHANGES:
                flows.arrived()
                done = network.vm.run("nft", change, check=False)
                assert (done.returncode != 0) == (lasting and " inet " in change), change
                deadline = time.monotonic() + MENDED_WITHIN_S
                while tables(rules(network)) != good:
                    assert time.monotonic() < deadline, change
                leaks.append(Leak.of(flows.arrived()))
        report(f"changes while closed, {'lasting' if lasting else 'plain'}", leaks)
        said = guardian.said()
    assert set(said) == {"repaired"}, said
    if lasting:
        assert sum(leak.packets for leak in leaks) == 0, leaks
    assert statistics.median(leak.ms for leak in leaks) <= LEAK_MEDIAN_MS, leaks
    assert max(leak.ms for leak in leaks) <= LEAK_BUDGET_MS, leaks


def test_an_accept_of_others_opens_nothing(network: Lan) -> None:
    with guarded(network, lease_ms=0, lasting=False) as guardian:
        with flowing(network) as flows:
            for act in ACCEPTS:
                network.vm.run(*act)
            time.sleep(0.2)
            assert flows.arrived() == []
            assert all(flow.tried > 20 for flow in flows.flows)
        assert guardian.said() == []


def test_a_drop_of_others_closes_and_the_guardian_says_nothing(network: Lan) -> None:
    with guarded(network, lease_ms=OPEN_MS, lasting=False) as guardian:
        with flowing(network) as flows:
            network.vm.run("nft", DROPS)
            flows.arrived()
            before = [flow.received for flow in flows.flows]
            time.sleep(0.3)
            flows.arrived()
            came = {flow.name: flow.received - n > 0 for flow, n in zip(flows.flows, before, strict=True)}
        assert came == {"in": False, "out": False, "through out": True, "through in": True}
        assert guardian.said() == []


def test_firewalld_starts_reloads_and_stops_after_us(network: Lan, tmp_path: Path) -> None:
    with (
        closing(Firewalld(network, tmp_path)) as firewalld,
        guarded(network, lease_ms=0, lasting=False) as guardian,
        flowing(network) as flows,
    ):
        firewalld.start()
        theirs = without_ours(network)
        firewalld.reload()
        assert without_ours(network) == theirs
        firewalld.stop()
        assert flows.arrived() == []
        assert all(flow.tried > 100 for flow in flows.flows)
        assert guardian.said() == []


@pytest.mark.parametrize("reloads", [1, pytest.param(10, marks=pytest.mark.soak)])
def test_we_close_and_open_beside_a_running_firewalld(network: Lan, reloads: int, tmp_path: Path) -> None:
    with closing(Firewalld(network, tmp_path)) as firewalld:
        firewalld.start()
        theirs = without_ours(network)
        with guarded(network, lease_ms=0, lasting=True) as guardian, flowing(network) as flows:
            for _ in range(reloads):
                firewalld.reload()
            assert flows.arrived() == []
            assert guardian.said() == []
        with guarded(network, lease_ms=OPEN_MS, lasting=True) as guardian:
            with flowing(network) as flows:
                for _ in range(reloads):
                    firewalld.reload()
            print(
                f"\nfirewalld reloads x {reloads} while open: {lost(flows.flows)} packets lost, "
                f"{sum(flow.received for flow in flows.flows)} arrived"
            )
            assert without_ours(network) == theirs
            with flowing(network) as flows:
                firewalld.stop()
                time.sleep(0.1)
                flows.arrived()
                time.sleep(0.1)
                assert all(flow.arrived() for flow in flows.flows)
            assert guardian.said() == []


def test_docker_forwards_when_open_only_and_its_rules_stay_as_they_are(network: Lan) -> None:
    flows = StampedFlows()
    with container(network) as inner:
        flows.add("from container", inner, network.peer, to=(PEER, 9104), at=(PEER, 9104))
        flows.add("to the vm", inner, network.vm, to=(BRIDGE, 9105), at=(BRIDGE, 9105))
        published = (CONTAINER, CONTAINER_PORT)
        flows.add("published", network.peer, inner, to=(VM, PUBLISHED_PORT), at=published)
        with guarded(network, lease_ms=0, lasting=False) as guardian, flows.running():
            for text in (DOCKER, DOCKER_GONE, DOCKER):
                iptables_restore(network, text)
                time.sleep(0.1)
            assert flows.arrived() == []
            assert all(flow.tried > 50 for flow in flows.flows)
            theirs = without_ours(network)
            assert guardian.said() == []
        with guarded(network, lease_ms=OPEN_MS, lasting=True) as guardian, flows.running():
            time.sleep(0.5)
            came = {flow.name: len(flow.arrived()) for flow in flows.flows}
            assert min(came.values()) > 20, came
            iptables_restore(network, DOCKER_GONE)
            iptables_restore(network, DOCKER)
            assert guardian.said() == []
        flows.close()
        with network.vm.entered():
            gate = NftGate(uids, second=SecondLayer(uids, stands_in=lambda link: link.name == "eth0"))
            gate.remove()
        assert tables(rules(network)) == theirs


@pytest.mark.parametrize("changes", [600, pytest.param(10_000, marks=pytest.mark.soak)])
@pytest.mark.parametrize("each_s", [0.005, 0.0], ids=["200 a second", "as fast as it goes"])
def test_a_program_that_changes_its_own_sets_starves_no_lease(
    network: Lan, changes: int, each_s: float
) -> None:
    with guarded(network, lease_ms=OPEN_MS, lasting=True) as guardian, network.vm.entered():
        network.vm.run("nft", "table inet f2b { set banned { type ipv4_addr; }; }")
        with closing(Connection()) as theirs, flowing(network) as flows:
            begun, cpu = time.monotonic(), guardian.cpu_s()
            for number in range(changes):
                theirs.commit([nft.plain("f2b", "banned", [number.to_bytes(4, "big")])], what="banning")
                time.sleep(max(0.0, begun + number * each_s - time.monotonic()))
            took_s, cpu = time.monotonic() - begun, guardian.cpu_s() - cpu
            time.sleep(0.1)
        missing, tried = lost(flows.flows), sum(flow.tried for flow in flows.flows)
        print(
            f"\n{changes} foreign changes in {took_s:.1f} s: {cpu / changes * 1000:.2f} s of CPU for 1,000, "
            f"{cpu / took_s:.0%} of a CPU; {missing} of {tried} packets of the open gate lost"
        )
        assert guardian.said() == []
    assert missing == 0
