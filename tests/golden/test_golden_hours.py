# SPDX-License-Identifier: Apache-2.0
"""What a terminal shows of hours changes only on purpose.

REGOLDEN=1 writes tests/golden/hours/ anew; read the difference before you commit it.
"""

import os
import re
from pathlib import Path

import pytest

from vmwarden.cli import main as command_line
from vmwarden.model.hours import Extra, Interval
from vmwarden.owner import desk

FOLDER = Path(__file__).parent / "hours"
EXAMPLES = Path(__file__).parents[2] / "examples"
PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "hours.md").read_text()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        # Berlin's clock is put back in this week, and the saturday's night lives through an hour twice
        ("week", ["--at", "2026-10-22T09:00:00+02:00", "2026-10-25T01:30:00Z"]),
        # the day on which New York's clock is put forward
        ("forward", ["--at", "2026-03-08T00:00:00Z", "--next", "4"]),
        ("year", ["--year", "2027"]),
    ],
)
def test_the_terminal(name: str, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    file = FOLDER / f"{'berlin' if name == 'week' else 'york'}.yaml"
    assert command_line.main(["hours", "--intervals", str(file), *arguments]) == 0
    head, _, text = capsys.readouterr().out.partition("\n")
    assert head.startswith("tzdata ")
    if os.environ.get("REGOLDEN"):
        (FOLDER / f"{name}.txt").write_text(text)

    assert text == (FOLDER / f"{name}.txt").read_text()


def test_the_page_lists_the_fields() -> None:
    parts = (
        PAGE.split("## Intervals")[1].split("\n## ")[0],
        PAGE.split("## Dates")[1].split("\n## ")[0],
    )
    listed = [tuple(re.findall(r"^\| `([a-z_]+)` \|", part, re.MULTILINE)) for part in parts]
    assert listed == [Interval.__struct_fields__, Extra.__struct_fields__]


def test_the_page_s_examples_have_no_mistake(tmp_path: Path) -> None:
    clause, intervals = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "hours.yaml").write_text(intervals)
    assert command_line.main(["hours", "--intervals", str(tmp_path / "hours.yaml"), "--year", "2027"]) == 0
    office = (EXAMPLES / "office-hours.yaml").read_text()
    (tmp_path / "policy.yaml").write_text(office[: office.index("hours:")] + clause)
    (tmp_path / "works.ics").write_bytes((EXAMPLES / "tables" / "works-holidays.ics").read_bytes())
    report = desk.check(str(tmp_path / "policy.yaml"))
    assert (report.errors, report.warnings) == ((), ())
