# SPDX-License-Identifier: Apache-2.0
"""Every way in every state of the gate, tried on the kernel that this runs on.  Needs root.

    python3 -m tests.integration.gate_trial 4 > outcomes.json

needs vmwarden, its public fakes and the gate_*.py beside this; no pytest: it runs in guests, too.
"""

import dataclasses
import json
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass

from tests.integration.gate_policy import gate_policy, nft_gate, uids
from tests.integration.gate_ways import Scene, Way, scenes, stands_in
from vmwarden.controls.gate import NftGate
from vmwarden.controls.second_layer import SecondLayer
from vmwarden.controls.way_around import WayAround
from vmwarden.errors import CommandFailed
from vmwarden.ports.gate import SHORTEST_LEASE_MS
from vmwarden.testing.network import Lan, lan

NO_GATE, FIRST, OPEN, HELD, QUARANTINED, DEAD, LAPSED = STATES = (
    "no gate",
    "first layer alone",
    "open",
    "held",
    "quarantined",
    "dead, at once",
    "dead, after T",
)
_LONG_MS, _SHORT_MS = 30_000, 300
_AGAIN = 5


@dataclass(frozen=True, slots=True)
class Tried:
    """One way.  passes, should: the STATES in which it got there, and in which it is meant to."""

    way: str
    passes: tuple[str, ...]
    should: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """One scene.  found, promised: ids of the findings of the watch for ways around, while held, and those
    that the ways name as theirs.  missing: what this kernel has not; then nothing was tried."""

    scene: str
    tried: tuple[Tried, ...] = ()
    found: tuple[str, ...] = ()
    promised: tuple[str, ...] = ()
    missing: str = ""

    def surprises(self) -> list[str]:
        """What is not as it is meant to be, in words."""
        said = [
            f"{self.scene}, {tried.way}, {state}: {'passes' if state in tried.passes else 'blocked'}"
            for tried in self.tried
            for state in STATES
            if (state in tried.passes) != (state in tried.should)
        ]
        if self.found != self.promised:
            said.append(f"{self.scene}: found {self.found}, not {self.promised}")
        return said


def trial(scene: Scene) -> Outcome:
    """Builds the scene in namespaces of its own and tries all its ways."""
    with lan() as network, network.vm.entered():
        try:
            scene.built(network)
        except CommandFailed as error:
            return Outcome(scene.name, missing=_missing(str(error)))
        return _judged(network, scene)


def _judged(network: Lan, scene: Scene) -> Outcome:
    gate = _both_layers()
    gate.install(gate_policy())
    scene.done(network, gate)
    gate.heard()
    ways = scene.ways(network)
    passed = {HELD: _passing(ways, HELD)}
    findings = gate.around()
    gate.cut_links()
    gate.end_flows(_LONG_MS)
    passed[QUARANTINED] = _passing(ways, QUARANTINED)
    gate.mend_links()
    gate.end_flows(SHORTEST_LEASE_MS)
    time.sleep(_SHORT_MS / 1000)
    gate.lease(_LONG_MS)
    passed[OPEN] = _passing(ways, OPEN)
    gate.lease(_LONG_MS)
    gate.close()  # what the kernel does when the warden dies
    passed[DEAD] = _passing(ways, DEAD)
    gate = _both_layers()
    gate.install(gate_policy())
    gate.lease(_SHORT_MS)
    gate.close()
    time.sleep(2 * _SHORT_MS / 1000)
    passed[LAPSED] = _passing(ways, LAPSED)
    _both_layers().remove()
    first = nft_gate()
    first.install(gate_policy())
    passed[FIRST] = _passing(ways, FIRST)
    first.remove()
    passed[NO_GATE] = _passing(ways, NO_GATE)
    return Outcome(
        scene.name,
        tuple(
            Tried(name, tuple(state for state in STATES if name in passed[state]), _should(way), way.why)
            for name, way in ways.items()
        ),
        found=tuple(sorted({finding.id for finding in findings})),
        promised=tuple(sorted(_promised(ways.values()))),
    )


def _passing(ways: dict[str, Way], state: str) -> set[str]:
    """What gets there.  What should and does not, on a machine under load, is tried again by itself."""
    # every thread is that user for a moment: not beside others
    passing = {name for name, way in ways.items() if name.startswith("reach") and way.passes()}
    with ThreadPoolExecutor(max_workers=len(ways)) as threads:
        answers = {
            name: threads.submit(way.passes) for name, way in ways.items() if not name.startswith("reach")
        }
        passing |= {name for name, answer in answers.items() if answer.result()}
    late = (name for name, way in ways.items() if name not in passing and state in _should(way))
    return passing | {name for name in late if any(ways[name].passes() for _ in range(_AGAIN))}


def _should(way: Way) -> tuple[str, ...]:
    meant = {
        NO_GATE: True,
        FIRST: way.lone,
        OPEN: way.opened,
        HELD: way.closed,
        QUARANTINED: way.told or (way.closed and not way.cut),
        DEAD: way.closed or way.leased,
        LAPSED: way.closed,
    }
    return tuple(state for state in STATES if meant[state])


def _promised(ways: Iterable[Way]) -> set[str]:
    words = (word.rstrip(",;") for way in ways for word in way.why.split())
    return {word for word in words if word.startswith("gate.around.")}


def _both_layers() -> NftGate:
    return NftGate(uids, second=SecondLayer(uids, stands_in=stands_in), around=WayAround())


def _missing(said: str) -> str:
    return "this kernel has no such device" if "Unknown device type" in said else said


def trials(at_a_time: int) -> list[Outcome]:
    """All scenes, several side by side: they mostly wait for what does not come."""
    with ProcessPoolExecutor(at_a_time) as processes:
        return list(processes.map(_trial, range(len(scenes()))))


def _trial(number: int) -> Outcome:
    return trial(scenes()[number])


def main() -> None:
    """Prints a list of outcomes as JSON."""
    print(json.dumps([dataclasses.asdict(outcome) for outcome in trials(int(sys.argv[1]))]))


def outcomes(text: str) -> list[Outcome]:
    """What main printed."""
    return [
        Outcome(
            **{
                **one,
                "tried": tuple(
                    Tried(**{**way, "passes": tuple(way["passes"]), "should": tuple(way["should"])})
                    for way in one["tried"]
                ),
                "found": tuple(one["found"]),
                "promised": tuple(one["promised"]),
            }
        )
        for one in json.loads(text)
    ]


if __name__ == "__main__":
    main()
