# SPDX-License-Identifier: Apache-2.0
"""The page of figures: every figure beside its budget, a reason where there is none, nothing private."""

import pytest

from benchmarks.__main__ import PLANS, Plan, missing
from benchmarks.figure import Figure, median_interval
from benchmarks.report import Outcome, Surroundings, markdown, number, text, verdict

WITHIN = Figure("start", 0.2671, "s", "<= 0.5", True, "0.267 [0.199, 0.288], 8 rounds")
BEYOND = Figure("resident", 43.5, "MB", "<= 40", False, "a | b")
PLAIN = Figure("baseline", 1234.5, "us")
OUTCOMES = (
    Outcome("start", (WITHIN, PLAIN), seconds=12.4),
    Outcome("memory", (BEYOND,), seconds=3.0),
    Outcome("guest_reaction", because="needs QEMU"),
    Outcome("journal", because="disk full: /home/ada/x on ada-laptop", failed=True),
)
WHERE = Surroundings(
    date="2026-11-23 20:00 UTC",
    kernel="Linux 6.1",
    python="3.11.2",
    cores=2,
    load=(0.5, 1.25),
    command="python -m benchmarks",
    private=("/home/ada", "ada-laptop"),
)


@pytest.mark.parametrize(("figure", "word"), [(WITHIN, "within"), (BEYOND, "BEYOND"), (PLAIN, "")])
def test_a_verdict_stands_only_beside_a_budget(figure: Figure, word: str) -> None:
    assert verdict(figure) == word


def test_the_page_has_one_row_a_figure_and_a_reason_for_what_is_missing() -> None:
    lines = markdown(OUTCOMES, WHERE).splitlines()
    for row in (
        "| 2026-11-23 20:00 UTC | Linux 6.1 | 3.11.2 | 2 | 0.50, 1.25 |",
        "| start | 0.267 s | <= 0.5 | within | 0.267 [0.199, 0.288], 8 rounds |",
        "| resident | 43.5 MB | <= 40 | BEYOND | a \\| b |",
        "| baseline | 1234 us |  |  |  |",
        "| guest_reaction | | | not measurable here | needs QEMU |",
        "- `start`: 12 s",
    ):
        assert row in lines
    assert sum(line.startswith("- `") for line in lines) == 2


def test_no_path_or_name_of_the_machine_is_on_the_page() -> None:
    page = markdown(OUTCOMES, WHERE)
    assert "| journal | | | FAILED | disk full: …/x on … |" in page
    assert not any(word in page for word in WHERE.private)


def test_the_terminal_says_the_same() -> None:
    told = text(OUTCOMES)
    assert [line.split()[0] for line in told.splitlines()[1:4]] == ["start", "baseline", "resident"]
    assert "guest_reaction: not measurable here: needs QEMU" in told
    assert "journal: FAILED: disk full" in told


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.01234, "0.0123"), (0.5, "0.5"), (99.95, "100"), (38.117, "38.1"), (123456.7, "123457")],
)
def test_numbers_have_three_figures_and_no_exponent(value: float, written: str) -> None:
    assert number(value) == written


def test_what_a_benchmark_needs_and_lacks() -> None:
    guest = Plan(rounds=1, root=True, qemu=True)
    assert missing(guest, root=True, qemu=True) == ""
    assert missing(guest, root=False, qemu=False) == "needs root and QEMU"
    assert missing(guest, root=True, qemu=False) == "needs QEMU"
    assert missing(Plan(rounds=1), root=False, qemu=False) == ""
    assert all(plan.rounds > 0 for plan in PLANS.values())


def test_a_budget_is_missed_only_with_its_whole_interval() -> None:
    wide = median_interval([0.3, 0.4, 0.6, 0.9, 1.1])
    assert wide.median > 0.5
    assert not wide.misses_at_most(0.5)
    assert median_interval([0.6, 0.61, 0.62]).misses_at_most(0.5)
