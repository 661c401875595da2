# SPDX-License-Identifier: Apache-2.0
"""The host sets this VM's clock to 2035, cuts its power, and sets it back: nothing is poisoned."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from testbed.commands import run
from testbed.disks import create_disk
from testbed.machine import Machine
from testbed.provision import install_layer
from testbed.spec import Port
from testbed.warded import PORT_NAME, RUN, findings
from tests.vm.warded import VERSION, WardedVm

pytestmark = pytest.mark.vm

SOON_S = 60.0
#: nine years ahead
AHEAD_S = 9 * 365 * 86_400
#: 2030: later than any honest stamp of these tests
POISONED_MS = 1_893_456_000_000


def test_static_statements_wait_for_the_right_time(warded_vm: WardedVm) -> None:
    with warded_vm.clone(static=warded_vm.static(), ahead_s=AHEAD_S) as vm:
        vm.said(r"vmwarden: posture held: unknown: .*statement\.expired", SOON_S)
        assert not vm.service_answers(1.0)
        vm.set_clock(0)
        vm.said(r"(?s)statement\.expired.*vmwarden: posture open: allow", SOON_S)
        assert vm.service_answers()


def test_fresh_proof_needs_no_clock(warded_vm: WardedVm) -> None:
    with warded_vm.clone(ahead_s=AHEAD_S) as vm, warded_vm.host() as host:
        vm.said(r"vmwarden: posture open: allow", SOON_S)
        assert vm.status()["trusted_time"] < "2030"
        vm.set_clock(0)
        assert host.wait_for_challenges(len(host.challenges) + 2, SOON_S)
        assert vm.service_answers()
        assert "posture held" not in vm.machine.console()
        floors = vm.journal("clock.floor-advanced")
        assert all(one["body"]["utc_ms"] < POISONED_MS for one in floors)


def test_two_power_cuts_between_two_centuries_of_the_rtc(
    boot_machine: Callable[..., Machine], warded_vm: WardedVm, tmp_path: Path
) -> None:
    """Booted in 2035 by its RTC, with a policy on trial when the power goes; then booted today."""
    channel = tmp_path / "c.sock"
    upper = create_disk(tmp_path / "upper", 64 << 20)
    # with a journal of its own, unlike the bed's: the power is cut under it
    run(["mke2fs", "-q", "-F", "-t", "ext4", upper], timeout=60)
    layer = warded_vm.desk.layer(warded_vm.policy(), tmp_path / "vm.squashfs")
    trial = warded_vm.policy(version=VERSION + 1)
    common: dict[str, Any] = {
        "layers": (install_layer(), layer),
        "upper": upper,
        "ports": (Port(PORT_NAME, channel),),
    }
    with warded_vm.host(path=channel):
        with boot_machine(rtc_base="2035-06-01T00:00:00", **common) as vm:
            assert vm.guest.out("date +%Y") == "2035"
            vm.guest.spawn(f"{RUN} > /dev/console 2>&1")
            vm.wait_console(r"vmwarden: posture open: allow", SOON_S)
            vm.guest.put("/root/trial.json", trial.read_bytes())
            vm.guest.out("vmwarden apply --confirm-within 10m /root/trial.json")
            status = json.loads(vm.guest.sh("vmwarden status --json").out)
            assert status["policy"]["version"] == VERSION + 1
            assert status["policy"]["pending_confirm"]
            vm.quit()
        with boot_machine(**common) as vm:
            assert vm.guest.out("date +%Y") < "2030"
            vm.guest.spawn(f"{RUN} > /dev/console 2>&1")
            vm.wait_console(r"vmwarden: posture open: allow", SOON_S)
            status = json.loads(vm.guest.sh("vmwarden status --json").out)
            assert status["policy"]["version"] == VERSION, "a trial that nobody confirmed outlived its boot"
            assert not status["policy"].get("pending_confirm")
            assert status["trusted_time"] < "2030"
            records = json.loads(vm.guest.out("vmwarden journal show --json", timeout=120))["records"]
            assert [r["body"]["why"] for r in records if r["kind"] == "policy.reverted"] == ["rebooted"]
            floors = [r["body"]["utc_ms"] for r in records if r["kind"] == "clock.floor-advanced"]
            assert floors
            assert max(floors) < POISONED_MS
            assert "statement.expired" not in findings(records)
