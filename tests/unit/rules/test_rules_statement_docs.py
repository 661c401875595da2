# SPDX-License-Identifier: Apache-2.0
"""The reference pages say what the code says."""

import json
import re
from pathlib import Path

from vmwarden.model.statement import HostStatement
from vmwarden.rules.platform import PLATFORMS
from vmwarden.rules.statement import FINDINGS
from vmwarden.watcher.catalog import SOURCES

ROOT = Path(__file__).parents[3]
PAGES = ROOT / "docs" / "reference"


def test_every_finding_is_on_the_page_with_its_meaning() -> None:
    rows = re.findall(
        r"^\| `(statement\.[a-z-]+)` \| (.+) \|$", (PAGES / "statement.md").read_text(), re.MULTILINE
    )
    assert dict(rows) == FINDINGS


def test_every_field_is_on_the_page() -> None:
    text = (PAGES / "statement.md").read_text()
    assert [field for field in HostStatement.__struct_fields__ if f"`{field}`" not in text] == []


def test_every_source_has_its_page() -> None:
    assert {page.stem for page in (PAGES / "sources").glob("*.md")} == {source.name for source in SOURCES}
    text = (PAGES / "evidence.md").read_text()
    assert [source.name for source in SOURCES if f"sources/{source.name}.md" not in text] == []


def test_every_platform_is_on_the_page() -> None:
    words = re.findall(r"[a-z0-9]+", (PAGES / "sources" / "platform.md").read_text().partition("Words:")[2])
    assert [platform for platform in PLATFORMS if platform not in words] == []


def test_the_challenge_on_the_page_is_the_vector() -> None:
    vectors = json.loads((ROOT / "tests/data/protocol/version-1.json").read_text())
    assert vectors["challenge"] in (PAGES / "protocol.md").read_text()
