# SPDX-License-Identifier: Apache-2.0
"""The second layer by itself: at which devices it stands, how long a lease runs, what it notices."""

import select
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import msgspec
import pytest

from tests.integration import gate_probe as probe
from tests.integration.gate_policy import SCOPE_UDP_IN, gate_policy, nft_gate, uids
from tests.integration.gate_ways import stands_in
from tests.integration.test_gate_services import timed_policy
from vmwarden.controls.gate import NftGate
from vmwarden.controls.second_layer import SecondLayer
from vmwarden.errors import BugError, ControlFailed, Malformed
from vmwarden.linux import nft
from vmwarden.linux.nfnetlink import NFPROTO_NETDEV, Connection
from vmwarden.linux.process import run
from vmwarden.linux.rtnetlink import LinkEvents, Links
from vmwarden.model.policy import FlowIn, Manage
from vmwarden.ports.gate import LONGEST_LEASE_MS, SHORTEST_LEASE_MS, ServiceLeases
from vmwarden.rules.netdev_ruleset import DRAIN_SET, GUARDED_SET, LEASE_SET, TABLE, TIMED_SET
from vmwarden.testing.network import PEER, VM, Lan

pytestmark = pytest.mark.root


@pytest.fixture
def layer(network: Lan) -> Iterator[SecondLayer]:
    """In the VM, closed; so is this thread."""
    with network.vm.entered():
        made = SecondLayer(uids, stands_in=stands_in)
        made.install(gate_policy())
        yield made
        made.remove()


def passes(network: Lan) -> tuple[bool, bool]:
    """(a flow of a scope, any other)"""
    return (
        probe.udp(network.peer, network.vm, VM, SCOPE_UDP_IN, sent_from=PEER),
        probe.udp(network.peer, network.vm, VM, 9000, sent_from=PEER),
    )


def chains() -> dict[str, str]:
    connection = Connection()
    try:
        return nft.base_chains(connection, TABLE, family=NFPROTO_NETDEV)
    finally:
        connection.close()


def plug(network: Lan, name: str) -> None:
    network.vm.run(
        "ip", "link", "add", name, "type", "veth", "peer", "name", name, "netns", network.peer.name
    )


def test_it_closes_and_leases_open_it_as_the_first_layer(network: Lan, layer: SecondLayer) -> None:
    assert passes(network) == (False, False)
    layer.lease(LONGEST_LEASE_MS, guarded=True)
    assert passes(network) == (True, False)
    assert layer.state().guarded
    layer.lease(LONGEST_LEASE_MS)
    assert passes(network) == (True, True)
    layer.flush()
    assert passes(network) == (False, False)
    layer.lease(200)
    time.sleep(0.25)
    assert passes(network) == (False, False)
    layer.lease(LONGEST_LEASE_MS)
    layer.lease(SHORTEST_LEASE_MS - 1)
    assert passes(network) == (False, False)
    assert layer.state().lease_ms == 0
    assert layer.state().dropped["judge_in"] > 0
    with pytest.raises(BugError):
        layer.lease(LONGEST_LEASE_MS + 1)


def test_both_layers_are_renewed_and_ended_by_one_transaction(network: Lan, layer: SecondLayer) -> None:
    connection = Connection()
    gate = nft_gate()
    gate.install(gate_policy())
    gate.close()  # its table goes with it: this connection makes the permit
    nft.make_alive(connection, owned=True)
    before = nft.generation(connection)
    connection.commit([*nft.renewal(5000, guarded=False), *layer.renewal(5000, guarded=False)], what="both")
    assert nft.generation(connection) == nft.following(before)
    assert passes(network) == (True, True)
    connection.commit([*nft.ending(), *layer.ending()], what="both")
    assert passes(network) == (False, False)
    connection.close()
    nft_gate().remove()


def test_a_second_table_that_is_gone_refuses_the_renewal_of_both(network: Lan, layer: SecondLayer) -> None:
    connection = Connection()
    nft.make_alive(connection, owned=True)
    nft.delete(connection, TABLE, family=NFPROTO_NETDEV)
    with pytest.raises(ControlFailed):
        connection.commit(
            [*nft.renewal(5000, guarded=False), *layer.renewal(5000, guarded=False)], what="both"
        )
    assert nft.running(connection).milliseconds == 0
    connection.close()


def test_a_lease_goes_on_while_the_rules_are_exchanged(network: Lan, layer: SecondLayer) -> None:
    layer.lease(LONGEST_LEASE_MS)
    before = layer.state().fingerprint
    layer.install(gate_policy(more_scopes=5))
    assert layer.installed()
    assert layer.state().fingerprint != before
    assert layer.state().lease_ms > 20_000
    assert passes(network) == (True, True)


