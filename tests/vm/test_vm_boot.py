# SPDX-License-Identifier: Apache-2.0
"""Through the real boot order: a refused VM comes up, tells why, keeps its data closed and manage open."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo.acts import BOOT_S
from demo.stage import ServingVm, serving_vm, vm_layer
from testbed.image import Image
from testbed.provision import Desk
from testbed.warded import host_key
from vmwarden.testing.host import Behaviour, HostSimulator

pytestmark = pytest.mark.vm

#: of boot-check, in guest time (units/vmwarden-boot.service), and what emulation adds to its start and end
BOUND_S, EMULATION_S = 30.0, 15.0


@contextlib.contextmanager
def booting(image: Image, scratch: Path) -> Iterator[tuple[ServingVm, Desk, Path]]:
    """A VM that has just been switched on, and the socket of its channel."""
    desk, channel = Desk(scratch / "d"), scratch / "c.sock"
    layer = vm_layer(desk, desk.policy(recheck="12s"), scratch / "vm.squashfs")
    with serving_vm(image, desk, layer, channel) as vm:
        yield vm, desk, channel


def refused(vm: ServingVm, finding: str, record: Callable[[str, object], None]) -> None:
    """What the owner of a refused VM finds."""
    vm.machine.wait_console(rf"vmwarden: posture held: unknown: .*{finding}", BOOT_S)
    vm.machine.wait_console(rf"(?s)vmwarden: unknown: held.*{finding}", BOOT_S)
    guest = vm.machine.guest
    state = guest.wait_until(
        "systemctl is-system-running --wait; systemctl is-failed vmwarden-boot.service", 120
    ).out
    assert state.split() == ["degraded", "failed"]
    failed = guest.out("systemctl --failed --plain --no-legend | cut -d' ' -f1")
    assert failed.split() == ["vmwarden-boot.service"]
    shown = guest.out(
        "systemctl show -P ActiveEnterTimestampMonotonic -P InactiveExitTimestampMonotonic "
        "-P InactiveEnterTimestampMonotonic vmwarden-boot.service"
    )
    began, ended = sorted(int(number) for number in shown.split() if int(number))
    record("boot_check_s", round((ended - began) / 1e6, 1))
    assert (ended - began) / 1e6 <= BOUND_S + EMULATION_S
    for unit in (
        "vmwarden-open.target",
        "emergency.target",
        "rescue.target",
        "srv-data.mount",
        "web.service",
    ):
        assert guest.sh(f"systemctl is-active {unit}").out.strip() == "inactive", unit
    assert not vm.volume_open()
    assert vm.page(3.0) is None
    assert vm.ssh_banner().startswith("SSH-")
    journal = guest.out("vmwarden journal show --json --kind decision.changed", timeout=120)
    assert finding.replace("\\", "") in journal


def test_a_host_that_says_nothing(
    image: Image, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with (
        booting(image, tmp_path) as (vm, desk, channel),
        HostSimulator(channel, key=host_key(desk), listen=False, behaviour=Behaviour.SILENT),
    ):
        refused(vm, r"channel\.silent", record_property)


def test_a_host_with_an_unknown_key(
    image: Image, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with booting(image, tmp_path) as (vm, _, channel), HostSimulator(channel, listen=False):
        refused(vm, r"statement\.unknown-key", record_property)
