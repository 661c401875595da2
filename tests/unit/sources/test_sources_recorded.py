# SPDX-License-Identifier: Apache-2.0
"""Each source on a recorded sample of what it reads, and on what a careless or hostile host may show."""

import json
from pathlib import Path
from typing import Any

import pytest

from vmwarden.linux.tree import FileTree
from vmwarden.model.evidence import Evidence, Subject
from vmwarden.ports.source import Source
from vmwarden.rules import smbios, statement_carrier
from vmwarden.sources.dmi import Dmi
from vmwarden.sources.fw_cfg import FwCfg
from vmwarden.sources.platform import Platform
from vmwarden.sources.rtc import Rtc
from vmwarden.sources.smbios import Smbios
from vmwarden.sources.time_zone import TimeZone
from vmwarden.sources.virtualization import Virtualization
from vmwarden.testing.clock import FakeClock
from vmwarden.testing.tree import FakeTree
from vmwarden.watcher.catalog import SOURCES

DATA = Path(__file__).parents[2] / "data" / "sources"
NOW = FakeClock().now()
DMI = "/sys/class/dmi/id"
TABLE = "/sys/firmware/dmi/tables/DMI"
ITEM = "/sys/firmware/qemu_fw_cfg/by_name/opt/org.vmwarden/statement/raw"


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_a_recorded_sample(source: Source) -> None:
    expected: dict[str, Any] = json.loads((DATA / source.name / "expected.json").read_text())
    with FileTree(DATA / source.name / "root", live=expected["live"]) as tree:
        evidence = source.read(tree, NOW)
        tokens = source.statements(tree)
    got = [
        {"subject": e.subject, "value": e.value, "unavailable": e.unavailable, "boot_frozen": e.boot_frozen}
        for e in evidence
    ]
    assert got == expected["evidence"]
    assert len(tokens) == expected["statements"]
    assert {(e.source, e.observed_at_ms, e.observed_boot_ms) for e in evidence} == {
        (source.name, NOW.utc_ms, NOW.boot_ms)
    }


def only(source: Source, tree: FakeTree) -> Evidence:
    (piece,) = source.read(tree, NOW)
    return piece


def dmi(**files: bytes) -> dict[Subject, Evidence]:
    tree = FakeTree({f"{DMI}/{name}": data for name, data in files.items()})
    return {piece.subject: piece for piece in Dmi().read(tree, NOW)}


def test_dmi_one_half_of_a_claim_is_enough_and_silence_has_a_reason() -> None:
    found = dmi(product_name=b"Alibaba Cloud ECS\n", bios_vendor=b"\n")
    assert found[Subject.PRODUCT].value == "Alibaba Cloud ECS"
    assert "bios_version: No such file" in found[Subject.FIRMWARE].unavailable
    assert "product_serial" in found[Subject.SERIAL].unavailable
    assert dmi(product_serial=b" \n")[Subject.SERIAL].unavailable.endswith("empty")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff\xfe", "UTF-8"),
        (b"a\x1b[2Jb", "control"),
        (b"a\nb", "control"),
        (b"x" * 201, "201 characters"),
        (b"x" * 1_000_000, "more than"),
        ("a\u202eb".encode(), "control"),
    ],
)
def test_dmi_hostile_content_is_told_and_not_shown(content: bytes, reason: str) -> None:
    piece = dmi(product_serial=content)[Subject.SERIAL]
    assert piece.value is None
    assert reason in piece.unavailable
    assert piece.unavailable.isprintable()


def test_smbios_tells_a_missing_part_and_a_torn_table() -> None:
    parts = [s.encode() for s in statement_carrier.to_strings("x" * 500)]
    whole = FakeTree({TABLE: smbios.table(parts)})
    assert Smbios().statements(whole) == ("x" * 500,)
    torn = FakeTree({TABLE: smbios.table(parts)[:-8]})
    missing = FakeTree({TABLE: smbios.table(parts[:-1])})
    for tree in (torn, missing):
        assert only(Smbios(), tree).finding == "statement.garbled"
        assert Smbios().statements(tree) == ()
    assert only(Smbios(), FakeTree({TABLE: smbios.table([b"other"])})).finding == "statement.none"


def test_smbios_reads_single_entries_where_there_is_no_table() -> None:
    one = smbios.table([b"vmwarden.statement=abc"])[:-6]  # dmi-sysfs shows one structure, without the end
    tree = FakeTree({"/sys/firmware/dmi/entries/11-0/raw": one, "/sys/firmware/dmi/entries/1-0/raw": b"?"})
    assert Smbios().statements(tree) == ("abc",)
    denied = FakeTree({TABLE: b""}, denied=(TABLE,))
    assert "denied" in only(Smbios(), denied).unavailable


def test_fw_cfg_ignores_padding_and_refuses_what_is_no_text() -> None:
    assert FwCfg().statements(FakeTree({ITEM: b"abc\n\n\0\0"})) == ("abc",)
    for content, finding in (
        (b"", "statement.garbled"),
        (b"a b", "statement.garbled"),
        (b"\xff" * 100, "statement.garbled"),
        (b"x" * 8193, "statement.too-large"),
        (b"x" * 100_000, "statement.none"),
    ):
        tree = FakeTree({ITEM: content})
        assert only(FwCfg(), tree).finding == finding
        assert FwCfg().statements(tree) == ()


def test_rtc_refuses_what_is_no_number_and_needs_the_live_machine() -> None:
    path = "/sys/class/rtc/rtc0/since_epoch"
    assert only(Rtc(), FakeTree({path: b"1795435199\n"})).value == -1
    assert "not a number" in only(Rtc(), FakeTree({path: b"-5"})).unavailable
    assert "not a number" in only(Rtc(), FakeTree({path: b"9" * 40})).unavailable
    assert "live" in only(Rtc(), FakeTree({path: b"1795435199\n"}, live=False)).unavailable


@pytest.mark.parametrize(
    ("link", "file", "zone"),
    [
        ("/usr/share/zoneinfo/Europe/Berlin", None, "Europe/Berlin"),
        ("../usr/share/zoneinfo/America/Argentina/Ushuaia", b"UTC\n", "America/Argentina/Ushuaia"),
        ("/usr/share/zoneinfo/right/Asia/Kolkata", None, "Asia/Kolkata"),
        ("/usr/share/zoneinfo/Etc/GMT+5", None, "Etc/GMT+5"),
        ("/somewhere/else", b"Asia/Kolkata\n", "Asia/Kolkata"),
        (None, b"Asia/Kolkata\n", "Asia/Kolkata"),
        (None, b"../../etc/passwd\n", None),
        ("/usr/share/zoneinfo/../../etc/passwd", None, None),
        (None, None, None),
    ],
)
def test_time_zone(link: str | None, file: bytes | None, zone: str | None) -> None:
    tree = FakeTree(
        {} if file is None else {"/etc/timezone": file},
        links={} if link is None else {"/etc/localtime": link},
    )
    piece = only(TimeZone(), tree)
    assert piece.value == zone
    assert piece.subject is Subject.GUEST_TIME_ZONE


def test_an_unknown_platform_and_a_silent_machine_are_told() -> None:
    assert only(Platform(), FakeTree()).unavailable
    assert only(Virtualization(), FakeTree()).unavailable


def test_platform_counts_ports_and_files() -> None:
    lxd = FakeTree(
        {f"{DMI}/sys_vendor": b"QEMU\n", "/sys/class/virtio-ports/vport1p1/name": b"com.canonical.lxd\n"}
    )
    assert only(Platform(), lxd).value == "lxd"
    assert only(Platform(), FakeTree({"/etc/vultr": b""})).value == "vultr"