def test_a_policy_without_rules_is_refused_and_nothing_changes(network: Lan, layer: SecondLayer) -> None:
    bad = Manage(in_=(FlowIn(from_="10.0.0.0/99", tcp=22),))
    with pytest.raises(Malformed):
        layer.install(msgspec.structs.replace(gate_policy(), manage=bad))
    assert layer.installed()


def test_another_process_takes_over_without_a_lease_and_without_a_gap(
    network: Lan, layer: SecondLayer
) -> None:
    layer.lease(LONGEST_LEASE_MS)
    layer.close()
    after = SecondLayer(uids, stands_in=stands_in)
    after.install(gate_policy(more_scopes=1))
    assert after.installed()
    assert passes(network) == (False, False)
    assert len(after.uplinks()) == 1


def test_a_device_that_comes_is_gated_when_its_event_is_read(network: Lan, layer: SecondLayer) -> None:
    plug(network, "new0")
    assert select.select([layer.fileno()], [], [], 2)[0]
    happened = layer.link_event()
    assert "new0" in {event.link.name for event in happened.events}
    assert {uplink.name for uplink in layer.uplinks()} == {"eth0", "new0"}
    assert sorted(chains().values()) == ["eth0", "eth0", "new0", "new0"]
    assert layer.installed()


def test_a_renewal_reads_no_tables_while_nothing_has_happened(network: Lan) -> None:
    """It is done with every tick, all day; reading them once costs as much as dozens of renewals."""
    with network.vm.entered(), closing(NftGate(uids, second=SecondLayer(uids, stands_in=stands_in))) as gate:
        gate.install(gate_policy())

        def renewed() -> None:
            assert gate.installed()
            gate.lease(1_000)
            assert not gate.heard().touched

        with closing(Connection()) as connection:
            reading = _cpu_s(lambda: nft.digests(connection, TABLE, family=NFPROTO_NETDEV))
        gate.heard()  # of what installing changed
        renewed()
        assert _cpu_s(renewed) < reading
        gate.remove()


def _cpu_s(act: Callable[[], object]) -> float:
    """Of this process, for once; the median of nine."""
    taken = []
    for _ in range(9):
        begun = time.process_time()
        act()
        taken.append(time.process_time() - begun)
    return sorted(taken)[4]


def test_a_device_that_goes_leaves_no_chain_and_is_not_taken_for_moved(
    network: Lan, layer: SecondLayer
) -> None:
    plug(network, "new0")
    layer.link_event()
    network.vm.run("ip", "link", "del", "new0")
    layer.link_event()
    assert set(chains().values()) == {"eth0"}
    assert layer.gone() == ()
    assert layer.installed()


def test_a_renamed_device_stays_gated(network: Lan, layer: SecondLayer) -> None:
    network.vm.run("ip", "link", "set", "eth0", "down")
    network.vm.run("ip", "link", "set", "eth0", "name", "other0")
    network.vm.run("ip", "link", "set", "other0", "up")
    layer.link_event()
    assert set(chains().values()) == {"other0"}
    assert layer.installed()
    assert passes(network) == (False, False)


@pytest.mark.parametrize("name", ["café", 'x"y', "a;b", "$v"])
def test_any_name_that_the_kernel_allows_is_gated(network: Lan, layer: SecondLayer, name: str) -> None:
    plug(network, name)
    layer.link_event()
    assert name in chains().values()
    assert layer.ungated() == {}


def test_a_moved_uplink_is_told_with_where_it_is_and_forgotten_when_it_is_back(
    network: Lan, layer: SecondLayer
) -> None:
    network.vm.run("ip", "link", "set", "eth0", "netns", network.behind.name, "name", "taken0")
    layer.link_event()
    (gone,) = layer.gone()
    assert gone.uplink.name == "eth0"
    assert gone.namespace is not None
    assert chains() == {}
    network.behind.run("ip", "link", "set", "taken0", "netns", network.vm.name, "name", "eth0")
    layer.link_event()
    assert layer.gone() == ()
    assert layer.installed()
    assert set(chains().values()) == {"eth0"}


def test_lost_events_are_told_and_what_they_were_about_is_mended(network: Lan, layer: SecondLayer) -> None:
    layer.link_event()
    # each change of a device is an event; the socket holds some hundred
    batch = "\n".join(f"link set new0 mtu {1400 + n % 100}" for n in range(4000))
    plug(network, "new0")
    with network.vm.entered():
        run(["ip", "-batch", "-"], timeout_s=60, input=batch.encode() + b"\n")
    network.vm.run("ip", "link", "del", "eth0")
    happened = layer.link_event()
    assert happened.lost
    assert set(chains().values()) == {"new0"}
    assert [(gone.uplink.name, gone.namespace) for gone in layer.gone()] == [("eth0", None)]
    assert layer.installed()


