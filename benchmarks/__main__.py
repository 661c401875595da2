# SPDX-License-Identifier: Apache-2.0
"""Measure, print, and write docs/benchmarks.md.

python -m benchmarks [--only NAME ...] [--rounds N] [--write FILE]
"""

import argparse
import datetime
import importlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import report
from benchmarks.report import Outcome, Surroundings
from benchmarks.site import ROOT, Failed, Unmeasurable
from vmwarden.errors import WardenError

PAGE = ROOT / "docs/benchmarks.md"


@dataclass(frozen=True, slots=True)
class Plan:
    """How one benchmark is run.  rounds: unless --rounds says otherwise.  root, qemu: what it needs."""

    rounds: int
    root: bool = False
    qemu: bool = False


#: modules with run(rounds) -> list[Figure], in the order of the page; together below ten minutes
PLANS = {
    "start": Plan(rounds=20),
    "memory": Plan(rounds=5),
    "idle": Plan(rounds=3),
    "decision": Plan(rounds=200),
    "hours": Plan(rounds=200),
    "journal": Plan(rounds=5),
    "gate_overhead": Plan(rounds=20, root=True),
    "second_layer": Plan(rounds=40, root=True),
    "gate_state": Plan(rounds=30, root=True),
    "services": Plan(rounds=15, root=True),
    "flows": Plan(rounds=5, root=True),
    "nts": Plan(rounds=10, root=True),
    "guest_reaction": Plan(rounds=12, root=True, qemu=True),
}


def main(argv: Sequence[str]) -> int:
    """0, or 1 when a budget is missed or a benchmark does not work."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="figures beside their budgets; docs/benchmarks.md"
    )
    parser.add_argument("--only", nargs="+", choices=list(PLANS), metavar="NAME", help=", ".join(PLANS))
    parser.add_argument("--rounds", type=int, help="rounds of each (default: each its own number)")
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="the page (default: docs/benchmarks.md; none with --only)"
    )
    args = parser.parse_args(argv)
    load = os.getloadavg()[0]
    outcomes = [_measured(name, args.rounds or PLANS[name].rounds) for name in args.only or PLANS]
    print(report.text(outcomes))
    page = args.write or (None if args.only else PAGE)
    if page is not None:
        page.write_text(report.markdown(outcomes, _surroundings(argv, load)), encoding="utf-8")
        print(f"written: {page}")
    missed = any(figure.within is False for outcome in outcomes for figure in outcome.figures)
    return int(missed or any(outcome.failed for outcome in outcomes))


def missing(plan: Plan, *, root: bool, qemu: bool) -> str:
    """What of its needs is not here; "" = nothing."""
    needs = (("root", plan.root, root), ("QEMU", plan.qemu, qemu))
    lacks = [name for name, needed, here in needs if needed and not here]
    return f"needs {' and '.join(lacks)}" if lacks else ""


def _measured(name: str, rounds: int) -> Outcome:
    print(f"{name}: {rounds} rounds", file=sys.stderr, flush=True)
    qemu = shutil.which(f"qemu-system-{platform.machine()}") is not None
    lacks = missing(PLANS[name], root=os.geteuid() == 0, qemu=qemu)
    if lacks:
        return Outcome(name, because=lacks)
    if importlib.util.find_spec(f"benchmarks.{name}") is None:
        return Outcome(name, because="not in this checkout")
    began = time.monotonic()
    try:
        figures = importlib.import_module(f"benchmarks.{name}").run(rounds)
    except Unmeasurable as error:
        return Outcome(name, because=str(error), seconds=time.monotonic() - began)
    except (Failed, WardenError, OSError, RuntimeError, subprocess.SubprocessError) as error:
        because = str(error) or type(error).__name__
        return Outcome(name, because=because, failed=True, seconds=time.monotonic() - began)
    return Outcome(name, tuple(figures), seconds=time.monotonic() - began)


def _surroundings(argv: Sequence[str], load: float) -> Surroundings:
    return Surroundings(
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        cores=len(os.sched_getaffinity(0)),
        load=(load, os.getloadavg()[0]),
        command=" ".join(["python -m benchmarks", *argv]),
        private=(str(ROOT), str(Path.home()), tempfile.gettempdir(), platform.node()),
    )


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
