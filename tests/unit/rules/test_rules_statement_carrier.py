# SPDX-License-Identifier: Apache-2.0
import pytest

from vmwarden.errors import Malformed, TooLarge
from vmwarden.rules import smbios
from vmwarden.rules.statement_carrier import (
    ITEM_BYTES,
    PART_CHARACTERS,
    PARTS,
    from_item,
    from_strings,
    to_item,
    to_strings,
)


@pytest.mark.parametrize("size", [1, PART_CHARACTERS, PART_CHARACTERS + 1, 1500, 8192])
def test_what_is_split_over_strings_comes_back(size: int) -> None:
    token = ("abc-_.XYZ" * 1000)[:size]
    strings = to_strings(token)
    assert all(len(text) <= 255 for text in strings)
    assert len(strings) <= PARTS
    assert from_strings([b"other", *(text.encode() for text in reversed(strings))]) == (token,)


def test_the_longest_statement_takes_all_parts() -> None:
    assert len(to_strings("x" * 8192)) == PARTS


def test_several_whole_ones() -> None:
    assert from_strings([b"vmwarden.statement=a", b"vmwarden.statement=b"]) == ("a", "b")
    assert from_strings([b"a", b"vmwarden.policy=x"]) == ()
    with pytest.raises(TooLarge):
        from_strings([b"vmwarden.statement=a"] * 5)
    with pytest.raises(TooLarge):
        from_strings([b"vmwarden.statement=" + b"a" * 8193])


@pytest.mark.parametrize(
    "strings",
    [
        [b"vmwarden.statement.1of2=a"],
        [b"vmwarden.statement.1of2=a", b"vmwarden.statement.1of2=a"],
        [b"vmwarden.statement.1of2=a", b"vmwarden.statement.2of3=a"],
        [b"vmwarden.statement.3of2=a"],
        [b"vmwarden.statement.1of99=a"],
        [b"vmwarden.statement.0of1=a"],
        [b"vmwarden.statement.\xff=a"],
        [b"vmwarden.statement=a b"],
        [b"vmwarden.statements=a"],
    ],
)
def test_what_does_not_fit_together_is_refused(strings: list[bytes]) -> None:
    with pytest.raises(Malformed):
        from_strings(strings)


def test_the_item_has_one_size_whatever_the_statement() -> None:
    for token in ("a", "b" * 8192):
        assert len(to_item(token)) == ITEM_BYTES
        assert from_item(to_item(token)) == token


def test_structures_with_and_without_strings() -> None:
    table = (
        bytes((1, 4, 0, 0))
        + b"\0\0"
        + bytes((11, 5, 1, 0, 2))
        + b"a\0b\0\0"
        + bytes((127, 4, 2, 0))
        + b"\0\0"
    )
    assert [(s.kind, s.strings) for s in smbios.structures(table + b"rubbish")] == [
        (1, ()),
        (11, (b"a", b"b")),
        (127, ()),
    ]
    assert smbios.oem_strings(table) == (b"a", b"b")
    assert smbios.oem_strings(smbios.table([b"x", b"y"])) == (b"x", b"y")


@pytest.mark.parametrize("table", [b"\x0b", b"\x0b\x03\0\0\0\0", b"\x0b\x05\0\0", b"\x0b\x04\0\0a\0"])
def test_a_torn_table_is_refused(table: bytes) -> None:
    with pytest.raises(Malformed):
        smbios.oem_strings(table)