@pytest.mark.parametrize(
    "change",
    [
        "insert rule netdev vmwarden judge_in accept",
        "flush chain netdev vmwarden judge_out",
        "add rule netdev vmwarden true_out counter",
        "delete table netdev vmwarden",
        "flush ruleset",
    ],
)
def test_what_somebody_changes_is_missed_and_put_right(network: Lan, layer: SecondLayer, change: str) -> None:
    network.vm.run("nft", change)
    assert not layer.installed()
    layer.install(gate_policy())
    assert layer.installed()
    assert passes(network) == (False, False)
    layer.lease(LONGEST_LEASE_MS)
    assert passes(network) == (True, True)


def test_a_permanent_element_that_somebody_added_ends_with_the_next_renewal(
    network: Lan, layer: SecondLayer
) -> None:
    network.vm.run("nft", "add element netdev vmwarden lease { ip timeout 1d }")
    assert passes(network) == (True, True)
    layer.lease(SHORTEST_LEASE_MS)
    time.sleep(0.1)
    assert passes(network) == (False, False)


#: what a lease is asked for with, and the one set of the second layer that is filled then
LEFT: dict[str, tuple[dict[str, Any], str]] = {
    "open": ({}, LEASE_SET),
    "guarded": ({"guarded": True}, GUARDED_SET),
    "drain": ({"new_flows_ms": 0}, DRAIN_SET),
    "open, beside services": ({"services": ServiceLeases({"web": 9_000}, {"web": 9_000})}, TIMED_SET),
}


@pytest.mark.parametrize("state", LEFT)
def test_a_layer_that_is_made_anew_has_what_is_left_of_the_lease(network: Lan, state: str) -> None:
    asked, name = LEFT[state]
    policy = timed_policy("30s") if "services" in asked else gate_policy()
    second = SecondLayer(uids, stands_in=stands_in)
    sets = {LEASE_SET, GUARDED_SET, DRAIN_SET, TIMED_SET}

    def left() -> dict[str, int]:
        return {each: ms for each in sets if (ms := nft.left(kernel, TABLE, each, family=NFPROTO_NETDEV))}

    with (
        network.vm.entered(),
        closing(NftGate(uids, second=second, lasting_tables=False)) as gate,
        closing(Connection()) as kernel,
    ):
        gate.install(policy)
        network.vm.run("nft", "delete table netdev vmwarden")
        gate.install(policy)
        assert left() == {}, "closed stays closed"
        gate.lease(10_000, **asked)
        time.sleep(0.2)
        for change in ("flush ruleset", "delete table netdev vmwarden"):
            network.vm.run("nft", change)
            assert gate.heard().touched
            gate.install(policy)
            first, found = gate.state().lease_ms, left()
            assert set(found) == {name}
            assert 5_000 < found[name] < first, "never longer than the first's"
        gate.lease(SHORTEST_LEASE_MS)
        time.sleep(0.1)
        network.vm.run("nft", "delete table netdev vmwarden")
        gate.install(policy)
        assert left() == {}
        gate.remove()


def test_chains_that_are_not_ours_do_not_survive_a_take_over(network: Lan, layer: SecondLayer) -> None:
    network.vm.run("nft", "add chain netdev vmwarden odd")
    network.vm.run("nft", "add rule netdev vmwarden odd accept")
    layer.close()
    after = SecondLayer(uids, stands_in=stands_in)
    after.install(gate_policy())
    assert "odd" not in network.vm.ruleset()
    assert after.installed()


def test_tables_of_others_are_left_alone_and_nothing_of_ours_stays(network: Lan, layer: SecondLayer) -> None:
    network.vm.run("nft", "add table netdev other")
    layer.remove()
    assert network.vm.ruleset().split() == ["table", "netdev", "other", "{", "}"]
    layer.remove()
    with pytest.raises(ControlFailed):
        layer.lease(1000)


def test_what_happens_to_a_device_is_told_with_its_state(network: Lan) -> None:
    with network.vm.entered():
        events, links = LinkEvents(), Links()
        assert events.read() == ()
        network.vm.run("ip", "link", "set", "eth1", "down")
        told = events.wait(2)
        assert {event.link.name for event in told} == {"eth1"}
        assert not told[-1].link.up
        assert not any(event.gone or event.announce for event in told)
        (eth1,) = (link for link in links.all() if link.name == "eth1")
        assert eth1.kind == "veth"
        assert eth1.elsewhere
        assert not eth1.up
        events.close()
        links.close()
