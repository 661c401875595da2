# SPDX-License-Identifier: Apache-2.0
"""From the start of the process to the verdict, and what a boot waits for.

Each round measures, in an order that changes: a Python that does nothing, a Python that imports what the
warden cannot do without, the installed warden until its verdict allows, and boot-check beside a warden that
starts with it.  The machine is shared: CPU seconds (of warden and watcher together) stand beside the wall.
A boot with local evidence only: nothing answers on the host's side, nobody is waited for.

    python -m benchmarks --only start
"""

import random
import subprocess
import time
from collections.abc import Callable

from benchmarks.figure import Figure, median_interval
from benchmarks.site import PYTHON, WITHIN_S, Failed, Site, Used, site, timed

START_S = 0.5
BOOT_CHECK_S = 1.0
_SEED = 20261123
_IMPORTS = (
    "import argparse, ctypes, socket, sqlite3, subprocess, msgspec;"
    "from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey"
)


def run(rounds: int) -> list[Figure]:
    """Raises Unmeasurable, Failed."""
    with site() as here:
        measured: dict[str, Callable[[], Used]] = {
            "pass": lambda: timed([PYTHON, "-IS", "-c", "pass"]),
            "imports": lambda: timed(
                [PYTHON, "-IS", "-c", f"import sys; sys.path.insert(0, {str(here.library)!r}); {_IMPORTS}"]
            ),
            "verdict": lambda: _verdict(here),
            "boot-check": lambda: _boot_check(here),
        }
        for measure in measured.values():
            measure()  # the first of each reads its files from the disk
        used: dict[str, list[Used]] = {name: [] for name in measured}
        order, names = random.Random(_SEED), list(measured)
        for _ in range(rounds):
            order.shuffle(names)
            for name in names:
                used[name].append(measured[name]())
    return [
        _figure("start: process to first settled verdict", used["verdict"], START_S),
        _figure("start: boot-check beside a starting warden", used["boot-check"], BOOT_CHECK_S),
        _figure("start: baseline, a Python that does nothing", used["pass"], None),
        _figure("start: baseline, a Python with the warden's imports", used["imports"], None),
    ]


def _verdict(here: Site) -> Used:
    with here.guarding() as pair:
        return pair.to_verdict


def _boot_check(here: Site) -> Used:
    """As systemd starts them: the check does not wait until the warden listens.  CPU: of the check alone."""
    began = time.monotonic()
    check = subprocess.Popen(
        [str(here.launcher), "boot-check", "--root", str(here.root), "--bound", "30s", "--json"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with here.guarding():
            if check.wait(WITHIN_S):
                raise Failed(f"boot-check ended with {check.returncode}")
            return Used(time.monotonic() - began, 0.0)
    except subprocess.TimeoutExpired as error:
        raise Failed(f"boot-check ran longer than {WITHIN_S:g} s") from error
    finally:
        if check.poll() is None:
            check.kill()
            check.wait()


def _figure(name: str, used: list[Used], budget_s: float | None) -> Figure:
    wall, cpu = median_interval([u.wall_s for u in used]), median_interval([u.cpu_s for u in used])
    return Figure(
        name,
        wall.median,
        "s",
        "" if budget_s is None else f"<= {budget_s:g}",
        None if budget_s is None else not wall.misses_at_most(budget_s),
        f"{wall}, {len(used)} rounds" + (f"; CPU {cpu} s" if cpu.median else ""),
    )
