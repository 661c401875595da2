# SPDX-License-Identifier: Apache-2.0
"""What the gate covers on Debian's kernels: the ways of tests/integration, tried within guests.

With VMWARDEN_COVERAGE=write it keeps what it found: see tests.integration.gate_page.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from testbed.image import Image, Kernel, ensure_image
from testbed.machine import Machine
from testbed.provision import REPOSITORY, install_layer
from testbed.recipe import Recipe
from testbed.shelf import Shelf
from testbed.spec import MachineSpec
from tests.integration.gate_page import ASKED, RECORDS, Record, keep, read, rows
from tests.integration.gate_trial import outcomes

pytestmark = [pytest.mark.vm, pytest.mark.root]

#: of the trial in an emulated guest that shares its CPU: it takes a minute alone
TRIED_WITHIN_S = 500.0
TRIAL = "cd /opt/trial && PYTHONPATH=/opt/vmwarden/lib:/opt/trial python3 -m tests.integration.gate_trial 2"


def put(machine: Machine, to: str, *files: Path) -> None:
    for file in files:
        machine.guest.put(f"{to}/{file.name}", file.read_bytes())


@pytest.mark.parametrize("kernel", [Kernel.CLOUD, pytest.param(Kernel.GENERIC, marks=pytest.mark.soak)])
def test_what_gets_through_on_debian(image: Image, shelf: Shelf, kernel: Kernel) -> None:
    # the generic kernel has an image of its own, which a fresh machine takes more than a minute to build
    of_kernel = image if kernel is Kernel.CLOUD else ensure_image(Recipe(kernel=kernel), say=print)
    with shelf.restore(MachineSpec(of_kernel, layers=(install_layer(),))) as machine:
        # what is installed in a VM has no test rooms
        put(
            machine, "/opt/vmwarden/lib/vmwarden/testing", *(REPOSITORY / "src/vmwarden/testing").glob("*.py")
        )
        put(machine, "/opt/trial/tests/integration", *(REPOSITORY / "tests/integration").glob("gate_*.py"))
        release = machine.guest.out("uname -r")
        began = time.monotonic()
        tried = outcomes(machine.guest.out(TRIAL, timeout=TRIED_WITHIN_S).splitlines()[-1])
    print(f"{release}: {sum(len(one.tried) for one in tried)} ways in {time.monotonic() - began:.0f} s")
    assert [surprise for outcome in tried for surprise in outcome.surprises()] == []
    assert release.endswith("cloud-amd64") is (kernel is Kernel.CLOUD)
    now = Record(release, rows(tried))
    if os.environ.get(ASKED) == "write":
        keep(kernel, now)
    # by cell: Debian's security updates change the release
    assert read(RECORDS[kernel]).rows == now.rows
