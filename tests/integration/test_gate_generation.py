# SPDX-License-Identifier: Apache-2.0
"""The gate reads its tables again only when the rules have changed: what counts as a change here."""

import pytest

from tests.integration.gate_policy import gate_policy, nft_gate
from vmwarden.linux import nft
from vmwarden.linux.nfnetlink import Connection
from vmwarden.rules.ruleset import ALIVE_TABLE
from vmwarden.testing.network import Lan

pytestmark = pytest.mark.root


def test_a_renewal_is_one_generation_also_over_a_running_lease(network: Lan) -> None:
    with network.vm.entered():
        connection = Connection()
        nft.make_alive(connection, owned=False)
        for milliseconds in (5000, 5000, 4000, 50):
            before = nft.generation(connection)
            nft.renew(connection, milliseconds, guarded=False)
            assert nft.generation(connection) == nft.following(before)
        nft.delete(connection, ALIVE_TABLE)
        connection.close()


def test_the_generation_after_the_largest_is_one() -> None:
    assert nft.following(7) == 8
    assert nft.following(0xFFFF_FFFF) == 1


@pytest.mark.parametrize("renewals", [0, 1, 3])
@pytest.mark.parametrize(
    "change", ["insert rule inet vmwarden judge_in accept", "delete table inet vmwarden", "flush ruleset"]
)
def test_a_change_between_renewals_is_noticed(network: Lan, change: str, renewals: int) -> None:
    with network.vm.entered():
        gate = nft_gate(lasting=False)
        gate.install(gate_policy())
        gate.lease(5000)
        assert gate.installed()
        network.vm.run("nft", change)
        for _ in range(renewals):
            gate.lease(5000)
        assert not gate.installed()
        assert not gate.installed(), "it is told as long as it lasts"


def test_tables_of_others_may_come_and_go(network: Lan) -> None:
    with network.vm.entered():
        gate = nft_gate()
        gate.install(gate_policy())
        for change in ("add table inet other", "delete table inet other"):
            gate.lease(5000)
            network.vm.run("nft", change)
            assert gate.installed()
            gate.flush()
            assert gate.installed()
