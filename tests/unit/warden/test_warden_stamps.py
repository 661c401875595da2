# SPDX-License-Identifier: Apache-2.0
import os
from typing import cast

from vmwarden.model.message import MESSAGE_BYTES, Carried, ToWatcher
from vmwarden.model.time_servers import TrustedTime
from vmwarden.rules import canonical
from vmwarden.rules.trusted_time import TimeAnchor
from vmwarden.testing.clock import FakeClock
from vmwarden.testing.time_server import SimulatedNetwork, SimulatedServer
from vmwarden.warden.stamps import Stamps

SERVERS = tuple(SimulatedServer(f"s{index}.test", f"192.0.2.{index + 1}") for index in range(3))
TRUSTED = TrustedTime(servers=tuple(server.listed for server in SERVERS))


_TO_WATCHER = cast("type[ToWatcher]", ToWatcher)


def stamps(network: SimulatedNetwork) -> Stamps:
    return Stamps(connect=network.connect, random=os.urandom)


def agreed(made: Stamps, network: SimulatedNetwork, clock: FakeClock) -> TimeAnchor:
    for _ in range(100):
        now = clock.advance(1)
        for carried in network.arrived(now):
            made.hear(carried, now, floor_ms=0)
        for data in made.orders(now, floor_ms=0):
            order = canonical.decode(data, _TO_WATCHER, limit=MESSAGE_BYTES, what="an order")
            network.order((order,), now, true_ms=now.utc_ms)
    assert made.network is not None
    return made.network


def test_where_no_servers_are_listed_nothing_is_asked() -> None:
    made, clock = stamps(SimulatedNetwork()), FakeClock()
    made.follow(None, period_ms=64_000)
    now = clock.now()
    made.ask(now)
    made.hear(Carried(line=1), now, floor_ms=0)
    made.lost()
    assert made.orders(now, floor_ms=0) == ()
    assert made.descriptors() == ()
    assert made.wait_ms(now, 777) == 777
    assert made.findings(None, now) == ()
    assert not made.listed
    host = TimeAnchor(utc_ms=now.utc_ms, boot_ms=now.boot_ms, boot_id=now.boot_id)
    assert made.best(host, now) is host


def test_the_listed_servers_count_and_a_host_beside_them_is_told() -> None:
    network, clock = SimulatedNetwork(*SERVERS), FakeClock()
    made = stamps(network)
    made.follow(TRUSTED, period_ms=20_000)
    assert made.listed
    anchor = agreed(made, network, clock)
    now = clock.now()
    right = TimeAnchor(utc_ms=now.utc_ms, boot_ms=now.boot_ms, boot_id=now.boot_id, spread_ms=1_000)
    wrong = TimeAnchor(utc_ms=now.utc_ms + 60_000, boot_ms=now.boot_ms, boot_id=now.boot_id)
    assert made.best(wrong, now) is anchor
    assert [f.id for f in made.findings(right, now)] == ["time.agreed"]
    assert [f.id for f in made.findings(None, now)] == ["time.agreed"]
    assert [f.id for f in made.findings(wrong, now)] == ["time.agreed", "time.host-differs"]
    rebooted = clock.reboot("boot-2")
    assert made.best(None, rebooted) is None
    assert [f.id for f in made.findings(wrong, rebooted)] == ["time.agreed"]


def test_the_same_list_goes_on_and_another_begins_anew() -> None:
    network, clock = SimulatedNetwork(*SERVERS), FakeClock()
    made = stamps(network)
    made.follow(TRUSTED, period_ms=20_000)
    anchor = agreed(made, network, clock)
    made.follow(TRUSTED, period_ms=20_000)
    assert made.network is anchor
    made.follow(TRUSTED, period_ms=30_000)
    assert made.best(None, clock.now()) is None
    # lines of the old ones may still be open: none has a number twice
    numbers = [server.questions for server in SERVERS]
    agreed(made, network, clock)
    assert [server.questions for server in SERVERS] == [number + 1 for number in numbers]
    made.follow(None, period_ms=30_000)
    assert made.best(None, clock.now()) is None


def test_orders_do_not_pile_up_and_are_not_for_the_next_watcher() -> None:
    network, clock = SimulatedNetwork(*SERVERS), FakeClock()
    made = stamps(network)
    made.follow(TRUSTED, period_ms=20_000)
    now = clock.now()
    for _ in range(100):
        made.hear(Carried(line=1), now, floor_ms=0)
    made.lost()
    assert made.orders(clock.advance(1), floor_ms=0) == ()
    assert made.wait_ms(clock.now(), 60_000) < 2_000
    made.close()
