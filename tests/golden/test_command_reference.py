# SPDX-License-Identifier: Apache-2.0
"""README, docs/reference/commands.md, --help and behaviour say the same.

REGOLDEN=1 writes docs/reference/commands.md anew; read the difference before you commit it.
"""

import argparse
import os
import re
import shlex
from pathlib import Path

import pytest

from vmwarden.cli import main as command_line

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs/reference/commands.md"
HEAD = """# Commands

Made from `--help` (tests/golden/test_command_reference.py compares them).
What only the owner's desk or the host needs (`policy`, `companion`) is not installed in a VM.
"""


def parsers(top: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    found = [top]
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, parser in action.choices.items():
                assert parser.prog.endswith(name)
                found += parsers(parser)
    return found


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


def test_the_command_reference_is_what_help_says(wide: None) -> None:
    parts = [HEAD]
    for parser in parsers(command_line.parser()):
        parts.append(f"## {parser.prog}\n\n```\n{parser.format_help().rstrip()}\n```\n")
    text = "\n".join(parts)
    if os.environ.get("REGOLDEN"):
        REFERENCE.write_text(text)

    assert text == REFERENCE.read_text(), "REGOLDEN=1 pytest tests/golden/test_command_reference.py"


def test_every_option_has_help(wide: None) -> None:
    silent = [
        f"{parser.prog} {action.option_strings or action.dest}"
        for parser in parsers(command_line.parser())
        for action in parser._actions
        if not action.help and not isinstance(action, argparse._SubParsersAction)
    ]

    assert silent == []


def test_the_readme_shows_the_example_policy() -> None:
    example = (ROOT / "examples/readme.yaml").read_text().rstrip()

    assert f"```yaml\n{example}\n```" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", ["README.md", "docs/reference/apply.md", "docs/reference/enrolment.md"])
def test_commands_in_the_documents_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    lines = re.findall(r"^[#$] (vmwarden .*)$", text, re.MULTILINE)
    top = command_line.parser()
    for line in lines:
        words = shlex.split(line.split("  #")[0])[1:]
        parser = top
        for word in words:
            children = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
            if children and not word.startswith("-"):
                assert word in children[0].choices, f"{page}: {line}"
                parser = children[0].choices[word]
            elif word.startswith("--"):
                known = {option for action in parser._actions for option in action.option_strings}
                assert word.split("=")[0] in known, f"{page}: {line}: {word}"


def test_make_verbs_in_the_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in ("README.md", "CONTRIBUTING.md"):
        for verb in re.findall(r"`make ([a-z]+)`", (ROOT / page).read_text()):
            assert verb in targets, f"{page}: make {verb}"


def test_links_between_documents_lead_somewhere() -> None:
    dead = []
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            if not (page.parent / target).exists():
                dead.append(f"{page.relative_to(ROOT)}: {target}")

    assert dead == []
