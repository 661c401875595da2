# SPDX-License-Identifier: Apache-2.0
"""Network time from real chronyds with NTS; the network, or a captured watcher, is the attacker."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from testbed.time_servers import Authority, Certificate, Chronyd, Client, Meddler
from vmwarden.linux.clock import SystemClock
from vmwarden.model.message import Carried
from vmwarden.model.time_servers import TimeServer, TrustedTime
from vmwarden.model.verdict import Answer
from vmwarden.rules.trusted_time import utc
from vmwarden.testing.network import PEER, Lan, lan
from vmwarden.warden.key_establishment import DIAL_MS, START_MS

pytestmark = pytest.mark.root

HONEST, LIARS = ("a.test", "b.test", "c.test"), ("d.test", "e.test")
#: at these addresses nobody is
NOBODY = tuple(TimeServer(name=f"{n}.test", address=f"10.99.0.{n}") for n in (201, 202))
#: by how much both liars are wrong
AHEAD_MS = 3_600_000
#: days from now of the certificates that do not count
DATES = {"old.test": (-400, -300), "young.test": (10, 20)}


class Bed:
    """Three honest servers, two liars that agree (they are one), two whose certificates do not count."""

    def __init__(self, network: Lan, folder: Path, cleanup: ExitStack) -> None:
        self.network = network
        self.authority = Authority(folder)
        self.chronyds: dict[str, Chronyd] = {}
        self.certificates: dict[str, Certificate] = {}
        self._cleanup = cleanup
        for index, names in enumerate((*((name,) for name in HONEST), LIARS, *((name,) for name in DATES))):
            address = f"10.99.0.{11 + index}"
            network.peer.run("ip", "addr", "add", f"{address}/24", "dev", "eth0")
            for name in names:
                begin, end = DATES.get(name, (-1, 30))
                self.certificates[name] = self.authority.issue(name, begin=begin, end=end)
            chronyd = Chronyd(network.peer, folder, address, *(self.certificates[name] for name in names))
            self.chronyds |= dict.fromkeys(names, chronyd)
            cleanup.callback(chronyd.stop)
            chronyd.start()
        self.chronyds[LIARS[0]].lie(AHEAD_MS // 1000)

    def listed(self, name: str, *, at: str = "", keys: tuple[str, ...] = ()) -> TimeServer:
        """at: whose address it has instead of its own."""
        return TimeServer(name=name, address=self.chronyds[at or name].address, keys=keys)

    def trusted(self, *servers: str | TimeServer, authorities: tuple[str, ...] | None = None) -> TrustedTime:
        return TrustedTime(
            servers=tuple(self.listed(one) if isinstance(one, str) else one for one in servers),
            authorities=(self.authority.der,) if authorities is None else authorities,
        )

    def client(self, trusted: TrustedTime, *, meddler: Meddler | None = None, floor_ms: int = 0) -> Client:
        client = Client(self.network.vm, trusted, floor_ms=floor_ms)
        if meddler is not None:
            client.meddler = meddler
        self._cleanup.callback(client.close)
        return client


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    if os.geteuid() != 0:
        pytest.skip("needs root: makes network namespaces")
    with ExitStack() as cleanup:
        yield Bed(cleanup.enter_context(lan()), tmp_path_factory.mktemp("nts"), cleanup)


def ntp(change: Callable[[bytes], bytes | None], to: Callable[[int], bool] = lambda line: True) -> Meddler:
    """Datagrams on those lines are changed, or dropped; streams pass."""

    def meddler(carried: Carried) -> Iterator[tuple[float, Carried]]:
        data: bytes | None = carried.data
        if is_ntp(carried) and to(carried.line):
            data = change(carried.data)
        if data is not None:
            yield 0.0, Carried(line=carried.line, data=data, ended=carried.ended)

    return meddler


def is_ntp(carried: Carried) -> bool:
    """Begins as an answer of NTPv4 does; no record of TLS does (RFC 8446 section 5.1)."""
    return len(carried.data) >= 48 and carried.data[0] & 0x3F == 0x24


def flipped(at: int) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[at] ^= 1
        return bytes(changed)

    return change


def off_ms(client: Client) -> int:
    """By how much its time is beyond this machine's clock, from which the servers have theirs."""
    now = SystemClock().now()
    assert client.time.anchor is not None
    found = utc(now, client.time.anchor, 0)
    assert found is not None
    return found - now.utc_ms


