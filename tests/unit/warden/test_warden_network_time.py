# SPDX-License-Identifier: Apache-2.0
import itertools
import os

import pytest

from vmwarden.errors import Malformed
from vmwarden.model.message import Carried
from vmwarden.model.moment import Moment
from vmwarden.model.time_servers import TrustedTime
from vmwarden.model.verdict import Answer
from vmwarden.ports.tls import Failed
from vmwarden.rules import nts, nts_ke
from vmwarden.rules.trusted_time import reached, utc
from vmwarden.testing.clock import FakeClock
from vmwarden.testing.time_server import SimulatedNetwork, SimulatedServer, SimulatedTls
from vmwarden.warden.network_time import LEAST_ROUND_MS, NetworkTime

PERIOD_MS = 20_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000


class World:
    """A VM that asks, the servers, and the true time, which runs on while the VM is paused."""

    def __init__(self, count: int = 3, *, period_ms: int = PERIOD_MS) -> None:
        self.clock = FakeClock()
        self.servers = [SimulatedServer(f"s{index}.test", f"192.0.2.{index + 1}") for index in range(count)]
        self.network = SimulatedNetwork(*self.servers)
        self.paused_ms = 0
        self.floor_ms = 0
        self.most_in_tls = 0
        self.begun = 0
        self.time = NetworkTime(
            TrustedTime(servers=tuple(server.listed for server in self.servers)),
            period_ms=period_ms,
            connect=self._connect,
            random=os.urandom,
            new_line=itertools.count(1).__next__,
        )

    def _connect(self, *, name: str, authorities: tuple[bytes, ...]) -> SimulatedTls:
        self.begun += 1
        return self.network.connect(name=name, authorities=authorities)

    @property
    def true_ms(self) -> int:
        return self.clock.now().utc_ms + self.paused_ms

    def run(self, ms: int) -> None:
        """The VM runs for so long; it sleeps exactly as long as wait_ms says."""
        end = self.clock.now().boot_ms + ms
        for _ in range(10_000):
            now = self.clock.now()
            self._order(self.time.step(now, floor_ms=self.floor_ms), now)
            for carried in self.network.arrived(now):
                self._order(self.time.hear(carried, now, floor_ms=self.floor_ms), now)
            coming = self.network.next_ms(now)
            wake = [end, now.boot_ms + self.time.wait_ms(now)] + ([] if coming is None else [coming])
            if now.boot_ms >= end:
                return
            self.clock.advance(max(1, min(wake) - now.boot_ms))
        raise AssertionError("it never sleeps")

    def _order(self, orders: tuple[object, ...], now: Moment) -> None:
        self.most_in_tls = max(self.most_in_tls, len(self.time.descriptors()))
        self.network.order(orders, now, true_ms=self.true_ms)  # type: ignore[arg-type]

    def ids(self) -> dict[str, str]:
        return {finding.source: finding.id for finding in self.time.findings()}

    def off_ms(self) -> int:
        found = utc(self.clock.now(), self.time.anchor, 0)
        assert found is not None
        return found - self.true_ms


def test_three_that_agree_give_the_time_within_their_round_trip() -> None:
    world = World()
    world.servers[1].after_ms = 40
    world.run(1_000)
    assert world.ids() == {"": "time.agreed"}
    anchor = world.time.anchor
    assert anchor is not None
    assert anchor.boot_id == "boot-1"
    assert -anchor.spread_ms <= world.off_ms() <= 0
    assert anchor.spread_ms <= 45


def test_nobody_is_asked_more_often_than_the_period() -> None:
    world = World()
    world.run(10 * PERIOD_MS)
    assert [server.questions for server in world.servers] == [11, 11, 11]
    assert [server.handshakes for server in world.servers] == [1, 1, 1]


def test_keys_are_made_anew_each_day() -> None:
    world = World(period_ms=HOUR_MS)
    world.run(2 * DAY_MS + 3 * HOUR_MS)
    assert [server.handshakes for server in world.servers] == [3, 3, 3]
    assert world.ids() == {"": "time.agreed"}


