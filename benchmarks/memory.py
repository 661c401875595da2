# SPDX-License-Identifier: Apache-2.0
"""What stays resident: both programs as installed, settled, in observe mode.

PSS (smaps_rollup) divides each shared page by the number of its users, so whatever else runs on this
machine makes it smaller.  As root the page frames of both are counted too, each once (pagemap): what the two
would take in a VM in which nobody else has a Python, a libc or a libsqlite3.  That bounds PSS from above.

    python -m benchmarks --only memory
"""

import os
import struct
import time
from pathlib import Path

from benchmarks.figure import Figure, median_interval
from benchmarks.site import Pair, site

BUDGET_MB = 40.0
#: after the verdict, seconds: the first gathering is over by then
_SETTLE_S = 2.0
_PRESENT = 1 << 63
_FRAME = (1 << 55) - 1  # Documentation/admin-guide/mm/pagemap.rst
_NO_MEMORY = ("[vvar]", "[vvar_vclock]", "[vdso]", "[vsyscall]")


def run(rounds: int) -> list[Figure]:
    """Raises Unmeasurable, Failed."""
    pss: list[float] = []
    together: list[float] = []
    each: dict[str, list[float]] = {"warden": [], "watcher": []}
    resident: dict[str, list[float]] = {"warden": [], "watcher": []}
    with site() as here:
        for _ in range(rounds):
            with here.guarding() as pair:
                time.sleep(_SETTLE_S)
                for name, pid in (("warden", pair.warden), ("watcher", pair.watcher)):
                    found = _rollup(pid)
                    each[name].append(found["Pss"])
                    resident[name].append(found["Rss"])
                pss.append(each["warden"][-1] + each["watcher"][-1])
                if os.geteuid() == 0:
                    together.append(_frames_mb(pair))
    figures = [_figure("resident: PSS of warden and watcher together", pss, budget=True)]
    if together:
        figures.append(_figure("resident: page frames of both, were they alone", together, budget=True))
    for name in each:
        rss = median_interval(resident[name])
        interval = median_interval(each[name])
        figures.append(
            Figure(f"resident: PSS of the {name}", interval.median, "MB", detail=f"{interval}; RSS {rss}")
        )
    return figures


def _figure(name: str, values: list[float], *, budget: bool) -> Figure:
    interval = median_interval(values)
    return Figure(
        name,
        interval.median,
        "MB",
        f"<= {BUDGET_MB:g}" if budget else "",
        not interval.misses_at_most(BUDGET_MB) if budget else None,
        f"{interval}, {len(values)} starts",
    )


def _rollup(pid: int) -> dict[str, float]:
    """Rss, Pss and so on, in MB of 2**20 bytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {name.rstrip(":"): int(kb) / 1024 for name, kb, _ in (line.split() for line in lines)}


def _frames_mb(pair: Pair) -> float:
    frames = _frames(pair.warden) | _frames(pair.watcher)
    return len(frames) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _frames(pid: int) -> set[int]:
    page = os.sysconf("SC_PAGE_SIZE")
    found: set[int] = set()
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/pagemap", "rb") as pagemap:
        for line in maps:
            if line.rstrip().endswith(_NO_MEMORY):
                continue
            first, last = (int(address, 16) for address in line.split(maxsplit=1)[0].split("-"))
            pagemap.seek(first // page * 8)
            data = pagemap.read((last - first) // page * 8)
            found |= {entry & _FRAME for (entry,) in struct.iter_unpack("=Q", data) if entry & _PRESENT}
    return found
