# SPDX-License-Identifier: Apache-2.0
"""docs/reference/policy.md names every field of the schema, whether it is required, and no other."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vmwarden.owner.schema import policy_schema
from vmwarden.rules.sound import FACTS

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "policy.md").read_text()

#: nouns whose fields are listed in docs/reference/hours.md (test_golden_hours compares)
CALENDAR = ("Interval", "Extra")


def _fields(part: dict[str, Any], definitions: dict[str, Any], path: str = "") -> Iterator[tuple[str, bool]]:
    if "$ref" in part:
        name = part["$ref"].rsplit("/", 1)[1]
        if name in CALENDAR:
            return
        part = definitions[name]
    for branch in part.get("anyOf", ()):
        yield from _fields(branch, definitions, path)
    if "items" in part:
        yield from _fields(part["items"], definitions, path + "[]")
    for name, field in part.get("properties", {}).items():
        below = f"{path}.{name}".lstrip(".")
        yield below, name in part.get("required", ())
        yield from _fields(field, definitions, below)


def test_the_page_lists_the_fields_of_the_schema() -> None:
    schema = policy_schema()
    documented = re.findall(r"^\| `([a-z_.\[\]]+)`( \*)? \|", PAGE, re.MULTILINE)
    fields = [(path, bool(star)) for path, star in documented if not path.startswith("policy.")]
    assert fields == list(_fields(schema, schema["$defs"]))


def test_the_page_lists_the_facts() -> None:
    paragraph = PAGE.split("Facts for `host.all_of[].fact`:")[1].split("\n\n")[0]
    assert tuple(re.findall(r"`([a-z_.]+)`", paragraph)) == FACTS