def test_a_stamp_can_be_had_at_once_but_not_in_a_burst() -> None:
    world = World()
    world.run(5_000)
    for _ in range(3):
        world.time.ask(world.clock.now())
        world.run(100)
    assert world.servers[0].questions == 2
    world.time.ask(world.clock.now())
    world.run(2_000)
    assert world.servers[0].questions == 3


def test_a_slot_is_opened_by_a_stamp_and_not_by_our_own_clock() -> None:
    world = World()
    world.run(1_000)
    start_ms = world.true_ms + 5_000
    world.run(6_000)
    anchor = world.time.anchor
    now = utc(world.clock.now(), anchor, 0)
    assert anchor is not None and now is not None
    assert now >= start_ms
    assert not reached(anchor, start_ms)
    world.time.ask(world.clock.now())
    world.run(1_000)
    assert world.time.anchor is not None
    assert reached(world.time.anchor, start_ms)


@pytest.mark.parametrize("count", [3, 4, 5, 7, 9])
def test_as_many_liars_as_leave_a_majority_are_outvoted(count: int) -> None:
    world = World(count)
    liars = world.servers[: (count - 1) // 2]
    for liar in liars:
        liar.offset_ms = HOUR_MS
    world.run(1_000)
    assert world.ids() == {"": "time.agreed"} | {s.name: "time.server.outvoted" for s in liars}
    assert -5 <= world.off_ms() <= 0


def test_liars_do_not_win_when_the_honest_are_silenced() -> None:
    world = World(5)
    for server in world.servers[:2]:
        server.offset_ms = HOUR_MS
    for server in world.servers[2:]:
        server.change = lambda data: None
    world.run(3_000)
    assert world.time.anchor is None
    assert world.time.findings()[0].id == "time.no-quorum"
    assert world.time.findings()[0].answer is Answer.UNKNOWN


def test_silent_servers_do_not_hold_up_those_that_agree() -> None:
    world = World(5)
    world.servers[0].reachable = False
    world.servers[1].change = lambda data: None
    world.run(50)
    assert world.time.anchor is not None
    world.run(6_000)
    assert world.ids() == {
        "": "time.agreed",
        "s0.test": "time.server.unreachable",
        "s1.test": "time.server.silent",
    }


def test_a_slow_answer_does_not_count() -> None:
    world = World()
    world.servers[0].after_ms = 700
    world.run(5_000)
    assert world.ids() == {"": "time.agreed", "s0.test": "time.server.slow"}
    for server in world.servers:
        server.after_ms = 700
    world.run(2 * PERIOD_MS)
    assert world.ids()[""] == "time.no-quorum"


@pytest.mark.parametrize(
    "header",
    [
        lambda h: h._replace(leap=3),
        lambda h: h._replace(stratum=16),
        lambda h: h._replace(root_dispersion=3 << 16),
        lambda h: h._replace(root_delay=3 << 16),
    ],
    ids=["leap", "stratum", "dispersion", "delay"],
)
def test_a_server_that_does_not_know_the_time_has_no_vote(header: object) -> None:
    world = World()
    world.servers[2].header = header  # type: ignore[assignment]
    world.run(2_000)
    assert world.ids() == {"": "time.agreed", "s2.test": "time.server.unsynchronized"}


def test_the_servers_own_uncertainty_is_part_of_ours() -> None:
    world = World()
    for server in world.servers:
        server.header = lambda h: h._replace(root_dispersion=1 << 14, root_delay=1 << 14)  # 250 ms each
    world.run(2_000)
    assert world.time.anchor is not None
    assert 750 <= world.time.anchor.spread_ms <= 760
    assert world.off_ms() <= -375


def test_a_kiss_is_kept_to_and_forgotten() -> None:
    world = World()
    world.servers[0].kiss = "RATE"
    world.run(PERIOD_MS)
    assert world.ids() == {"": "time.agreed", "s0.test": "time.server.kiss"}
    asked = world.servers[0].questions
    world.run(2 * PERIOD_MS)
    assert world.servers[0].questions == asked
    world.servers[0].kiss = ""
    world.run(6 * PERIOD_MS)
    assert world.ids() == {"": "time.agreed"}
    assert world.servers[0].questions > asked


def test_a_kiss_that_nobody_signed_is_none() -> None:
    """Only NTSN may come without; it costs a key establishment, and the old keys stay meanwhile."""
    world = World()
    world.run(1_000)

    def kiss(code: bytes) -> None:
        for server in world.servers:
            server.change = lambda data: data[:1] + b"\0" + data[2:12] + code + data[16:84]

    kiss(b"DENY")
    world.run(PERIOD_MS)
    assert set(world.ids().values()) == {"time.no-quorum", "time.server.forged"}
    kiss(b"NTSN")
    world.run(5_000)
    assert set(world.ids().values()) == {"time.no-quorum", "time.server.nak"}
    for server in world.servers:
        server.change = lambda data: data
    world.run(PERIOD_MS)
    assert world.ids() == {"": "time.agreed"}
    assert [server.handshakes for server in world.servers] == [2, 2, 2]


def test_a_server_that_forgot_its_keys_is_asked_for_new_ones() -> None:
    world = World()
    world.run(1_000)
    world.servers[0].cookies.clear()
    world.run(2 * PERIOD_MS)
    assert world.ids() == {"": "time.agreed"}
    assert world.servers[0].handshakes == 2


def test_keys_that_worked_are_renewed_at_once() -> None:
    world = World()
    world.run(1_000)
    world.servers[0].cookies.clear()
    for handshakes, refused in ((1, 1), (2, 1)):
        world.time.ask(world.clock.now())
        world.run(3_000)
        assert world.servers[0].handshakes == handshakes
        assert world.servers[0].naks == refused


def test_a_vote_counts_the_stamps_of_its_own_round() -> None:
    world = World()
    world.run(1_000)
    before = world.time.anchor
    for server in world.servers[1:]:
        server.change = lambda data: None
    world.run(PERIOD_MS)
    assert world.ids()[""] == "time.no-quorum"
    assert world.time.anchor is before


def test_servers_that_dawdle_in_tls_do_not_keep_the_others_out() -> None:
    world = World(9)
    for server in world.servers[:4]:
        server.dawdles = True
    world.run(100)
    assert world.time.anchor is not None
    assert world.most_in_tls == 5
    world.run(9_900)
    assert world.ids() == {"": "time.agreed"} | {s.name: "time.server.slow" for s in world.servers[:4]}
    world = World(9)
    world.run(100)
    assert world.most_in_tls <= 5
    assert world.ids() == {"": "time.agreed"}


def test_a_server_that_answers_nak_for_ever_is_asked_more_and_more_rarely() -> None:
    world = World()
    world.servers[0].forgetful = True
    world.run(HOUR_MS)
    # 10 s, 15 s, 22 s, ... 5 min: 180 rounds, and not 180 handshakes
    assert 10 <= world.servers[0].handshakes <= 20
    assert world.servers[1].handshakes == 1


@pytest.mark.parametrize("why", ["tls", "name", "authority"])
def test_a_refusal_of_tls_is_told_by_its_name(why: str) -> None:
    world = World()
    world.servers[0].refuses = Failed(why, "so")  # type: ignore[arg-type]
    world.run(2_000)
    assert world.ids() == {"": "time.agreed", "s0.test": f"time.server.{why}"}


def test_a_key_that_is_not_pinned_has_no_vote() -> None:
    world = World()
    world.servers[0].spki = bytes(91)
    world.run(2_000)
    assert world.ids() == {"": "time.agreed", "s0.test": "time.server.key"}


def test_a_certificate_is_judged_by_what_has_certainly_passed_and_by_its_holders_stamps() -> None:
    world = World(5)
    now = world.true_ms
    expired, early, good, ends, begun = world.servers
    expired.period_ms = (now - 2 * DAY_MS, now - DAY_MS)
    early.period_ms = (now + DAY_MS, now + 2 * DAY_MS)
    good.period_ms = ends.period_ms = begun.period_ms = (now - DAY_MS, now + DAY_MS)
    world.floor_ms = now - DAY_MS + 1
    world.clock.step_utc(0)
    world.run(2_000)
    assert world.ids() == {"": "time.agreed"} | {s.name: "time.server.expired" for s in (expired, early)}
    assert (expired.questions, early.questions) == (0, 1)


def test_whoever_has_an_expired_key_cannot_turn_the_time_back_to_its_days() -> None:
    """Below the floor it is not even heard; above it, its stamps have to lie within its dates."""
    world = World()
    now = world.true_ms
    for server in world.servers:
        server.period_ms, server.offset_ms = (now - 99 * DAY_MS, now - 30 * DAY_MS), -40 * DAY_MS
    world.floor_ms = now - 20 * DAY_MS
    world.run(2_000)
    assert set(world.ids().values()) == {"time.no-quorum", "time.server.expired"}
    assert [server.questions for server in world.servers] == [0, 0, 0]


def test_a_certificate_that_runs_out_takes_the_vote_with_it() -> None:
    world = World()
    world.servers[0].period_ms = (0, world.true_ms + PERIOD_MS + 5_000)
    world.run(PERIOD_MS)
    assert world.ids() == {"": "time.agreed"}
    world.run(PERIOD_MS)
    assert world.ids() == {"": "time.agreed"}
    world.run(2 * PERIOD_MS + 1_000)
    assert world.ids() == {"": "time.agreed", "s0.test": "time.server.expired"}


def test_a_server_that_comes_and_goes_is_not_told_of_each_time() -> None:
    world = World()
    told = []
    for turn in range(20):
        world.servers[0].change = (lambda data: None) if turn % 2 else (lambda data: data)
        world.run(PERIOD_MS)
        told.append(world.ids())
    assert told == [{"": "time.agreed"}] * 20
    world.servers[0].change = lambda data: None
    world.run(3 * PERIOD_MS)
    assert world.ids() == {"": "time.agreed", "s0.test": "time.server.silent"}


def test_after_a_month_of_sleep_new_certificates_are_taken() -> None:
    """What has certainly passed is no upper bound: a VM that was paused must find the time again."""
    world = World()
    for server in world.servers:
        server.period_ms = (world.true_ms - DAY_MS, world.true_ms + DAY_MS)
    world.run(1_000)
    world.paused_ms = 30 * DAY_MS
    for server in world.servers:
        server.period_ms = (world.true_ms - DAY_MS, world.true_ms + DAY_MS)
        server.cookies.clear()
    world.run(5 * PERIOD_MS)
    assert world.ids()[""] == "time.agreed"
    assert -5 <= world.off_ms() <= 0


def test_a_pause_shows_in_the_next_round_and_in_no_other() -> None:
    world = World()
    world.run(1_000)
    world.paused_ms = 30_000
    assert world.off_ms() < -29_000
    world.run(PERIOD_MS)
    assert [f.id for f in world.time.findings()] == ["time.agreed", "time.stalled"]
    assert -5 <= world.off_ms() <= 0
    world.run(PERIOD_MS)
    assert world.ids() == {"": "time.agreed"}


def test_a_time_below_the_floor_is_told() -> None:
    world = World()
    world.floor_ms = world.true_ms + HOUR_MS
    world.run(1_000)
    assert [f.id for f in world.time.findings()] == ["time.agreed", "time.below-floor"]
    assert utc(world.clock.now(), world.time.anchor, world.floor_ms) is None


def test_without_agreement_the_next_round_comes_sooner() -> None:
    world = World()
    for server in world.servers:
        server.change = lambda data: None
    world.run(2_000)
    for server in world.servers:
        server.change = lambda data: data
    world.run(4_000)
    assert world.ids() == {"": "time.agreed"}


def test_a_network_that_is_late_at_boot_costs_seconds() -> None:
    world = World()
    for server in world.servers:
        server.reachable = False
    world.run(5_000)
    for server in world.servers:
        server.reachable = True
    world.run(10_000)
    assert world.ids() == {"": "time.agreed"}


@pytest.mark.parametrize(
    ("records", "said"),
    [
        (nts_ke.record(nts_ke.ERROR, b"\0\1") + nts_ke.record(nts_ke.END), "refused"),
        (nts_ke.record(nts_ke.END), "garbled"),
        (bytes(20_000), "garbled"),
        (b"", "slow"),
    ],
)
def test_key_establishment_that_comes_to_nothing(records: bytes, said: str) -> None:
    world = World()
    world.servers[0].records = records
    world.run(8_000)
    assert world.ids() == {"": "time.agreed", "s0.test": f"time.server.{said}"}


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        (nts_ke.SERVER, b"192.0.2.1", ""),
        (nts_ke.SERVER, b"s0.test", ""),
        (nts_ke.SERVER, b"other.test", "time.server.elsewhere"),
        (nts_ke.PORT, b"\0\x7b", ""),
        (nts_ke.PORT, b"\x10\x1b", "time.server.elsewhere"),
    ],
)
def test_a_server_that_sends_us_elsewhere_is_not_followed(kind: int, body: bytes, said: str) -> None:
    world = World()
    keys = (bytes(32), bytes(32))
    world.servers[0].records = b"".join(
        (
            nts_ke.record(nts_ke.NEXT_PROTOCOL, bytes(2)),
            nts_ke.record(nts_ke.AEAD, b"\0\x0f"),
            nts_ke.record(nts_ke.COOKIE, world.servers[0].cookie(keys)),
            nts_ke.record(kind, body),
            nts_ke.record(nts_ke.END),
        )
    )
    world.run(1_500)
    # the cookie's keys are not those of the handshake: where we are let ask, we get a NAK
    assert world.ids().get("s0.test") == (said or "time.server.nak")


