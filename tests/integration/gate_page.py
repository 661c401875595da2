# SPDX-License-Identifier: Apache-2.0
"""The records of what was tried, one a kernel, and docs/reference/gate-coverage.md, which is made of them.

A record is JSON, one object a line: the kernel, then each way with the states in which it got there.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.integration.gate_trial import (
    DEAD,
    FIRST,
    HELD,
    NO_GATE,
    OPEN,
    QUARANTINED,
    STATES,
    Outcome,
)

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "gate-coverage.md"
#: by the kernel's short name, in the order of the page
RECORDS = {
    name: ROOT / "tests" / "data" / "gate_coverage" / f"{name.replace(' ', '-')}.jsonl"
    for name in ("machine", "cloud", "generic")
}
#: names the variable that asks for records and page to be written
ASKED = "VMWARDEN_COVERAGE"
COMMAND = f"{ASKED}=write pytest tests/integration/test_gate_coverage.py tests/vm/test_vm_coverage.py"


@dataclass(frozen=True, slots=True)
class Row:
    """One way on one kernel.  passes: in which states it got there; None: not tried, why says why."""

    where: str
    way: str
    passes: tuple[str, ...] | None
    why: str


@dataclass(frozen=True, slots=True)
class Record:
    """release: of the kernel, as uname says it."""

    release: str
    rows: tuple[Row, ...]


def rows(outcomes: Iterable[Outcome]) -> tuple[Row, ...]:
    """What was tried, as it is kept."""
    found: list[Row] = []
    for outcome in outcomes:
        if outcome.missing:
            found.append(Row(outcome.scene, "", None, f"not tried: {outcome.missing}"))
        found += [Row(outcome.scene, tried.way, tried.passes, tried.why) for tried in outcome.tried]
    return tuple(found)


def read(path: Path) -> Record:
    first, *rest = map(json.loads, path.read_text().splitlines())
    return Record(
        first["release"],
        tuple(
            Row(
                line["where"],
                line["way"],
                None if line["passes"] is None else tuple(line["passes"]),
                line["why"],
            )
            for line in rest
        ),
    )


def written(record: Record) -> str:
    """What read reads."""
    lines: list[object] = [{"release": record.release}]
    lines += [
        {"where": row.where, "way": row.way, "passes": row.passes, "why": row.why} for row in record.rows
    ]
    return "".join(f"{json.dumps(line)}\n" for line in lines)


def keep(name: str, record: Record) -> None:
    """Put a record in the place of the one before, and make the page anew."""
    RECORDS[name].parent.mkdir(parents=True, exist_ok=True)
    RECORDS[name].write_text(written(record))
    PAGE.write_text(page({name: read(path) for name, path in RECORDS.items() if path.exists()}))


def page(records: Mapping[str, Record]) -> str:
    """records: by short name, in the order of RECORDS."""
    kernels = {_label(name, record): record for name, record in records.items()}
    named = "\n".join(
        f"- {label}: Linux {record.release}, {'QEMU' if 'Debian' in label else 'the machine of the tests'}."
        for label, record in kernels.items()
    )
    return (
        _HEAD.format(command=COMMAND, kernels=named, summary="\n".join(_summary(kernels)))
        + "\n".join(_table(kernels))
        + "\n"
    )


def _label(name: str, record: Record) -> str:
    version = ".".join(record.release.split(".")[:2])
    return version if name == "machine" else f"Debian's {version} {name}"


def _summary(kernels: Mapping[str, Record]) -> list[str]:
    lines = [_line("kernel", *STATES, "not tried"), _line(*("---" for _ in range(len(STATES) + 2)))]
    for label, record in kernels.items():
        tried = [row for row in record.rows if row.passes is not None]
        counts = [[_word(row, state) for row in tried] for state in STATES]
        lines.append(
            _line(
                label,
                *(
                    ", ".join(
                        f"{words.count(word)} {said}"
                        for word, said in (
                            (_PASSES, "pass"),
                            (_BLOCKED, _BLOCKED),
                            (_OUT_OF_REACH, _OUT_OF_REACH),
                        )
                        if word in words
                    )
                    for words in counts
                ),
                ", ".join(row.where for row in record.rows if row.passes is None),
            )
        )
    return lines


def _table(kernels: Mapping[str, Record]) -> list[str]:
    lines = [_line("where", "way", *STATES, "why"), _line(*("---" for _ in range(len(STATES) + 3)))]
    found = {label: {(row.where, row.way): row for row in record.rows} for label, record in kernels.items()}
    for where, way in _ways(kernels.values()):
        # a scene that a kernel has not is one row of its record, for all its ways
        untried = Row(where, way, None, "not tried yet")
        each = {
            label: rows.get((where, way)) or rows.get((where, "")) or untried for label, rows in found.items()
        }
        lines.append(_line(where, way, *(_cell(each, state) for state in STATES), _why(each)))
    return lines


def _ways(records: Iterable[Record]) -> list[tuple[str, str]]:
    """Of all kernels together, in the order of the scenes."""
    by_scene: dict[str, dict[str, None]] = {}
    for record in records:
        for row in record.rows:
            by_scene.setdefault(row.where, {}).update({row.way: None} if row.way else {})
    return [(where, way) for where, ways in by_scene.items() for way in ways or {"": None}]


def _cell(each: Mapping[str, Row], state: str) -> str:
    """One word if all kernels that tried it agree; else each word with the kernels that say it."""
    said: dict[str, list[str]] = {}
    for label, row in each.items():
        if row.passes is not None:
            said.setdefault(_word(row, state), []).append(label)
    if len(said) <= 1:
        return next(iter(said), "not tried")
    return ", ".join(f"{word} ({', '.join(by)})" for word, by in said.items())


_BLOCKED, _PASSES, _OUT_OF_REACH = "blocked", "passes", "out of reach"


def _word(row: Row, state: str) -> str:
    if state not in (row.passes or ()):
        return _BLOCKED
    closed = state not in (NO_GATE, OPEN)
    return _OUT_OF_REACH if closed and row.why.startswith(_OUT_OF_REACH) else _PASSES


def _why(each: Mapping[str, Row]) -> str:
    missing: dict[str, list[str]] = {}
    reasons: list[str] = []
    for label, row in each.items():
        if row.passes is None:
            missing.setdefault(row.why, []).append(label)
        else:
            reasons.append(row.why or _reason(row))
    reasons += [f"{why} ({', '.join(by)})" for why, by in missing.items()]
    return "; ".join(dict.fromkeys(filter(None, reasons)))


def _reason(row: Row) -> str:
    if row.passes is None or OPEN not in row.passes:
        return "never passes the second layer"
    if DEAD in row.passes:
        return "judged by the second layer only: closes with its lease"
    return ""


def _line(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


_HEAD = f"""<!-- SPDX-License-Identifier: Apache-2.0 -->
# What the gate covers

Every way into, out of and through the VM, in every state of the gate, as tried in network namespaces (a veth
stands for the NIC) by

    {{command}}

on

{{kernels}}

No cell is written by hand: the records of what was tried are in tests/data/gate_coverage/, and the same tests
compare them with what they find. A cell with one word holds for every kernel that has such a device.

- {NO_GATE}: that the way works at all.
- {FIRST}: `inet vmwarden`, closed, without the second layer.
- {OPEN}, {HELD}, {QUARANTINED}: both layers. From {QUARANTINED} on a device that a way leads around by is
  switched off, and flows are ended, which tests/integration/test_ending_flows.py tries.
- dead: the warden was killed while open, with the longest lease. At once: the owned table is gone. After T:
  the second layer's lease has lapsed, too.
- {_OUT_OF_REACH}: it gets there although it should not, and the last column says why.

{{summary}}

"""
