# SPDX-License-Identifier: Apache-2.0
"""rules.record: what may be written at all."""

import ast
from pathlib import Path
from typing import Any

import pytest

import vmwarden
from vmwarden.errors import BugError
from vmwarden.model.journal import KINDS, RECORD_BYTES, Record
from vmwarden.model.moment import Moment
from vmwarden.model.verdict import Answer, Finding
from vmwarden.rules import canonical, record

NOW = Moment(boot_ms=5, utc_ms=1_790_000_000_000, boot_id="b")


def test_what_is_returned_is_what_is_read() -> None:
    finding = Finding(id="place.country.mismatch", answer=Answer.DENY)
    made, data = record.make("event", {"b": 1, "a": [finding, None, True, "é"]}, NOW, seq=3)
    assert made.body == {"b": 1, "a": [{"answer": "deny", "id": "place.country.mismatch"}, None, True, "é"]}
    assert (made.seq, made.utc_ms, made.boot_ms, made.boot_id) == (3, 1_790_000_000_000, 5, "b")
    assert canonical.decode(data, Record, limit=1000, what="it") == made
    assert data.startswith(b'{"body":{"a":[{"answer":')


@pytest.mark.parametrize(
    "body",
    [
        {"x": 1.5},
        {"x": [{"y": 2.0}]},
        {"x": float("nan")},
        {"x": 2**70},
        {"x": object()},
        {1: "x"},
        {"x": "\ud800"},
        {"x": "y" * RECORD_BYTES},
    ],
)
def test_what_has_no_canonical_form_is_our_bug(body: dict[Any, Any]) -> None:
    with pytest.raises(BugError):
        record.make("event", body, NOW, seq=0)


def test_a_body_that_holds_itself_is_our_bug() -> None:
    body: dict[str, Any] = {}
    body["self"] = body
    with pytest.raises(BugError):
        record.make("event", body, NOW, seq=0)


def test_the_bound_is_exact() -> None:
    _, data = record.make("event", {"x": ""}, NOW, seq=0)
    room = RECORD_BYTES - len(data)
    assert len(record.make("event", {"x": "y" * room}, NOW, seq=0)[1]) == RECORD_BYTES
    with pytest.raises(BugError):
        record.make("event", {"x": "y" * (room + 1)}, NOW, seq=0)


def test_only_known_kinds() -> None:
    with pytest.raises(BugError):
        record.make("event.unheard-of", {}, NOW, seq=0)


def test_every_kind_that_the_code_names_is_known_and_documented() -> None:
    """First arguments of the calls that write records: a kind that is missing would stop the warden."""
    named: set[str] = set()
    source = Path(vmwarden.__file__).parent
    for path in source.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(call, ast.Call) and call.args and isinstance(call.args[0], ast.Constant)):
                continue
            function = call.func
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            rooms = {"Change": ("store", "rules", "warden"), "tell": ("rules",), "_record": ("warden",)}
            if path.relative_to(source).parts[0] in rooms.get(name, ()):
                named.add(str(call.args[0].value))
    assert len(named) > 10
    assert named <= KINDS
    page = Path(__file__).parents[3] / "docs" / "reference" / "journal.md"
    documented = {line.split("`")[1] for line in page.read_text().splitlines() if line.startswith("| `")}
    assert documented >= KINDS
