# SPDX-License-Identifier: Apache-2.0
import pytest

from vmwarden.rules.versions import numbers, reaches


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("8.2", (8, 2)),
        ("8.2.0", (8, 2)),
        (" 7.2.19 (Debian 1:7.2+dfsg-7)", (7, 2, 19)),
        ("0", ()),
        ("10", (10,)),
        ("9.0-rc1", None),
        ("9.0rc1", None),
        ("v9.0", None),
        ("9..0", None),
        ("9.", None),
        ("", None),
        ("\u0669.\u0660", None),
        ("1.2.3.4.5.6.7.8.9", None),
        ("1" * 13, None),
        ("9" * 5000, None),
    ],
)
def test_only_a_plain_version_has_numbers(text: str, parts: tuple[int, ...] | None) -> None:
    assert numbers(text) == parts


@pytest.mark.parametrize(
    ("found", "wanted", "answer"),
    [
        ("10.0", "9.9", True),
        ("9.9", "10.0", False),
        ("8.2", "8.2.0", True),
        ("8.2.0", "8.2", True),
        ("8.2", "8.2.1", False),
        ("8", "8.0.0.0", True),
        ("eight", "8", None),
        ("8", "eight", None),
    ],
)
def test_versions_are_compared_number_by_number(found: str, wanted: str, answer: bool | None) -> None:
    assert reaches(found, wanted) is answer
