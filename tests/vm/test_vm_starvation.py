# SPDX-License-Identifier: Apache-2.0
"""No lease lapses because the warden does not get to run: the guest's CPU, memory and disk taken by others.

The guest has an emulated core of its own (QEMU's icount): what else the host has to do changes nothing.  The
table of docs/reference/liveness.md is made by benchmarks/starvation.py; the long form here is a part of it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import starvation
from testbed import lease_watch, loads
from testbed.image import Image
from testbed.machine import Machine
from testbed.provision import Desk, install_layer
from testbed.spec import MachineSpec, Port, UserNetwork
from testbed.warded import PORT_NAME, RUN, host_key
from vmwarden.testing.host import HostSimulator

pytestmark = pytest.mark.vm

LEASE_S = 1
#: of guest time
SECONDS, SOAK_SECONDS = 8, 180
BURNERS = 16
_WITHIN_S = 120.0


def test_sixteen_burners_do_not_starve_the_warden(
    image: Image, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    desk = Desk(tmp_path / "d")
    policy = desk.policy(place_more=f"gate: {{lease: {LEASE_S}s}}\n")
    spec = MachineSpec(
        image,
        layers=(install_layer(), desk.layer(policy, tmp_path / "vm.squashfs")),
        ports=(Port(PORT_NAME, tmp_path / "c"),),
        networks=(UserNetwork(),),
        instruction_ns=starvation.INSTRUCTION_NS,
    )
    with Machine(spec) as machine, HostSimulator(tmp_path / "c", key=host_key(desk), listen=False):
        guest = machine.guest
        guest.sh("nft -f /var/lib/vmwarden/closed.nft", check=True)
        guest.spawn(f"{RUN} > /dev/console 2>&1")
        machine.wait_console(r"vmwarden: posture open: allow", _WITHIN_S)
        # as on Ubuntu: every session is as heavy as any other, and a nice value counts only within its own
        guest.sh("echo 1 > /proc/sys/kernel/sched_autogroup_enabled", check=True)
        loads.prepare(machine)
        lease_watch.begin(guest)
        loads.burners(BURNERS).start(machine, _WITHIN_S)
        seen = lease_watch.watch(guest, SECONDS)
        running = int(guest.out("pgrep -fc '[l]oad.py cpu'", _WITHIN_S))
        loads.end(machine)
    assert running == BURNERS
    rests = [renewal.left_ms for renewal in seen.renewals]
    said = f"{len(rests)} renewals of {LEASE_S} s in {seen.seconds:.0f} s: smallest rest {min(rests):.0f} ms"
    record_property("starvation", said)
    print(said)
    assert len(rests) >= SECONDS, "it renews every third of a lease, and at worst with every lease"
    assert min(rests) > 0
    assert seen.lost == seen.ended == 0


@pytest.mark.soak
@pytest.mark.parametrize("lease_s", starvation.LEASES_S)
def test_no_load_starves_the_warden(lease_s: int) -> None:
    with starvation.guest(lease_s) as machine:
        for load in starvation.LOADS:
            cell = starvation.measure(machine, lease_s, starvation.Way(load), SOAK_SECONDS)
            print(starvation.row(cell))
            assert cell.lapsed == (), load.name
