# SPDX-License-Identifier: Apache-2.0
"""What a record costs, what an opening costs, what verification costs."""

import tempfile
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.figure import Figure, median_interval
from vmwarden.model.moment import Moment
from vmwarden.store import journal_reader
from vmwarden.store.journal import SEGMENT_BYTES, SqliteJournal, open_journal

_NOW = Moment(boot_ms=1, utc_ms=1_795_000_000_000, boot_id="benchmark")
_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
_BODY = {
    "posture": "held",
    "answer": "deny",
    "mode": "enforce",
    "findings": [
        {
            "id": "place.country.mismatch",
            "answer": "deny",
            "expected": "DE",
            "found": "FR",
            "source": "rack-7",
        }
    ],
}
#: appends a round
_APPENDS = 200


def run(rounds: int) -> list[Figure]:
    """Each round appends to one journal on the disk of the temporary folder (TMPDIR)."""
    with tempfile.TemporaryDirectory(prefix="vmwarden-bench-") as folder:
        journal = _opened(Path(folder) / "journal.db")
        latencies = [_timed(journal) for _ in range(rounds * _APPENDS)]
        journal.close()
    with tempfile.TemporaryDirectory(prefix="vmwarden-bench-", dir=_memory()) as folder:
        full = Path(folder) / "journal.db"
        records = _fill(full)
        openings = [_open_ms(full) for _ in range(max(3, rounds))]
        began = time.perf_counter()
        journal_reader.verify(full)
        verify_s = time.perf_counter() - began
        sealing_ms = _sealing_ms(full)
    latencies.sort()
    middle = median_interval(latencies[:: max(1, len(latencies) // 2000)])
    opening = median_interval(openings)
    size = f"{records} records, in memory"
    return [
        Figure("journal: append, p50", middle.median, "ms", detail=f"{middle}, n={len(latencies)}"),
        Figure(
            "journal: append, p99", latencies[int(len(latencies) * 0.99)], "ms", detail=f"n={len(latencies)}"
        ),
        Figure(
            "journal: open at its largest",
            opening.median,
            "ms",
            budget="<= 500 (start to first verdict)",
            within=not opening.misses_at_most(500),
            detail=f"{opening}, {size}",
        ),
        Figure("journal: verify at its largest", verify_s * 1e3, "ms", detail=size),
        Figure("journal: sealing a segment", sealing_ms, "ms", detail=f"with one record; {size}"),
    ]


def _opened(path: Path) -> SqliteJournal:
    return open_journal(path, signer=_KEY, vm="bench", now=_NOW)[0]


def _timed(journal: SqliteJournal) -> float:
    began = time.perf_counter()
    journal.append("decision.changed", _BODY, _NOW)
    return (time.perf_counter() - began) * 1e3


def _memory() -> str | None:
    """Filling a journal is not what is measured: not on a disk, where there is another place."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _fill(path: Path) -> int:
    journal = _opened(path)
    while path.stat().st_size < SEGMENT_BYTES - 64 * 1024:
        journal.append("decision.changed", _BODY, _NOW)
    size = journal.head()[0]
    journal.close()
    return size


def _open_ms(path: Path) -> float:
    began = time.perf_counter()
    journal = _opened(path)
    spent = (time.perf_counter() - began) * 1e3
    journal.close()
    return spent


def _sealing_ms(path: Path) -> float:
    """The slowest append until the first segment is sealed."""
    journal = _opened(path)
    slowest = 0.0
    while not journal_reader.segments(path, before=journal.head()[0]):
        slowest = max(slowest, _timed(journal))
    journal.close()
    return slowest


if __name__ == "__main__":
    for figure in run(5):
        print(f"{figure.name:32} {figure.value:10.3f} {figure.unit}  {figure.budget}  {figure.detail}")
