# SPDX-License-Identifier: Apache-2.0
"""The gate on a real kernel against damaged texts, leftovers, and a neighbour who picks his source port."""

import re
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import vmwarden
from tests.integration.gate_policy import MANAGE_OUT, PROBER_UID, gate_policy, nft_gate, uids
from tests.integration.gate_ways import stands_in
from vmwarden.controls.gate import NftGate
from vmwarden.controls.second_layer import SecondLayer
from vmwarden.errors import ControlFailed, Malformed
from vmwarden.linux import nft
from vmwarden.linux.nfnetlink import Connection
from vmwarden.rules.ruleset import NO_MANAGE, TABLE, boot_file, intact
from vmwarden.testing.network import PEER, VM, Lan

pytestmark = pytest.mark.root

UNITS = Path(vmwarden.__file__).parent / "units"
TEXT = boot_file(gate_policy(), users={"prober": PROBER_UID})


@pytest.mark.parametrize(
    "text", ["", "\n", "# nothing\n", TEXT[: TEXT.index(f"table inet {TABLE} {{")]], ids=repr
)
def test_a_text_that_nft_takes_and_that_closes_nothing_is_refused(network: Lan, text: str) -> None:
    assert not intact(text)
    with network.vm.entered():
        gate = nft_gate()
        with pytest.raises((ControlFailed, Malformed)):
            gate.restore(text)
        assert not gate.installed()
        gate.restore(NO_MANAGE)
        assert gate.installed()


def test_a_text_is_told_from_a_damaged_one_also_as_the_kernel_took_it(network: Lan) -> None:
    assert intact(TEXT)
    with network.vm.entered():
        gate = nft_gate()
        gate.restore(TEXT)
        assert gate.installed()


def test_restored_rules_are_left_alone_though_no_second_layer_stands_behind_them(network: Lan) -> None:
    """What loading made the kernel tell is no reason to load again: the warden would do nothing else."""
    with network.vm.entered(), closing(Connection()) as connection:
        gate = NftGate(uids, second=SecondLayer(uids, stands_in=stands_in))
        for _ in range(3):
            gate.heard()
            if not gate.installed():
                gate.restore(TEXT)
        gate.heard()
        assert gate.installed()
        at = nft.generation(connection)
        gate.restore(TEXT)
        gate.heard()
        assert gate.installed()
        assert nft.generation(connection) == at
        gate.remove()


def boot_command(rules: Path, shut: Path) -> str:
    """What vmwarden-closed.service runs, with these files in place of its own."""
    unit = (UNITS / "vmwarden-closed.service").read_text()
    (command,) = re.findall(r"^ExecStart=/bin/sh -c '(.*)'$", unit, flags=re.MULTILINE)
    return str(
        command.replace("/var/lib/vmwarden/closed.nft", str(rules)).replace(
            "/opt/vmwarden/shut.nft", str(shut)
        )
    )


@pytest.mark.parametrize("text", [TEXT, "", TEXT[:500], TEXT[: TEXT.index("table inet")], "\0", None])
def test_an_armed_vm_boots_closed_whatever_became_of_its_boot_file(
    network: Lan, tmp_path: Path, text: str | None
) -> None:
    rules = tmp_path / "closed.nft"
    if text is not None:
        rules.write_text(text)
    network.vm.run("/bin/sh", "-c", boot_command(rules, UNITS / "shut.nft"))
    chain = network.vm.run("nft", "list", "chain", "inet", TABLE, "judge_in").stdout.decode()

    assert "policy drop" in chain
    assert ("dport 22" in chain) is (text == TEXT), "manage stays where the file is whole"


def test_the_shut_rules_that_are_installed_are_those_of_the_warden() -> None:
    assert (UNITS / "shut.nft").read_text() == f"# SPDX-License-Identifier: Apache-2.0\n{NO_MANAGE}"


def test_rules_of_the_boot_file_are_known_as_left_behind(network: Lan) -> None:
    with network.vm.entered():
        before = network.vm.ruleset()
        gate = nft_gate()
        assert not gate.left_behind()
        nft.load(TEXT)
        assert gate.left_behind()
        gate.remove()
        assert network.vm.ruleset() == before
        gate.install(gate_policy())
        assert not gate.left_behind()


@contextmanager
def established(lan: Lan, port: int, source_port: int) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A TCP flow of the peer, from a source port of his choice, to a service of the VM: (peer, VM)."""
    with (
        lan.vm.socket(socket.SOCK_STREAM) as service,
        lan.peer.socket(socket.SOCK_STREAM) as peer,
    ):
        service.settimeout(3)
        service.bind((VM, port))
        service.listen(1)
        peer.settimeout(3)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        peer.bind((PEER, source_port))
        peer.connect((VM, port))
        served, _ = service.accept()
        served.settimeout(2)
        with served:
            yield peer, served


def passes(sender: socket.socket, receiver: socket.socket) -> bool:
    sender.send(b"x")
    try:
        return receiver.recv(1) == b"x"
    except TimeoutError:
        return False


def test_a_flow_ends_with_the_lease(network: Lan) -> None:
    with network.vm.entered():
        gate = nft_gate()
        gate.install(gate_policy())
        gate.lease(5000)
    with established(network, 9003, 40_000) as (peer, served):
        assert passes(peer, served)
        with network.vm.entered():
            gate.flush()
        assert not passes(peer, served)


def test_a_flow_from_the_port_of_manage_out_ends_with_the_lease(network: Lan) -> None:
    """It looks like the answers to a flow of manage.out, in both directions: ACK, and that port."""
    with network.vm.entered():
        gate = nft_gate()
        gate.install(gate_policy())
        gate.lease(5000)
    with established(network, 9003, MANAGE_OUT) as (peer, served):
        assert passes(peer, served)
        with network.vm.entered():
            gate.flush()
        assert not passes(peer, served) and not passes(served, peer)
