# SPDX-License-Identifier: Apache-2.0
"""Lint of trust.time: each mistake at its place, with its mend."""

import base64

import pytest

from vmwarden.linux.tzdata import Tzdata
from vmwarden.owner import lint
from vmwarden.owner.zones import TimeZones

PINS = ["sha256:" + base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2, 3)]
HEAD = """format: vmwarden.policy/1
name: shop
version: 7
vms: ["shop-*"]
valid: {from: "2026-11-01T00:00Z", until: "2027-11-01T00:00Z"}
mode: observe
"""
SERVERS = "".join(
    f'      - {{name: t{n}.example, address: 192.0.2.{n}, keys: ["{PINS[n - 1]}"]}}\n' for n in (1, 2, 3)
)
TRUST = "trust:\n  time:\n    servers:\n" + SERVERS
REACH = "reach:\n" + "".join(
    f"  - {{{port}, to: 192.0.2.{n}/32, as: vmwarden}}\n"
    for n in (1, 2, 3)
    for port in ("tcp: 4460", "udp: 123")
)


def _lint(text: str) -> lint.Report:
    none = TimeZones(frozenset(), {})
    return lint.lint(
        text.encode(), "p.yaml", read_beside=lambda name: b"", zones=none, find_zone=Tzdata().zone
    )


def test_servers_that_can_be_reached_give_trusted_time() -> None:
    report = _lint(HEAD + REACH + "hours: {open: [{weekdays: [monday]}], time: trusted}\n" + TRUST)
    assert report.errors == ()
    assert report.warnings == ()


def test_a_server_that_cannot_be_asked_while_closed_is_warned_of() -> None:
    report = _lint(HEAD + REACH.replace("192.0.2.2/32", "192.0.2.9/32") + TRUST)
    assert report.errors == ()
    assert [(problem.path, problem.mend) for problem in report.warnings] == [
        ("trust.time.servers.1", "add to reach: {tcp: 4460, to: 192.0.2.2/32, as: vmwarden}"),
        ("trust.time.servers.1", "add to reach: {udp: 123, to: 192.0.2.2/32, as: vmwarden}"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "path", "message", "mend"),
    [
        (
            SERVERS,
            SERVERS.split("\n")[0] + "\n",
            "trust.time.servers",
            "the list has one entry",
            "at least 3",
        ),
        (
            "address: 192.0.2.1",
            "address: ntp.example",
            "trust.time.servers.0.address",
            "not an address",
            "DNS",
        ),
        ("t1.example", "T1.example", "trust.time.servers.0.name", "not a host's name", "lower case"),
        ("t1.example", "t2.example", "trust.time.servers.1.name", "is there twice", "one vote"),
        ("192.0.2.1", "192.0.2.2", "trust.time.servers.1", "at the same address", "one vote"),
        (f', keys: ["{PINS[0]}"]', "", "trust.time.servers.0", "has no keys", "authorities"),
        (PINS[0], "sha1:AAAA", "trust.time.servers.0.keys.0", "not a pin", "SPKI"),
        ("    servers:", "    round_trip: 5s\n    servers:", "trust.time.round_trip", "5s is not within", ""),
    ],
)
def test_mistakes(old: str, new: str, path: str, message: str, mend: str) -> None:
    assert old in TRUST
    report = _lint(HEAD + REACH + TRUST.replace(old, new, 1))
    assert [problem.path for problem in report.errors] == [path]
    assert message in report.errors[0].message
    assert mend in report.errors[0].mend
