# SPDX-License-Identifier: Apache-2.0
"""The gate and the rest of the machine: traces, other tables, other wardens, kernels with less."""

import select
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from tests.integration import gate_probe as probe
from tests.integration.gate_policy import SCOPE_UDP_IN, gate_policy, nft_gate, uids
from vmwarden.controls.gate import NftGate
from vmwarden.errors import ControlFailed
from vmwarden.linux import nft
from vmwarden.linux.nfnetlink import Connection, NetlinkRefused
from vmwarden.model.policy import FlowIn, Manage
from vmwarden.rules.ruleset import ALIVE_TABLE, NO_MANAGE, TABLE, closed, exchanged
from vmwarden.testing.network import PEER, VM, Lan
from vmwarden.testing.traffic import Traffic

pytestmark = pytest.mark.root

ROOT = Path(__file__).parents[2]
FOREIGN = """
table inet other {
  set seen { type ipv4_addr; flags timeout; elements = { 192.0.2.1 timeout 1h } }
  chain into { type filter hook input priority 0; policy accept; tcp dport 25 counter drop; }
}
table ip nat {
  chain post { type nat hook postrouting priority 100; policy accept; masquerade; }
}
"""


def test_removed_leaves_no_trace_beside_the_tables_of_others(network: Lan) -> None:
    with network.vm.entered():
        nft.load(FOREIGN)
        before = network.vm.ruleset()
        gate = nft_gate()
        gate.capabilities()
        assert network.vm.ruleset() == before, "trying the owner flag leaves nothing"
        gate.install(gate_policy())
        gate.lease(5000)
        assert network.vm.ruleset() != before
        gate.remove()
        assert network.vm.ruleset() == before


def test_what_another_gate_left_can_be_removed(network: Lan) -> None:
    with network.vm.entered():
        before = network.vm.ruleset()
        first = nft_gate()
        first.install(gate_policy())
        first.close()
        assert f"table inet {TABLE}" in network.vm.ruleset()
        nft_gate().remove()
        assert network.vm.ruleset() == before


@pytest.mark.parametrize("form", [closed, exchanged])
def test_plain_nft_loads_the_boot_file_again_and_again(network: Lan, form: object, tmp_path: Path) -> None:
    path = tmp_path / "closed.nft"
    made = closed if form is closed else exchanged
    path.write_text(made(gate_policy(3), users=uids(["prober"])))
    network.vm.run("nft", "-c", "-f", str(path))
    assert network.vm.ruleset() == "", "a check loads nothing"
    network.vm.run("nft", "-f", str(path))
    once = network.vm.ruleset()
    network.vm.run("nft", "-f", str(path))
    assert network.vm.ruleset() == once
    assert not probe.udp(network.peer, network.vm, VM, 9000)


def test_the_file_without_manage_loads(network: Lan, tmp_path: Path) -> None:
    path = tmp_path / "closed.nft"
    path.write_text(NO_MANAGE)
    network.vm.run("nft", "-f", str(path))
    assert not probe.udp(network.peer, network.vm, VM, 9000)


def test_the_boot_file_takes_the_place_of_whatever_the_table_held(network: Lan) -> None:
    with network.vm.entered():
        nft.load(f"table inet {TABLE} {{\n chain judge_in {{ accept; }}\n chain left {{ drop; }}\n }}\n")
        nft.load(closed(gate_policy(), users=uids(["prober"])))
        assert "chain left" not in network.vm.ruleset()


CHANGES = (
    "insert rule inet vmwarden judge_in accept",
    "add rule inet vmwarden scopes_in accept",
    "flush chain inet vmwarden judge_out",
    "add chain inet vmwarden more { type filter hook input priority 0; policy accept; }",
    "chain inet vmwarden judge_in { policy accept; }",
    "add set inet vmwarden more { type ipv4_addr; }",
    "delete table inet vmwarden",
    "flush ruleset",
)


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_by_others_is_noticed_and_mended(network: Lan, change: str) -> None:
    with network.vm.entered():
        gate = nft_gate(lasting=False)
        gate.install(gate_policy())
        good = network.vm.run("nft", "-s", "list", "table", "inet", TABLE).stdout
        assert gate.installed()
        network.vm.run("nft", change)
        assert not gate.installed()
        assert not gate.state().rules
        gate.install(gate_policy())
        assert gate.installed()
        assert network.vm.run("nft", "-s", "list", "table", "inet", TABLE).stdout == good


