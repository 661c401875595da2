# SPDX-License-Identifier: Apache-2.0
"""Both layers together against every way that there is; writes docs/reference/gate-coverage.md.

VMWARDEN_COVERAGE_PAGE=docs/reference/gate-coverage.md pytest tests/integration/test_gate_coverage.py
"""

import os
import platform
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.gate_policy import gate_policy, nft_gate, uids
from tests.integration.gate_ways import Scene, Way, scenes, stands_in
from vmwarden.controls.gate import NftGate
from vmwarden.controls.second_layer import SecondLayer
from vmwarden.controls.way_around import WayAround
from vmwarden.errors import CommandFailed
from vmwarden.model.verdict import Finding
from vmwarden.testing.network import Lan, lan

pytestmark = pytest.mark.root

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "gate-coverage.md"
COLUMNS = ("no gate", "first layer, closed", "open", "closed", "dead, at once", "dead, after T")
_SHORT_MS = 300


@dataclass(frozen=True, slots=True)
class Found:
    """passed: by column, in their order, whether each way got there.  missing: what this kernel has not."""

    passed: dict[str, dict[str, bool]]
    findings: tuple[Finding, ...] = ()
    missing: str = ""


def judged(network: Lan, scene: Scene) -> tuple[dict[str, Way], Found]:
    """Tries every way of the scene in every state."""
    try:
        scene.built(network)
    except CommandFailed as error:
        return {}, Found({}, missing=_missing(str(error)))
    gate, layer = nft_gate(), SecondLayer(uids, stands_in=stands_in)
    gate.install(gate_policy())
    layer.install(gate_policy())
    scene.done(network, layer)
    layer.link_event()
    ways = scene.ways(network)

    def tried() -> dict[str, bool]:
        # every thread is that user for a moment: not beside others
        alone = {name: way.passes() for name, way in ways.items() if name.startswith("reach")}
        with ThreadPoolExecutor(max_workers=8) as threads:
            answers = {name: threads.submit(way.passes) for name, way in ways.items() if name not in alone}
            together = {name: answer.result() for name, answer in answers.items()}
        return {name: (alone | together)[name] for name in ways}

    passed = {"closed": tried()}
    findings = WayAround().look(layer.uplinks(), gone=layer.gone(), ungated=layer.ungated())
    _lease(gate, layer, 30_000)
    passed["open"] = tried()
    gate.close()  # what the kernel does when the warden dies
    passed["dead, at once"] = tried()
    layer.lease(_SHORT_MS)
    layer.close()
    time.sleep(2 * _SHORT_MS / 1000)
    passed["dead, after T"] = tried()
    layer.remove()
    passed["first layer, closed"] = tried()
    nft_gate().remove()
    passed["no gate"] = tried()
    return ways, Found({name: passed[name] for name in COLUMNS}, findings)


def expected(ways: dict[str, Way]) -> dict[str, dict[str, bool]]:
    return {
        "no gate": dict.fromkeys(ways, True),
        "first layer, closed": {name: way.lone for name, way in ways.items()},
        "open": {name: way.opened for name, way in ways.items()},
        "closed": {name: way.closed for name, way in ways.items()},
        "dead, at once": {name: way.closed or way.leased for name, way in ways.items()},
        "dead, after T": {name: way.closed for name, way in ways.items()},
    }


@pytest.fixture(scope="module")
def page() -> Iterator[dict[str, list[str]]]:
    """Lines of the page by scene; written when all scenes have run, where it is asked for."""
    lines: dict[str, list[str]] = {}
    yield lines
    asked = os.environ.get("VMWARDEN_COVERAGE_PAGE", "")
    if asked and len(lines) == len(scenes()):
        Path(asked).write_text(written(lines))


@pytest.mark.parametrize("number", range(len(scenes())), ids=[scene.name for scene in scenes()])
def test_what_gets_through(number: int, page: dict[str, list[str]]) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: makes network namespaces")
    scene = scenes()[number]
    with lan() as network, network.vm.entered():
        ways, found = judged(network, scene)
    page[scene.name] = rows(scene, ways, found)
    if found.missing:
        pytest.skip(found.missing)
    assert found.passed == expected(ways)
    named = {finding.id for finding in found.findings}
    promised = {
        word.rstrip(",;")
        for way in ways.values()
        for word in way.why.split()
        if word.startswith("gate.around.")
    }
    assert named == promised


def rows(scene: Scene, ways: dict[str, Way], found: Found) -> list[str]:
    """One row a way; every cell is what was measured."""
    if found.missing:
        return [
            f"| {scene.name} | | " + " | ".join("-" for _ in COLUMNS) + f" | not tried: {found.missing} |"
        ]
    return [
        f"| {scene.name} | {name} | "
        + " | ".join("passes" if found.passed[column][name] else "blocked" for column in COLUMNS)
        + f" | {way.why or _reason(found, name)} |"
        for name, way in ways.items()
    ]


def _reason(found: Found, name: str) -> str:
    if not found.passed["open"][name]:
        return "never passes the second layer"
    if found.passed["dead, at once"][name]:
        return "judged by the second layer only: closes with its lease"
    return ""


def written(lines: dict[str, list[str]]) -> str:
    head = PAGE_HEAD.format(kernel=platform.release(), columns=" | ".join(COLUMNS))
    ordered = [line for scene in scenes() for line in lines[scene.name]]
    return head + "\n".join(ordered) + "\n"


def _lease(gate: NftGate, layer: SecondLayer, milliseconds: int) -> None:
    gate.lease(milliseconds)
    layer.lease(milliseconds)


def _missing(said: str) -> str:
    return "this kernel has no such device" if "Unknown device type" in said else said.replace("|", "/")


PAGE_HEAD = """<!-- SPDX-License-Identifier: Apache-2.0 -->
# What the gate covers

Every way into, out of and through the VM, in every state of the gate, as tried by
`VMWARDEN_COVERAGE_PAGE=docs/reference/gate-coverage.md pytest tests/integration/test_gate_coverage.py`.
No cell is written by hand. Kernel {kernel}; a veth stands for the NIC.

- no gate: that the way works at all.
- first layer, closed: `inet vmwarden` alone.
- open, closed: both layers. `held` and `quarantined` have the same rules; what differs is in the last column.
- dead: the warden was killed while open, with the longest lease. At once: the owned table is gone. After T:
  the second layer's lease has lapsed, too.

| where | way | {columns} | why |
|---|---|---|---|---|---|---|---|---|
"""


def test_the_page_says_what_was_measured(page: dict[str, list[str]]) -> None:
    if len(page) < len(scenes()) or "VMWARDEN_COVERAGE_PAGE" in os.environ:
        pytest.skip("not every scene has run, or the page is being written")
    if f"Kernel {platform.release()};" not in PAGE.read_text():
        pytest.skip("the page is of another kernel")
    assert PAGE.read_text() == written(page)