def assert_right(client: Client) -> None:
    assert client.time.anchor is not None
    assert -client.time.anchor.spread_ms - 2 <= off_ms(client) <= 2


def test_two_liars_of_five_are_outvoted(bed: Bed) -> None:
    client = bed.client(bed.trusted("d.test", "a.test", "e.test", "b.test", "c.test"))
    client.round()
    assert client.ids() == {"": "time.agreed"} | dict.fromkeys(LIARS, "time.server.outvoted")
    assert client.time.findings()[0].found == "3 of 5 servers, or more"
    assert_right(client)


def test_two_liars_of_three_win(bed: Bed) -> None:
    """The limit, as docs/reference/trusted-time.md states it: more than half have to be honest."""
    client = bed.client(bed.trusted("d.test", "a.test", "e.test"))
    client.round()
    assert client.ids() == {"": "time.agreed", "a.test": "time.server.outvoted"}
    assert AHEAD_MS - 1500 <= off_ms(client) <= AHEAD_MS


def test_liars_do_not_win_by_silencing_the_honest(bed: Bed) -> None:
    """Whoever owns the network drops the answers of all but the liars."""
    trusted = bed.trusted("d.test", "a.test", "e.test", "b.test", "c.test")
    client = bed.client(trusted)
    client.meddler = ntp(lambda data: data if liar(data) else None)
    client.round()
    expected = dict.fromkeys(HONEST, "time.server.silent")
    assert client.ids() == {"": "time.no-quorum"} | expected
    assert client.time.anchor is None


def liar(data: bytes) -> bool:
    seconds = int.from_bytes(data[40:44], "big") - 2_208_988_800
    return seconds * 1000 - SystemClock().now().utc_ms > AHEAD_MS // 2


STAMP, STRATUM, COOKIES, IDENTIFIER = 43, 1, -1, 60


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([flipped(STAMP), flipped(STRATUM), flipped(COOKIES)], ["forged", "forged", "forged"]),
        ([lambda data: data[:48], flipped(IDENTIFIER), lambda data: None], ["forged", "replayed", "silent"]),
    ],
    ids=["tampered", "stripped"],
)
def test_what_is_not_authentic_is_no_answer(
    bed: Bed, changes: list[Callable[[bytes], bytes | None]], said: list[str]
) -> None:
    left = list(changes)
    client = bed.client(bed.trusted(*HONEST), meddler=ntp(lambda data: left.pop(0)(data)))
    client.round()
    ids = client.ids()
    assert ids.pop("") == "time.no-quorum"
    assert sorted(ids.values()) == sorted(f"time.server.{word}" for word in said)
    assert client.time.findings()[0].answer is Answer.UNKNOWN
    assert client.time.anchor is None


def test_a_forged_answer_does_not_drown_the_true_one(bed: Bed) -> None:
    def both(carried: Carried) -> Iterator[tuple[float, Carried]]:
        if is_ntp(carried):
            yield 0.0, Carried(line=carried.line, data=flipped(43)(carried.data))
            yield 0.0, Carried(line=carried.line, data=carried.data[:48])
        yield 0.01, carried

    client = bed.client(bed.trusted(*HONEST), meddler=both)
    client.round()
    assert client.ids() == {"": "time.agreed"}
    assert_right(client)


def test_old_answers_are_no_answers_to_new_questions(bed: Bed) -> None:
    kept: list[bytes] = []

    def keep(data: bytes) -> bytes:
        kept.append(data)
        return data

    client = bed.client(bed.trusted(*HONEST), meddler=ntp(keep))
    client.round()
    before = client.time.anchor
    assert before is not None
    assert len(kept) == len(HONEST)
    client.meddler = ntp(lambda data: kept.pop(0))
    client.round()
    assert client.ids() == {"": "time.no-quorum"} | dict.fromkeys(HONEST, "time.server.replayed")
    assert client.time.anchor is before


