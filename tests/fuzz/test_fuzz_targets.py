# SPDX-License-Identifier: Apache-2.0
"""Every reader of bytes on inputs that are almost right (docs/reference/fuzzing.md).

pytest tests/fuzz             some thousand inputs, seed 1
pytest -m soak tests/fuzz     millions; VMWARDEN_FUZZ_PAGE=docs/reference/fuzzing.md puts the figures there
"""

import random

import pytest

from tests.fuzz.engine import Found, Target, execute
from tests.fuzz.figures import kept
from tests.fuzz.mutate import Mutator
from tests.fuzz.scenarios import SCENARIOS, Scenario, play
from tests.fuzz.targets import TARGETS

SEED, LONG_SEED = 1, 20_261_123


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_bytes_that_are_almost_right_are_refused_or_read(target: Target) -> None:
    execute(target, target.counts[0], SEED)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_warden_among_lies_neither_falls_nor_opens(scenario: Scenario) -> None:
    play(scenario, scenario.counts[0], SEED)


@pytest.mark.soak
@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: f"{target.name}-{target.counts[1]}")
def test_bytes_that_are_almost_right_for_long(target: Target) -> None:
    kept(execute(target, target.counts[1], LONG_SEED), LONG_SEED)


@pytest.mark.soak
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: f"{scenario.name}-{scenario.counts[1]}")
def test_a_warden_among_lies_for_long(scenario: Scenario) -> None:
    kept(play(scenario, scenario.counts[1], LONG_SEED), LONG_SEED)


# -- the engine itself: what it is for, it finds --------------------------------------------------------


def _broken(data: bytes) -> None:
    if data[:1] == b"{" and b"\xff" in data:
        raise KeyError("a crash")


def _endless(data: bytes) -> None:
    while b"\xff" in data:
        pass


def _greedy(data: bytes) -> None:
    if b"\xff" in data:
        bytearray(1 << 30)


@pytest.mark.parametrize("reader", [_broken, _endless, _greedy])
def test_a_reader_that_breaks_its_promise_is_found(reader: object) -> None:
    target = Target(name="x", seeds=lambda: [b"{}"], run=reader, within_s=0.05)  # type: ignore[arg-type]

    with pytest.raises(Found, match=r"tests\.fuzz x"):
        execute(target, 3_000, SEED)


def test_the_same_seed_makes_the_same_inputs() -> None:
    seeds = [b'{"a":[1,"x"],"b":{"c":null}}', b"x" * 50]

    def made(seed: int) -> list[bytes]:
        mutator = Mutator(random.Random(seed))
        return [mutator.json(seeds[0], seeds[1]) for _ in range(300)]

    assert made(1) == made(1)
    assert made(1) != made(2)
    assert len(set(made(1))) > 200
