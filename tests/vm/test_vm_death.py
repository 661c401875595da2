# SPDX-License-Identifier: Apache-2.0
"""Warden and watcher killed and stopped under traffic: when packets stop, and that all recovers by itself."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from testbed.flows import Flows
from testbed.wire import Wire
from tests.vm.warded import LEASE_S, RECHECK_S, HostSimulator, Warded, WardedVm

pytestmark = [pytest.mark.vm, pytest.mark.root]

#: a verdict and what emulation adds
SOON_S = 30.0
#: design.md's 10 ms are for hardware (tests/integration/test_gate_death.py); emulated, a process takes this
#: long to end, and its socket with it
AT_ONCE_MS = 150.0
#: the kernel's timer of a lease and one packet under way
LATE_MS = 100.0

Record = Callable[[str, object], None]


@dataclass
class Open:
    """A VM that is open, with flows through its tap."""

    vm: Warded
    host: HostSimulator
    flows: Flows


@pytest.fixture
def flowing(warded_vm: WardedVm) -> Iterator[Open]:
    with contextlib.ExitStack() as stack:
        wire = stack.enter_context(Wire())
        vm = stack.enter_context(warded_vm.clone(network=wire.tap()))
        host = stack.enter_context(warded_vm.host())
        vm.said(r"vmwarden: posture open: allow", SOON_S)
        flows = stack.enter_context(Flows(vm.guest, wire.netns))
        flows.wait_flowing(SOON_S)
        yield Open(vm, host, flows)


def note(record: Record, name: str, last: dict[str, float]) -> None:
    for flow, ms in last.items():
        record(f"{name}: {flow} [ms]", ms)
    print(f"{name}: {last}")


def test_a_killed_warden_closes_at_once_and_a_new_one_opens(flowing: Open, record_property: Record) -> None:
    vm, flows = flowing.vm, flowing.flows
    watcher = vm.watcher()
    killed = flows.signal(vm.warden(), signal.SIGKILL)
    flows.wait_silent(SOON_S)
    last = flows.last_after_ms(killed)
    note(record_property, "warden killed -> last packet", last)
    assert max(last.values()) <= AT_ONCE_MS
    vm.guest.wait_until(f"test ! -d /proc/{watcher}", 10)
    vm.start()
    begun = time.monotonic()
    flows.wait_flowing(SOON_S)
    record_property("warden started again -> packets [s]", round(time.monotonic() - begun, 1))
    assert vm.status()["posture"] == "open"


def test_a_stopped_warden_closes_within_its_lease(flowing: Open, record_property: Record) -> None:
    vm, flows = flowing.vm, flowing.flows
    warden = vm.warden()
    stopped = flows.signal(warden, signal.SIGSTOP)
    flows.wait_silent(SOON_S)
    last = flows.last_after_ms(stopped)
    note(record_property, f"warden stopped, lease {LEASE_S:.0f} s -> last packet", last)
    assert max(last.values()) <= LEASE_S * 1000 + LATE_MS
    assert max(last.values()) >= LEASE_S * 1000 / 3, "it closed for another reason than the lease"
    flows.signal(warden, signal.SIGCONT)
    flows.wait_flowing(SOON_S)
    assert vm.status()["posture"] == "open"


def test_a_killed_watcher_closes_nothing(flowing: Open, record_property: Record) -> None:
    vm, flows, host = flowing.vm, flowing.flows, flowing.host
    watcher = vm.watcher()
    killed = flows.signal(watcher, signal.SIGKILL)
    vm.watcher(other_than=watcher)
    assert host.wait_for_challenges(len(host.challenges) + 2, SOON_S), "the new watcher asks nobody"
    gap = flows.longest_gap_ms(killed)
    record_property("watcher killed -> longest gap of UDP [ms]", round(gap, 1))
    print(f"watcher killed -> longest gap {gap:.1f} ms")
    assert gap < LEASE_S * 1000 / 2
    assert "posture held" not in vm.machine.console()
    assert vm.status()["watcher"] == "connected"


@pytest.mark.parametrize("mend", [signal.SIGCONT, signal.SIGKILL])
def test_a_stopped_watcher_ages_its_evidence(
    mend: signal.Signals, flowing: Open, record_property: Record
) -> None:
    vm, flows = flowing.vm, flowing.flows
    watcher = vm.watcher()
    stopped = flows.signal(watcher, signal.SIGSTOP)
    vm.said(r"vmwarden: posture held: unknown: .*evidence\.stale", RECHECK_S + SOON_S)
    flows.wait_silent(SOON_S)
    last = flows.last_after_ms(stopped)
    note(record_property, f"watcher stopped, recheck {RECHECK_S:.0f} s -> last packet", last)
    assert max(last.values()) <= RECHECK_S * 1000 + LATE_MS
    assert max(last.values()) >= RECHECK_S * 1000 / 2, "it closed for another reason than age"
    flows.signal(watcher, mend)
    flows.wait_flowing(SOON_S)
    assert vm.status()["posture"] == "open"