def test_slow_answers_do_not_count_and_do_not_hold_up_the_others(bed: Bed) -> None:
    late: set[int] = set()

    def slow(carried: Carried) -> Iterator[tuple[float, Carried]]:
        # the first question of a round, by its line
        if is_ntp(carried) and (not late or carried.line in late):
            late.add(carried.line)
            yield 0.8, carried
        else:
            yield 0.0, carried

    client = bed.client(bed.trusted(*HONEST), meddler=slow)
    client.until(lambda: client.time.anchor is not None, 10.0)
    assert client.time.wait_ms(SystemClock().now()) > 0
    client.round()
    ids = client.ids()
    assert ids.pop("") == "time.agreed"
    assert list(ids.values()) == ["time.server.slow"]
    assert_right(client)


def test_silent_servers_cost_a_bounded_time(bed: Bed) -> None:
    """Nobody is at that address: not even a connection comes about."""
    client = bed.client(bed.trusted(*NOBODY, *HONEST))
    client.until(lambda: client.time.anchor is not None, 10.0)
    # those that are not there are not waited for
    assert client.ids() == {"": "time.agreed"}
    client.until(lambda: len(client.ids()) > 1, (START_MS + DIAL_MS) / 1000)
    assert client.ids() == {
        "": "time.agreed",
        "201.test": "time.server.unreachable",
        "202.test": "time.server.unreachable",
    }


def test_only_the_right_server_is_one(bed: Bed) -> None:
    pin = bed.certificates["b.test"].pin
    client = bed.client(
        bed.trusted(
            bed.listed("a.test", at="b.test"),
            bed.listed("c.test", keys=(pin,)),
            bed.listed("b.test", keys=("sha256:" + "A" * 43 + "=", pin)),
            "old.test",
            "young.test",
        )
    )
    client.round()
    assert client.ids() == {
        "": "time.no-quorum",
        "a.test": "time.server.name",
        "c.test": "time.server.key",
        "old.test": "time.server.expired",
        "young.test": "time.server.expired",
    }


def test_only_the_authority_that_is_listed_vouches(bed: Bed, tmp_path: Path) -> None:
    other = Authority(tmp_path)  # of the same name, with another key
    client = bed.client(bed.trusted(*HONEST, authorities=(other.der,)))
    client.round()
    assert client.ids() == {"": "time.no-quorum"} | dict.fromkeys(HONEST, "time.server.authority")
    client = bed.client(bed.trusted(*HONEST, authorities=(other.der, bed.authority.der)))
    client.round()
    assert client.ids() == {"": "time.agreed"}


def test_what_the_floor_says_to_be_over_is_over(bed: Bed) -> None:
    """Certificates are good for 30 days; by an earlier stamp it is later than that already."""
    floor_ms = SystemClock().now().utc_ms + 31 * 86_400_000
    client = bed.client(bed.trusted(*HONEST), floor_ms=floor_ms)
    client.round()
    assert client.ids() == {"": "time.no-quorum"} | dict.fromkeys(HONEST, "time.server.expired")


def test_a_server_that_forgot_its_keys_gives_new_ones(bed: Bed) -> None:
    # of three two have to agree, and the third refuses connections: each of the others is needed
    third = TimeServer(name="third.test", address=PEER, port=9)
    client = bed.client(bed.trusted("a.test", "b.test", third))
    client.round()
    chronyd = bed.chronyds["a.test"]
    chronyd.stop()
    chronyd.start()
    for said in ({"": "time.no-quorum", "a.test": "time.server.nak"}, {"": "time.agreed"}):
        client.round()
        assert client.ids() == said | {"third.test": "time.server.unreachable"}
    assert client.handshakes.count("a.test") == 2
    assert client.handshakes.count("b.test") == 1


@pytest.mark.soak  # the rules of it are tried with servers in memory (tests/unit/warden)
def test_a_forged_nak_costs_a_key_establishment_and_no_time(bed: Bed) -> None:
    def nak(data: bytes) -> bytes:
        return data[:1] + b"\0" + data[2:12] + b"NTSN" + data[16:84]

    client = bed.client(bed.trusted(*HONEST), meddler=ntp(nak))
    client.round()
    assert client.ids() == {"": "time.no-quorum"} | dict.fromkeys(HONEST, "time.server.nak")
    client.meddler = ntp(lambda data: data)
    client.round()
    assert client.ids() == {"": "time.agreed"}
