# SPDX-License-Identifier: Apache-2.0
"""Figures beside their budgets, as text for the terminal and as docs/benchmarks.md."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.figure import Figure
from vmwarden.cli.render import table

TITLE = """# Benchmarks

Written by `{command}`; never edited by hand.

A budget (design: Budgets) counts as missed only if the whole 95 % interval lies beyond it: a median of rounds
with its bootstrap interval, `median [low, high]`. Baselines are measured in the same rounds, in an order that
changes. What this machine could not measure says why.
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one benchmark gave.

    because: why it gave no figures, "" = it did.  failed: it did not work, as against this machine cannot.
    seconds: how long it took.
    """

    benchmark: str
    figures: tuple[Figure, ...] = ()
    because: str = ""
    failed: bool = False
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where and when, without a name of the machine.  load: of one minute, before and after."""

    date: str
    kernel: str
    python: str
    cores: int
    load: tuple[float, float]
    command: str
    private: tuple[str, ...] = field(default=())


def verdict(figure: Figure) -> str:
    """within, BEYOND, or nothing where there is no budget."""
    return {True: "within", False: "BEYOND", None: ""}[figure.within]


def text(outcomes: Sequence[Outcome]) -> str:
    """For people at a terminal."""
    rows = [
        (figure.name, number(figure.value), figure.unit, figure.budget, verdict(figure), figure.detail)
        for outcome in outcomes
        for figure in outcome.figures
    ]
    nothing = [f"{o.benchmark}: {_nothing(o)}: {o.because}" for o in outcomes if o.because]
    return "\n".join([table(("figure", "value", "unit", "budget", "verdict", "detail"), rows), *nothing])


def markdown(outcomes: Sequence[Outcome], where: Surroundings) -> str:
    """The page.  No path or name of the machine is in it."""
    before, after = where.load
    lines = [
        TITLE.format(command=where.command),
        "| date | kernel | Python | cores | load before, after |",
        "|---|---|---|---|---|",
        f"| {where.date} | {where.kernel} | {where.python} | {where.cores} | {before:.2f}, {after:.2f} |",
        "",
        "| figure | value | budget | verdict | how |",
        "|---|---|---|---|---|",
    ]
    for outcome in outcomes:
        lines += [_row(figure) for figure in outcome.figures]
        if outcome.because:
            because = cell(_public(outcome.because, where.private))
            lines.append(f"| {cell(outcome.benchmark)} | | | {_nothing(outcome)} | {because} |")
    lines += ["", "Each benchmark by itself: `python -m benchmarks --only NAME`; it took here:", ""]
    lines += [f"- `{o.benchmark}`: {o.seconds:.0f} s" for o in outcomes if not o.because]
    return "\n".join(lines) + "\n"


def number(value: float) -> str:
    """Three figures that mean something; no exponent from 0.0001 on."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def cell(words: str) -> str:
    """What may stand in a table."""
    return " ".join(words.split()).replace("|", "\\|")


def _nothing(outcome: Outcome) -> str:
    return "FAILED" if outcome.failed else "not measurable here"


def _row(figure: Figure) -> str:
    value = f"{number(figure.value)} {figure.unit}"
    columns = (figure.name, value, figure.budget, verdict(figure), figure.detail)
    return f"| {' | '.join(map(cell, columns))} |"


def _public(words: str, private: Sequence[str]) -> str:
    for word in private:
        words = words.replace(word, "…")
    return words
