# SPDX-License-Identifier: Apache-2.0
"""What people and editors see of a policy changes only on purpose.

To change it on purpose: `vmwarden policy show examples/NAME.yaml > tests/golden/policy/NAME.txt`,
`vmwarden policy schema > tests/golden/policy/schema.json`, and look at the difference.
"""

import argparse
from pathlib import Path

import pytest

from vmwarden.cli import policy
from vmwarden.owner import desk

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "policy"
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


def _printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    parser = argparse.ArgumentParser()
    policy.register(parser.add_subparsers())
    args = parser.parse_args(["policy", *arguments])
    assert args.run(args) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_show(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _printed(capsys, "show", str(example)) == (GOLDEN / f"{example.stem}.txt").read_text()


def test_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert _printed(capsys, "schema") == (GOLDEN / "schema.json").read_text()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_have_no_mistake(example: Path) -> None:
    report = desk.check(str(example))
    assert report.errors == ()
    # what an example is warned of, its own first lines or a rung explain
    expected = {"observe-first": ["place.proof"], "eu-residency": ["place.wrong.0.ask"]}
    assert [problem.path for problem in report.warnings] == expected.get(example.stem, [])


def test_the_readme_policy_is_short() -> None:
    lines = (ROOT / "examples" / "readme.yaml").read_text().splitlines()
    assert len(lines) <= 20