def lasting_gate() -> NftGate:
    gate = nft_gate()
    if not gate.capabilities().persist:
        pytest.skip("this kernel has no such device: tables that last (Linux 6.9)")
    return gate


@pytest.mark.parametrize("change", CHANGES)
def test_where_tables_last_nobody_else_changes_them(network: Lan, change: str) -> None:
    with network.vm.entered():
        gate = lasting_gate()
        gate.install(gate_policy())
        tables = ("list", "table", "inet", TABLE)
        good = network.vm.run("nft", "-s", *tables).stdout
        refused = network.vm.run("nft", change, check=False).returncode != 0
        assert refused or change == "flush ruleset"  # a flush passes by what belongs to others
        assert gate.installed()
        assert network.vm.run("nft", "-s", *tables).stdout == good
        assert not probe.udp(network.peer, network.vm, VM, 9000)


def test_lasting_rules_stay_when_their_warden_goes_and_the_next_one_takes_them(network: Lan) -> None:
    with network.vm.entered():
        first = lasting_gate()
        first.install(gate_policy())
        handle = network.vm.run("nft", "-a", "list", "table", "inet", TABLE).stdout.splitlines()[0]
        first.close()
        assert not probe.udp(network.peer, network.vm, VM, 9000)
        second = nft_gate()
        second.install(gate_policy(more_scopes=3))
        assert second.installed()
        assert "flags owner" in network.vm.ruleset()
        # the table was never away: it is the same one, with other rules
        assert handle.split()[-1] in network.vm.run("nft", "-a", "list", "ruleset").stdout
        assert nft.BRIDGE_TABLE not in network.vm.ruleset()


def test_the_boot_files_table_is_closed_while_a_lasting_one_takes_its_place(network: Lan) -> None:
    with network.vm.entered():
        nft.load(closed(gate_policy(), users=uids(["prober"])))
        traffic = Traffic(tick_s=0.0002)
        flows = [
            traffic.udp("udp in", network.peer, network.vm, to=VM, port=9100),
            traffic.udp("udp out", network.vm, network.peer, to=PEER, port=9100),
            traffic.udp("udp through", network.behind, network.peer, to=PEER, port=9102),
        ]
        with traffic.running():
            gate = lasting_gate()
            gate.install(gate_policy())
            time.sleep(0.1)
        assert [(flow.name, flow.received) for flow in flows] == [(flow.name, 0) for flow in flows]
        assert all(flow.sent + flow.refused > 300 for flow in flows)
        assert nft.BRIDGE_TABLE not in network.vm.ruleset()
        traffic.close()


def test_another_version_of_the_table_gives_way(network: Lan) -> None:
    """Sets of another type and chains at other places cannot be exchanged."""
    with network.vm.entered():
        connection = Connection()
        nft.make_lasting(connection, TABLE)
        connection.close()
        for change in (
            f"add set inet {TABLE} lease {{ type ipv4_addr; }}",
            f"add chain inet {TABLE} judge_in {{ type filter hook prerouting priority 5; policy accept; }}",
            f"add chain inet {TABLE} old {{ type filter hook output priority 7; policy drop; }}",
        ):
            network.vm.run("nft", change)
        gate = lasting_gate()
        gate.install(gate_policy())
        assert gate.installed()
        assert "old" not in network.vm.ruleset()
        gate.lease(5000)
        assert probe.udp(network.peer, network.vm, VM, 9000)


def test_the_gate_hears_what_others_do_and_not_what_it_does_itself(network: Lan) -> None:
    with network.vm.entered():
        gate = nft_gate(lasting=False)
        gate.install(gate_policy())
        gate.heard()
        gate.lease(5000)
        gate.flush()
        assert not gate.heard().touched
        network.vm.run("nft", "add table inet other")
        assert not gate.heard().touched
        network.vm.run("nft", "flush ruleset")
        assert select.select(gate.filenos(), (), (), 1)[0], "it wakes whoever waits"
        assert gate.heard().touched
        assert not gate.heard().touched


