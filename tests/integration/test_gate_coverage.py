# SPDX-License-Identifier: Apache-2.0
"""Both layers together against every way that there is, on the kernel of this machine.

With VMWARDEN_COVERAGE=write it keeps what it found: see gate_page.  tests/vm/test_vm_coverage.py does the
same on Debian's kernels.
"""

import os
import platform

import pytest

from tests.integration.gate_page import ASKED, PAGE, RECORDS, Record, keep, page, read, rows, written
from tests.integration.gate_trial import Outcome, trials
from tests.integration.gate_ways import scenes

SCENES = [scene.name for scene in scenes()]


@pytest.fixture(scope="module")
def tried() -> dict[str, Outcome]:
    """By scene."""
    if os.geteuid() != 0:
        pytest.skip("needs root: makes network namespaces")
    return {outcome.scene: outcome for outcome in trials(4)}


@pytest.mark.root
@pytest.mark.parametrize("scene", SCENES)
def test_what_gets_through(scene: str, tried: dict[str, Outcome]) -> None:
    outcome = tried[scene]
    if outcome.missing:
        pytest.skip(outcome.missing)
    assert outcome.surprises() == []


@pytest.mark.root
def test_the_record_of_this_kernel_says_what_was_tried(tried: dict[str, Outcome]) -> None:
    now = Record(platform.release(), rows(tried.values()))
    if os.environ.get(ASKED) == "write":
        keep("machine", now)
    kept = read(RECORDS["machine"])
    # another kernel is held to what is meant, above; it may have devices that this one has not
    if kept.release == now.release:
        assert kept.rows == now.rows


def test_the_page_is_made_of_the_records() -> None:
    records = {name: read(path) for name, path in RECORDS.items()}
    assert PAGE.read_text() == page(records)
    for name, path in RECORDS.items():
        assert path.read_text() == written(records[name])
