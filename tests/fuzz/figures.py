# SPDX-License-Identifier: Apache-2.0
"""What a long run came to, for docs/reference/fuzzing.md: written by the run, never by hand."""

import datetime
import os
import platform
from pathlib import Path

from tests.fuzz.engine import Figures

#: names the page whose section of figures is written anew, row by row
PAGE = "VMWARDEN_FUZZ_PAGE"
HEAD = "## Figures of the last long run"
_COMMAND = f"nice -n 10 env {PAGE}=docs/reference/fuzzing.md pytest -m soak tests/fuzz"


def kept(figures: Figures, seed: int) -> None:
    """Say it, and put it on the page if one is named."""
    print(figures.row())
    page = os.environ.get(PAGE)
    if page:
        path = Path(page)
        before, _, section = path.read_text(encoding="utf-8").partition(HEAD)
        rows = {row.split("|")[1].strip(): row for row in section.splitlines() if row.startswith("| ")}
        rows[figures.target] = figures.row()
        path.write_text(before + _section(rows, seed), encoding="utf-8")


def _section(rows: dict[str, str], seed: int) -> str:
    titles = "| target | executions | refused | slowest, ms of CPU | seconds |"
    figures = [row for name, row in sorted(rows.items()) if name not in ("target", "total")]
    cells = [[cell.strip().replace(",", "") for cell in row.split("|")[2:6]] for row in figures]
    executions, seconds = (sum(int(cell[at]) for cell in cells) for at in (0, 3))
    machine = (
        f"Linux {platform.release()}, Python {platform.python_version()}, {os.cpu_count()} CPUs (shared)"
    )
    return "\n".join(
        (
            f"{HEAD}\n",
            f"`{_COMMAND}`, seed {seed}. {machine}, {datetime.datetime.now(datetime.UTC):%Y-%m-%d}.",
            "0 crashes, 0 opens: a run that finds one stops there and writes no row.\n",
            titles,
            "|---|---|---|---|---|",
            *figures,
            f"| total | {executions:,} | | | {seconds:,} |\n",
        )
    )