def test_counters_and_leases_are_no_change(network: Lan) -> None:
    with network.vm.entered():
        gate = nft_gate()
        gate.install(gate_policy())
        before = gate.state().dropped
        assert not probe.udp(network.peer, network.vm, VM, 9000)
        gate.lease(5000)
        assert gate.installed()
        state = gate.state()
        assert state.dropped["judge_in"] > before["judge_in"]
        assert (state.rules, state.permit, state.guarded) == (True, True, False)
        assert 4000 < state.lease_ms <= 5000
        assert state.fingerprint in network.vm.ruleset()


def test_installing_what_stands_starts_nothing(network: Lan) -> None:
    """No nft, no new table: handles, which the kernel never gives twice, stay the same."""
    with network.vm.entered():
        gate = nft_gate()
        gate.install(gate_policy())
        before = network.vm.run("nft", "-a", "list", "ruleset").stdout
        gate.install(gate_policy())
        assert network.vm.run("nft", "-a", "list", "ruleset").stdout == before


def test_the_owned_table_is_closed_to_everybody_else(network: Lan) -> None:
    with network.vm.entered():
        gate = nft_gate()
        gate.install(gate_policy())
        assert gate.capabilities().owner
        for attempt in (
            f"add element inet {ALIVE_TABLE} lease {{ ipv4 timeout 1h }}",
            f"delete table inet {ALIVE_TABLE}",
        ):
            assert network.vm.run("nft", attempt, check=False).returncode != 0
        other = nft_gate()
        with pytest.raises(ControlFailed, match="another process holds"):
            other.install(gate_policy())
        with pytest.raises(ControlFailed, match="another process holds"):
            other.remove()
        gate.lease(5000)
        assert probe.udp(network.peer, network.vm, VM, 9000)


def test_without_owner_tables_a_death_closes_when_the_lease_lapses(network: Lan) -> None:
    with network.vm.entered():
        gate = NftGate(uids, owner_tables=False)
        gate.install(gate_policy())
        assert not gate.capabilities().owner
        assert "lapses" in gate.closes_on_death()
        gate.lease(1500)
        gate.close()
        assert probe.udp(network.peer, network.vm, VM, 9000), "still open: nobody took the permit away"
        time.sleep(1.5)
        assert not probe.udp(network.peer, network.vm, VM, 9000)
        successor = nft_gate()
        successor.install(gate_policy())
        assert successor.installed()
        successor.lease(5000, guarded=True)
        assert probe.udp(network.peer, network.vm, VM, SCOPE_UDP_IN, sent_from=PEER)


def test_a_refusal_names_the_kernels_reason(network: Lan) -> None:
    with network.vm.entered():
        connection = Connection()
        with pytest.raises(NetlinkRefused) as caught:
            nft.renew(connection, 1000, guarded=False)
        assert caught.value.number == 2
        assert "renewing the lease" in str(caught.value)
        # a refused transaction leaves nothing in the way of the next one
        nft.make_alive(connection, owned=True)
        nft.renew(connection, 1000, guarded=True)
        assert nft.running(connection).guarded
        connection.close()


def test_without_the_right_it_says_so(network: Lan) -> None:
    program = (
        "import os; os.setgid(65534); os.setuid(65534)\n"
        "from vmwarden.errors import ControlFailed\n"
        "from tests.integration.gate_policy import gate_policy, nft_gate\n"
        "try: nft_gate().install(gate_policy())\n"
        "except ControlFailed as error: print('refused:', error)\n"
    )
    with network.vm.entered():
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
        )
    assert done.stdout.startswith("refused:"), done.stderr
    assert network.vm.ruleset() == ""


def test_the_widest_addresses_that_a_policy_can_name_load(network: Lan) -> None:
    with network.vm.entered():
        policy = gate_policy()
        wide = Manage(in_=(FlowIn(from_="0.0.0.0/0", tcp=22), FlowIn(from_="::/0", tcp=65535)))
        nft.load(closed(msgspec.structs.replace(policy, manage=wide), users=uids(["prober"])))
        assert probe.tcp(network.peer, network.vm, VM, 22)
        assert not probe.tcp(network.peer, network.vm, VM, 23)


def test_three_hundred_scopes_load_and_pass(network: Lan) -> None:
    with network.vm.entered():
        gate = nft_gate()
        gate.install(gate_policy(more_scopes=300))
        gate.lease(5000, guarded=True)
        assert probe.udp(network.peer, network.vm, VM, SCOPE_UDP_IN, sent_from=PEER)
        assert not probe.udp(network.peer, network.vm, VM, 9000)
