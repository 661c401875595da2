# SPDX-License-Identifier: Apache-2.0
"""VMs whose only fence is their hours, shortly before a slot ends, and what their host does to their time.

The slot is tomorrow's, by a host whose clock is ahead: it needs no waiting for, and no time that an earlier
guest was in is behind it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from testbed.disks import build_layer
from testbed.flows import Flows
from testbed.image import Image
from testbed.machine import Machine
from testbed.provision import Desk
from testbed.snapshot import Snapshot
from testbed.spec import Network
from testbed.warded import Warded, host_key, save_warded
from vmwarden.store.floors import raise_time_floor
from vmwarden.store.layout import Layout
from vmwarden.testing.host import HostSimulator

LEASE_S, RECHECK_S = 2.0, 9.0
#: a trusted host is asked this often: three times within recheck (vmwarden.warden.warden)
ASKED_EVERY_S = RECHECK_S / 3
_DAY_S = 86_400
#: it began hours before: a clock that is put back by one is in it, too
_ENDS_S = 10 * 3_600

_POLICY = """\
format: vmwarden.policy/1
name: payments
version: 1
vms: ["{vm}"]
valid: {{from: "2026-01-01T00:00Z", until: "2036-01-01T00:00Z"}}
mode: enforce
manage:
  in: [{{tcp: 22, from: 10.0.2.2/32}}]
hours:
  open: [{{times: [{{start_time: "05:00:00", end_time: "10:00:00"}}]}}]
  time: {time}
{recheck}  unknown: [{{after: 0s, posture: held}}]
gate: {{lease: {lease}s}}
trust:
  hosts: [{{name: {host}, key: "{key}"}}]
"""


@dataclass(frozen=True)
class Slot:
    """The slot of tomorrow, for a host whose clock is ahead_s before this one's."""

    ends_s: int
    """Unix time of the end."""
    ahead_s: int

    @classmethod
    def with_left(cls, left_s: float) -> Slot:
        """One that ends in so many seconds, by a host that is ahead for it."""
        now = time.time()
        ends = (int(now) // _DAY_S + 1) * _DAY_S + _ENDS_S
        return cls(ends, int(ends - left_s - now))

    def left_s(self) -> float:
        """Seconds to the end, by the host's clock; negative after it."""
        return self.ends_s - time.time() - self.ahead_s

    def wait(self, left_s: float) -> None:
        """Until no more than so much is left."""
        time.sleep(max(0.0, self.left_s() - left_s))


class Slotted:
    """Makes snapshots by need, one for each kind of time, and clones of them."""

    def __init__(self, image: Image, directory: Path) -> None:
        self._image = image
        self._directory = directory
        self._snapshots: dict[str, Snapshot] = {}
        self._channels = 0
        self.desk = Desk(directory / "desk")

    def policy(self, kind: str) -> Path:
        """A signed policy.  kind: local or trusted, as in hours.time."""
        host = self.desk.hosts[0]
        text = _POLICY.format(
            vm=self.desk.vm,
            time=kind,
            recheck=f"  recheck: {RECHECK_S:.0f}s\n" if kind == "trusted" else "",
            lease=f"{LEASE_S:.0f}",
            host=host,
            key=self.desk.public_line(host),
        )
        return self.desk.policy(text=text)

    def layer(self, kind: str, *, floor_s: int = 0) -> Path:
        """A VM of its own, enrolled, with that policy in force.  floor_s: what it was told in earlier boots,
        Unix time."""
        with self.desk.tree(self.policy(kind)) as root:
            if floor_s:
                raise_time_floor(Layout.below(root), floor_s * 1000)
            return build_layer(root, self._directory / f"{kind}-{floor_s}.squashfs")

    def snapshot(self, kind: str) -> Snapshot:
        """Such a VM, saved; made when first asked for, which takes longer than most slots here."""
        if kind not in self._snapshots:
            self._snapshots[kind] = save_warded(self._image, self.layer(kind), self._directory / kind)
        return self._snapshots[kind]

    def clone(self, kind: str, slot: Slot, *, network: Network) -> Warded:
        """A VM in which vmwarden runs; its own clock is the host's."""
        self._channels += 1
        return Warded(self.snapshot(kind), self.channel(), network=network, ahead_s=slot.ahead_s)

    def host(self, slot: Slot, path: Path | None = None) -> HostSimulator:
        """The trusted host, at the newest clone's channel, or at that one."""
        return HostSimulator(
            path or self.channel(), key=host_key(self.desk), listen=False, clock_offset_s=slot.ahead_s
        )

    def channel(self) -> Path:
        """Where the newest clone's way to its host is."""
        return self._directory / f"{self._channels}.sock"


class KeptFlows(Flows):
    """Flows of a guest that may go on in another machine."""

    def go_on(self, vm: Warded) -> None:
        """What they ask the guest, they ask this one."""
        self._guest = vm.guest


def save(vm: Warded, path: Path) -> None:
    """Write what the VM is at this moment to a file, and end it."""
    with vm.machine:
        vm.machine.save(path)


def restore(vm: Warded, path: Path) -> None:
    """Let it go on from there, with the clock that it had."""
    vm.machine = Machine(replace(vm.machine.spec, incoming=path))
    vm.machine.wait_running()
    vm.guest = vm.machine.guest
    vm.listen()