def test_a_watcher_that_is_lost_takes_its_lines_with_it() -> None:
    world = World()
    orders = world.time.step(world.clock.now(), floor_ms=0)
    assert len(orders) == 2  # of three servers one more than may lie
    world.time.lost()
    assert world.time.wait_ms(world.clock.now()) == LEAST_ROUND_MS
    world.run(3_000)
    assert world.ids() == {"": "time.agreed"}


def test_a_watcher_that_connects_ever_again_starts_no_process_each_time() -> None:
    world = World()
    for _ in range(1_000):
        world.network.order(world.time.step(world.clock.now(), floor_ms=0), world.clock.now(), true_ms=0)
        world.time.lost()
        world.clock.advance(10)
    # 10 s, three servers, one handshake in 2 s each
    assert world.begun <= 15
    world.run(5_000)
    assert world.ids() == {"": "time.agreed"}


def test_a_reason_that_cannot_be_printed_is_of_a_captured_watcher() -> None:
    world = World()
    world.run(1)
    with pytest.raises(Malformed):
        world.time.hear(Carried(line=1, ended="\x1b[2J"), world.clock.now(), floor_ms=0)


def test_a_network_that_is_back_after_a_day_is_found_within_a_minute() -> None:
    world = World()
    for server in world.servers:
        server.reachable = False
    world.run(DAY_MS)
    for server in world.servers:
        server.reachable = True
    world.run(64_000 + PERIOD_MS)
    assert world.ids() == {"": "time.agreed"}


