# SPDX-License-Identifier: Apache-2.0
"""Fixtures for tests that need a real machine.

    def test_something(fast_machine):
        machine = fast_machine(networks=(UserNetwork(),))      # fields of testbed.spec.MachineSpec
        assert machine.guest.sh("nft list ruleset").rc == 0

``fast_machine`` and ``systemd_machine`` restore from a snapshot that the session's first test of that kind
made (7 s, then 0.6 s; systemd 18 s, then 0.7 s); ``boot_machine`` boots. All close what they gave.
A host without QEMU and the other tools skips these tests with the reason; under CI=true it fails them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from testbed import machine as machines
from testbed.commands import missing
from testbed.image import TOOLS as IMAGE_TOOLS
from testbed.image import Image, ensure_image
from testbed.machine import Machine
from testbed.shelf import Shelf
from testbed.snapshot import Snapshot
from testbed.spec import Init, MachineSpec
from tests.vm.warded import WardedVm

MakeMachine = Callable[..., Machine]
MakeSnapshot = Callable[..., Snapshot]

SYSTEMD_MEMORY_MIB = 512


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "vm: boots real machines under QEMU (slow; needs root and a few packages)"
    )


@pytest.fixture(scope="session")
def image() -> Image:
    """The image, built now if this host has never built it (about a minute)."""
    absent = missing({*IMAGE_TOOLS, *machines.TOOLS, "mksquashfs", "ip", "ssh"})
    if absent:
        reason = f"the test bed needs: {', '.join(sorted(absent))}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return ensure_image(say=print)


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """The session's snapshots."""
    return Shelf(tmp_path_factory.mktemp("snapshots"))


@pytest.fixture(scope="session")
def fast_snapshot(image: Image, shelf: Shelf) -> MakeSnapshot:
    """``fast_snapshot(layers=...)``: a saved fast guest, one a session for each set of layers and devices."""

    def make(**fields: Any) -> Snapshot:
        return shelf.snapshot(MachineSpec(image, **fields))

    return make


@pytest.fixture(scope="session")
def warded_vm(image: Image, tmp_path_factory: pytest.TempPathFactory) -> WardedVm:
    """``warded_vm.clone()``: a restored fast guest in which vmwarden already runs."""
    return WardedVm(image, tmp_path_factory.mktemp("w"))


@pytest.fixture
def fast_machine(image: Image, shelf: Shelf) -> Iterator[MakeMachine]:
    """``fast_machine(**fields of MachineSpec)``: a restored fast guest."""
    with contextlib.ExitStack() as open_machines:

        def make(**fields: Any) -> Machine:
            return open_machines.enter_context(shelf.restore(MachineSpec(image, **fields)))

        yield make


@pytest.fixture
def systemd_machine(image: Image, shelf: Shelf) -> Iterator[MakeMachine]:
    """``systemd_machine(**fields of MachineSpec)``: a restored systemd guest that is up."""
    with contextlib.ExitStack() as open_machines:

        def make(**fields: Any) -> Machine:
            spec = MachineSpec(image, **{"init": Init.SYSTEMD, "memory_mib": SYSTEMD_MEMORY_MIB, **fields})
            return open_machines.enter_context(shelf.restore(spec))

        yield make


@pytest.fixture
def boot_machine(image: Image) -> Iterator[MakeMachine]:
    """``boot_machine(**fields of MachineSpec)``: a machine that starts from power-on, whichever its init."""
    with contextlib.ExitStack() as open_machines:

        def make(**fields: Any) -> Machine:
            if fields.get("init") is Init.SYSTEMD:
                fields.setdefault("memory_mib", SYSTEMD_MEMORY_MIB)
            return open_machines.enter_context(Machine(MachineSpec(image, **fields)))

        yield make
