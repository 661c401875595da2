# SPDX-License-Identifier: Apache-2.0
"""docs/reference/fuzzing.md against the readers that there are and the targets that enter them."""

import re
from functools import cache, partial
from pathlib import Path

from tests.fuzz.engine import entered, execute
from tests.fuzz.readers import defined, readers
from tests.fuzz.scenarios import SCENARIOS, play
from tests.fuzz.targets import TARGETS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "fuzzing.md"
#: tests/fuzz/test_fuzz_process.py: another process, whose functions cannot be seen from here
PROGRAM = "program"
SEED, INPUTS, ROUNDS = 7, 5, 6


def rows(title: str) -> list[tuple[list[str], ...]]:
    """What stands in backticks in each cell of the table below title."""
    section = PAGE.read_text(encoding="utf-8").partition(f"## {title}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [tuple(re.findall(r"`([^`]+)`", cell) for cell in line.split("|")[1:-1]) for line in lines[1:]]


@cache
def entered_by() -> dict[str, set[str]]:
    found = {name: entered(partial(execute, target, INPUTS, SEED)) for name, target in TARGETS.items()}
    return found | {one.name: entered(partial(play, one, min(ROUNDS, one.life), SEED)) for one in SCENARIOS}


def table() -> list[tuple[list[str], list[str]]]:
    return [(cells[1], cells[3]) for cells in rows("What is read, by whom, who can write it")]


def left_out() -> set[str]:
    return {name for cells in rows("Not fuzzed, and why") for name in cells[0]}


def test_the_table_has_every_target_and_no_other() -> None:
    named = {target for _, targets in table() for target in targets}

    assert named == {*TARGETS, *(one.name for one in SCENARIOS), PROGRAM}
    assert all(read_by and targets for read_by, targets in table())


def test_each_reader_of_the_table_is_entered_by_a_target_of_its_row() -> None:
    missing = [
        (reader, targets)
        for read_by, targets in table()
        for reader in read_by
        if PROGRAM not in targets and not any(reader in entered_by()[target] for target in targets)
    ]
    assert missing == []
    assert {reader for read_by, _ in table() for reader in read_by} <= defined()


def test_whatever_reads_is_entered_by_a_target_or_left_out_with_a_reason() -> None:
    seen = set().union(*entered_by().values())
    by_program = {reader for read_by, targets in table() if PROGRAM in targets for reader in read_by}

    assert sorted(readers() - seen - by_program - left_out()) == []
    assert sorted(left_out() - defined()) == []
    assert sorted(left_out() & seen) == []
