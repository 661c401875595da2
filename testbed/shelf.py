# SPDX-License-Identifier: Apache-2.0
"""Snapshots by need: the first machine of a kind boots and is saved, all others start within a second."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from pathlib import Path

from testbed.disks import create_disk
from testbed.failures import MachineFailed
from testbed.machine import BOOT_LIMIT, Machine
from testbed.snapshot import Snapshot, boot_and_save
from testbed.spec import Init, IsolatedNetwork, MachineSpec, Network, Port, PortMode

_KEY_DIGITS = 16
NOBODY = Path("/nonexistent/vmwarden")


class Shelf:
    """Keeps snapshots in a directory for as long as its owner wants; the owner removes it.

    Two specs share a snapshot if they differ only in where ports and forwards lead, the kind of network, the
    vmgenid value and the files behind the disks (of equal size; the guest was saved before it read them).
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._snapshots: dict[str, Snapshot] = {}
        self._lock = threading.Lock()

    def snapshot(self, spec: MachineSpec) -> Snapshot:
        """The snapshot for machines like ``spec``, booted and saved now if there is none yet.

        A systemd guest is saved when it is up; raises `MachineFailed` if it is not then ``running``.
        """
        key = _key(spec)
        with self._lock:
            if key not in self._snapshots:
                directory = self._directory / key
                directory.mkdir(parents=True)
                self._snapshots[key] = boot_and_save(_neutral(spec, directory), directory, _settle)
            return self._snapshots[key]

    def restore(self, spec: MachineSpec) -> Machine:
        """A machine like ``spec``, running; see `Snapshot.restore`. ``spec.upper`` must be None."""
        if spec.upper is not None:
            raise MachineFailed(
                "a snapshot has mounted its own upper disk; mend: Machine(spec) instead of restore"
            )
        return self.snapshot(spec).restore(
            disks=spec.disks,
            ports=spec.ports,
            networks=spec.networks,
            vmgenid=spec.vmgenid,
            lifetime=spec.lifetime,
        )


def _settle(machine: Machine) -> None:
    if machine.spec.init is Init.SYSTEMD:
        state = machine.guest.sh("systemctl is-system-running --wait", timeout=BOOT_LIMIT)
        if state.rc != 0:
            failed = machine.guest.sh(
                "systemctl --failed --no-legend; journalctl -b -p warning --no-pager"
            ).out
            raise MachineFailed(f"the systemd guest came up {state.out.strip()}:\n{failed}")


def _key(spec: MachineSpec) -> str:
    """Equal for specs that can share a snapshot."""
    layers = [(path, path.stat().st_mtime_ns, path.stat().st_size) for path in spec.layers]
    disks = [(disk.serial, disk.readonly, disk.path.stat().st_size) for disk in spec.disks]
    ports = [port.name for port in spec.ports]
    rest = replace(
        spec,
        disks=(),
        ports=(),
        networks=tuple(_neutral_network(network) for network in spec.networks),
        vmgenid=None,
        lifetime=0.0,
    )
    parts = (layers, disks, ports, spec.vmgenid is not None, rest)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:_KEY_DIGITS]


def _neutral(spec: MachineSpec, directory: Path) -> MachineSpec:
    """``spec`` with everything replaced that belongs to one test only."""
    return replace(
        spec,
        disks=tuple(
            disk
            if disk.readonly
            else replace(disk, path=create_disk(directory / f"{disk.serial}.empty", disk.path.stat().st_size))
            for disk in spec.disks
        ),
        # Nobody listens there, so while the guest boots no port of it is connected.
        ports=tuple(Port(port.name, NOBODY, PortMode.CONNECT) for port in spec.ports),
        networks=tuple(_neutral_network(network) for network in spec.networks),
    )


def _neutral_network(network: Network) -> Network:
    return IsolatedNetwork(network.address, network.gateway, network.mac)
