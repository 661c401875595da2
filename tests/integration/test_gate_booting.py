# SPDX-License-Identifier: Apache-2.0
"""During boot root, and nobody else, may ask the platform's metadata service, and that ends by itself.

The addresses are those of the real services, at a peer in a namespace of its own that leads nowhere.
"""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.gate_policy import PROBER_UID, gate_policy, uids
from tests.integration.gate_segments import UPLINK
from vmwarden.linux import nft
from vmwarden.rules import netdev_ruleset
from vmwarden.rules.flat import flat
from vmwarden.rules.ruleset import TABLE, boot_file, closed
from vmwarden.testing.network import Lan

pytestmark = pytest.mark.root

WITHIN_S = 0.4
METADATA, WIRE_SERVER = "169.254.169.254", "168.63.129.16"
USERS = uids(["prober"])


@pytest.fixture
def cloud(network: Lan) -> Iterator[Lan]:
    """The peer has the addresses, and the VM has nothing but the boot file."""
    for address in (METADATA, WIRE_SERVER):
        network.peer.run("ip", "addr", "add", f"{address}/32", "dev", "eth0")
        network.vm.run("ip", "route", "add", f"{address}/32", "dev", "eth0")
    with network.vm.entered():
        yield network


def boot(lan: Lan, tmp_path: Path, text: str) -> None:
    path = tmp_path / "closed.nft"
    path.write_text(text)
    lan.vm.run("nft", "-f", str(path))


def asked(lan: Lan, address: str, port: int, *, uid: int = 0) -> bool:
    """Whether a process of that user gets an answer over TCP."""
    with lan.peer.socket(socket.SOCK_STREAM) as service:
        service.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        service.settimeout(WITHIN_S)
        service.bind((address, port))
        service.listen(1)
        os.seteuid(uid)
        try:
            client = lan.vm.socket(socket.SOCK_STREAM) if uid == 0 else socket.socket()
        finally:
            os.seteuid(0)
        with client:
            client.settimeout(WITHIN_S)
            try:
                client.connect((address, port))
                answering = service.accept()[0]
            except (TimeoutError, PermissionError):
                return False
            with answering:
                client.sendall(b"GET")
                answering.sendall(answering.recv(3))
                return client.recv(3) == b"GET"


def resolves(lan: Lan) -> bool:
    """Whether a question to the resolver at the metadata address leaves."""
    with lan.peer.socket(socket.SOCK_DGRAM) as service, lan.vm.socket(socket.SOCK_DGRAM) as client:
        service.settimeout(WITHIN_S)
        service.bind((METADATA, 53))
        try:
            client.sendto(b"secret.example", (METADATA, 53))
            return bool(service.recv(100))
        except (TimeoutError, PermissionError):
            return False


def left_s(lan: Lan) -> float:
    """Until the exemption ends; 0 = it has ended."""
    listed = json.loads(lan.vm.run("nft", "-j", "list", "set", "inet", TABLE, "booting").stdout)
    elements = listed["nftables"][1]["set"].get("elem", [])
    return float(max((each["elem"]["expires"] for each in elements), default=0))


def test_root_may_ask_the_metadata_service_and_nothing_else(cloud: Lan, tmp_path: Path) -> None:
    boot(cloud, tmp_path, boot_file(gate_policy(), users=USERS))
    assert asked(cloud, METADATA, 80)
    assert asked(cloud, WIRE_SERVER, 80)
    assert asked(cloud, WIRE_SERVER, 32526)
    assert not asked(cloud, METADATA, 80, uid=PROBER_UID)
    assert not asked(cloud, METADATA, 8080)
    assert not asked(cloud, METADATA, 53)
    assert not asked(cloud, METADATA, 32526)
    assert not asked(cloud, "10.99.0.2", 80)
    assert not resolves(cloud)
    assert 110 < left_s(cloud) <= 120


def test_the_kernel_ends_it(cloud: Lan, tmp_path: Path) -> None:
    text = boot_file(gate_policy(), users=USERS)
    boot(cloud, tmp_path, text.replace("timeout 2m", "timeout 1500ms"))
    assert asked(cloud, METADATA, 80)
    cloud.vm.run("sleep", "1.6")
    assert not asked(cloud, METADATA, 80)
    assert left_s(cloud) == 0


def test_whoever_takes_over_may_end_it_and_does_not_begin_it_again(cloud: Lan, tmp_path: Path) -> None:
    text = boot_file(gate_policy(), users=USERS)
    boot(cloud, tmp_path, text)
    nft.load(flat(text))
    assert asked(cloud, METADATA, 80), "it outlives an exchange of the rules"
    nft.load(f"flush set inet {TABLE} booting\n")
    assert not asked(cloud, METADATA, 80)
    nft.load(flat(text))
    assert not asked(cloud, METADATA, 80)
    nft.load(closed(gate_policy(), users=USERS))
    assert not asked(cloud, METADATA, 80)


def test_the_second_layer_has_the_same_exemption(cloud: Lan, tmp_path: Path) -> None:
    boot(cloud, tmp_path, boot_file(gate_policy(), users=USERS))
    nft.load(netdev_ruleset.table(gate_policy(), users=USERS) + UPLINK)
    assert not asked(cloud, METADATA, 80)
    nft.load("add element netdev vmwarden booting { ip timeout 60s, ip6 timeout 60s }\n")
    assert asked(cloud, METADATA, 80)
    assert not asked(cloud, METADATA, 80, uid=PROBER_UID)
    assert not resolves(cloud)


def test_a_policy_that_refuses_it_has_none(cloud: Lan, tmp_path: Path) -> None:
    boot(cloud, tmp_path, boot_file(gate_policy(), users=USERS, metadata=False))
    assert not asked(cloud, METADATA, 80)
