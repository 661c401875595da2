# SPDX-License-Identifier: Apache-2.0
"""What fuzzing found in readers of the kernel's words and of the environment: each ended the warden."""

import errno
import os
import socket
import struct
from pathlib import Path

import pytest

from tests.fuzz.kernel import AnsweredConnection, AnsweredLinks, AnsweringKernel, acknowledgement, message
from vmwarden.errors import ControlFailed, Malformed
from vmwarden.linux import nft, notify, own_addresses, successor
from vmwarden.linux.netlink import NetlinkRefused, Reply, attribute, name, name_bytes, verdict
from vmwarden.linux.sockets_in_use import af_xdp
from vmwarden.model.handover import GateHandover, Handover
from vmwarden.model.posture import Posture
from vmwarden.rules import canonical

#: NFT_MSG_NEWCHAIN, NFT_MSG_NEWRULE of table inet vmwarden
_CHAIN, _RULE = 0xA03, 0xA06
_TABLE = struct.pack("=BBH", 1, 0, 0) + attribute(1, b"vmwarden\0")


@pytest.mark.parametrize(
    "given", [b"eth0", "eth\u00e4".encode(), b"\xff\xfe", b"a\\b", b"\\xff", b"a\xc3", b""]
)
def test_a_name_that_is_no_text_is_told_as_text_and_found_again(given: bytes) -> None:
    told = name(given + b"\0")

    canonical.encode(told)
    assert name_bytes(told) == given


def test_a_plain_name_is_told_as_it_is() -> None:
    assert name(b"enp0s1\0") == "enp0s1"


def test_somebody_elses_chain_may_have_any_name() -> None:
    chain = message(_CHAIN, _TABLE + attribute(3, b"\xff\xfe\0") + attribute(4, b""))
    counter = attribute(1, attribute(1, b"counter\0") + attribute(2, attribute(2, bytes(8))))
    rule = message(_RULE, _TABLE + attribute(2, b"\xff\xfe\0") + attribute(4, counter))
    connection = AnsweredConnection(chain + rule)

    assert "\\xff\\xfe" in nft.digests(connection, "vmwarden")
    assert nft.dropped(connection, "vmwarden") == {"\\xff\\xfe": 0}
    assert nft.base_chains(connection, "vmwarden", family=1) == {"\\xff\\xfe": ""}
    assert nft.chains(connection, "vmwarden") == {"\\xff\\xfe"}


def test_a_device_may_have_any_name() -> None:
    program = attribute(43, attribute(4, struct.pack("=I", 7)))
    device = struct.pack("=BxHiII", 0, 1, 5, 0, 0) + attribute(3, b"\xff\xfe\0") + program
    links = AnsweredLinks(message(16, device))

    (link,) = links.all()

    assert (link.name, link.xdp) == ("\\xff\\xfe", (7,))
    canonical.encode(link.name)


def test_a_device_of_which_too_little_is_told_is_none() -> None:
    assert AnsweredLinks(message(16, b"\0" * 12)).all() == ()


@pytest.mark.parametrize("number", [-(2**31), 5, -4096])
def test_an_error_that_is_none_is_an_error_all_the_same(number: int) -> None:
    reply = Reply(2, 0, 1, struct.pack("=i", number) + bytes(16))

    found, said = verdict(reply)

    assert found == errno.EBADMSG
    assert str(-number) in str(NetlinkRefused(found, "an act", said))


def test_an_acknowledgement_is_still_one() -> None:
    kernel = AnsweringKernel(acknowledgement())
    assert kernel.ask(0xA00, bytes(4), what="an act").kind == 2


def test_a_route_to_more_bits_than_an_address_has_is_none() -> None:
    route = struct.pack("=BBBBBBBBI", socket.AF_INET, 33, 0, 0, 255, 0, 0, 2, 0) + attribute(1, bytes(4))

    assert own_addresses._local(AnsweringKernel(message(24, route)), socket.AF_INET) == []


@pytest.mark.parametrize("count", ["-1", "²", "9x", "0x1"])
def test_a_number_of_sockets_that_is_none(count: str, tmp_path: Path) -> None:
    protocols = tmp_path / "protocols"
    protocols.write_text(f"XDP 1152 {count} -1\n", encoding="utf-8")

    with pytest.raises(ControlFailed):
        af_xdp(protocols)
    protocols.write_text("XDP 1152 3 -1\n")
    assert af_xdp(protocols) == 3


@pytest.mark.parametrize("text", ["²", "٣", "9" * 5000, "-1", " 1", ""])
def test_a_watchdog_period_that_is_none(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", text)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)

    assert notify.watchdog_s() is None


def test_a_watchdog_period(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "10000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)

    assert notify.watchdog_s() == 10.0


@pytest.mark.parametrize("named", ["", ",", "x", "3,", "-1", "٣", "9" * 30, "9" * 5000, "999999999,4"])
def test_a_handover_that_is_none(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMWARDEN_HANDOVER", named)

    assert successor.inherited(1024) == (b"", ())
    assert "VMWARDEN_HANDOVER" not in os.environ


@pytest.mark.parametrize("changed", [("open", "melted"), ("65000", str(2**53)), ("1001", str(2**31))])
def test_a_handover_of_another_version_is_refused(changed: tuple[str, str]) -> None:
    gate = GateHandover(connection=1000, keeper=1001, fingerprint="f", rules="r", permit="p", form="m")
    whole = canonical.encode(
        Handover(
            format="vmwarden.handover/1",
            boot_id="boot-1",
            posture=Posture.OPEN,
            lease_until_boot_ms=65_000,
            gate=gate,
        )
    )
    old, new = (text.encode() for text in changed)

    with pytest.raises(Malformed):
        canonical.decode(whole.replace(old, new), Handover, limit=9999, what="x")
