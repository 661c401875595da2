# SPDX-License-Identifier: Apache-2.0
"""docs/reference/findings.md against the source: ids are stable because people hang things on them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

import vmwarden
from vmwarden.model.evidence import Subject
from vmwarden.rules import reasons
from vmwarden.rules.fences import host, hours

SOURCE = Path(vmwarden.__file__).parent
PAGE = Path(__file__).parents[3] / "docs" / "reference" / "findings.md"
ROOMS = ("rules", "sources", "channels", "store", "cycle", "warden", "watcher")
#: first words that only findings have; the journal's kinds begin with others
FAMILIES = re.compile(
    r"(evidence|statement|channel|ladder|breaker|fence|place|host|time|time\.server)\.[a-z-]+"
)
FORM = re.compile(r"(<subject>|[a-z]+(-[a-z]+)*)(\.[a-z]+(-[a-z]+)*)+")
MAKERS = {"_fail", "_finding", "_note", "_Refused", "Trouble"}


def joined(node: ast.AST) -> TypeGuard[ast.JoinedStr]:
    return (
        isinstance(node, ast.JoinedStr)
        and len(node.values) == 2
        and isinstance(node.values[0], ast.FormattedValue)
    )


def literals(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def named(tree: ast.AST) -> Iterator[str]:
    """Ids that are handed to whatever makes a finding, or a piece of evidence with one."""
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call):
            continue
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        given = [keyword.value for keyword in call.keywords if keyword.arg == "finding"]
        if name == "Finding":
            given += [keyword.value for keyword in call.keywords if keyword.arg == "id"]
        if name in MAKERS:
            given += call.args[:1]
        for value in given:
            if isinstance(value, ast.Constant) and value.value:
                yield str(value.value)
            if isinstance(value, ast.BinOp):  # subject + ".kind"
                yield from (f"<subject>{text}" for text in literals(value.right) if text != ".")


def in_source() -> set[str]:
    found: set[str] = set()
    for room in ROOMS:
        for path in (SOURCE / room).rglob("*.py"):
            tree = ast.parse(path.read_text())
            found |= {text for text in literals(tree) if FAMILIES.fullmatch(text)}
            found |= set(named(tree))
    for module in (reasons, host):  # KIND = "kind": the second half of an id
        kinds = {
            text
            for name, text in vars(module).items()
            if isinstance(text, str) and name[0] != "_" and name.isupper()
        }
        found |= {f"<subject>.{kind}" for kind in kinds - {host.FENCE}}
    # whole ids: "hours.services" and the like are fields of a policy
    found |= {text for name, text in vars(hours).items() if name.isupper() and str(text).startswith("hours.")}
    return found - {subject.value for subject in Subject}


def listed() -> list[str]:
    return re.findall(r"^\| `([^`]+)` \|", PAGE.read_text(), flags=re.MULTILINE)


def test_every_id_in_the_source_is_listed() -> None:
    assert in_source() - set(listed()) == set()
    assert len(in_source()) > 50


def test_every_listed_id_is_in_the_source_and_listed_once() -> None:
    words, ends = set(in_source()), set()
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        words |= set(literals(tree))
        # f"{name}.missing": an id that is put together
        ends |= {text for node in ast.walk(tree) if joined(node) for text in literals(node.values[-1])}

    def known(name: str) -> bool:
        first, end = name.split(".", 1)
        return name in words or (first in words and f".{end}" in ends)

    assert [name for name in listed() if not known(name)] == []
    assert len(listed()) == len(set(listed()))


def test_ids_have_one_form() -> None:
    assert [name for name in listed() if not FORM.fullmatch(name)] == []