def test_asking_in_vain_is_not_asking_without_end() -> None:
    world = World()
    world.run(1_000)
    for server in world.servers:
        server.change = lambda data: None
    before = world.servers[0].questions
    for _ in range(600):
        world.time.ask(world.clock.now())
        world.run(100)
    # 60 s: after 4, 8, 16 and 20 s; without the back-off it would be thirty
    assert world.servers[0].questions - before <= 6


def test_lines_that_nobody_opened_are_ignored() -> None:
    world = World()
    world.run(1_000)
    before = world.time.anchor
    for line in range(1, 20):
        assert world.time.hear(Carried(line=line, data=b"x" * 48), world.clock.now(), floor_ms=0) == ()
    assert world.time.anchor is before


def test_a_captured_watcher_can_delay_and_that_only_widens() -> None:
    world = World()
    for server in world.servers:
        server.after_ms = 400
    world.run(3_000)
    anchor = world.time.anchor
    assert anchor is not None
    assert 400 <= anchor.spread_ms <= 410
    assert -anchor.spread_ms <= world.off_ms() <= 0


def test_the_random_bytes_of_one_question_are_not_those_of_the_next() -> None:
    seen: list[bytes] = []
    world = World()

    def change(data: bytes) -> bytes:
        seen.append(data[24:32])
        return data

    world.servers[0].change = change
    world.run(5 * PERIOD_MS)
    assert len(set(seen)) == len(seen) == 6
    assert nts.UNIQUE_BYTES >= 32
