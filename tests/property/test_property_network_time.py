# SPDX-License-Identifier: Apache-2.0
"""The time that several servers agree on: whatever is sent, and whatever a minority says."""

import itertools
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from vmwarden.errors import UntrustedInput
from vmwarden.model.message import CARRIED_BYTES, MESSAGE_BYTES, Carried, Dial
from vmwarden.model.moment import Moment
from vmwarden.model.time_servers import TrustedTime
from vmwarden.ports.tls import Failed, Plain, Proven, Send
from vmwarden.rules import canonical, nts, nts_ke
from vmwarden.rules.time_vote import Bound, bound, quorum, vote
from vmwarden.testing.time_server import SimulatedNetwork, SimulatedServer
from vmwarden.warden.network_time import NetworkTime

KEY, UNIQUE, TRANSMIT = bytes(32), b"u" * 32, 7

_records = st.builds(
    nts_ke.record,
    st.integers(0, 12),
    st.binary(max_size=12) | st.sampled_from([b"\0\0", b"\0\x0f", b"\0\x7b", b"c" * 100]),
    critical=st.booleans(),
)


@settings(max_examples=120, deadline=None)
@given(st.binary(max_size=200) | st.lists(_records, max_size=12).map(b"".join))
def test_reading_records_is_total_and_says_the_same_however_they_arrive(data: bytes) -> None:
    def read(data: bytes) -> object:
        try:
            return nts_ke.read(data)
        except UntrustedInput as error:
            return type(error)

    whole = read(data)
    for cut in range(len(data)):
        part = read(data[:cut])
        # what was decided early stays decided
        assert part is None or part == whole


def _answer(inside: bytes) -> bytes:
    packet = nts.pack(nts.Header(leap=0, version=4, mode=4, stratum=1, origin=TRANSMIT))
    packet += nts.field(nts.UNIQUE_IDENTIFIER, UNIQUE)
    return packet + nts.authenticator(KEY, packet, nonce=b"n" * 16, plaintext=inside)


def _read(data: bytes) -> nts.Answer | None:
    try:
        return nts.read(data, key=KEY, unique=UNIQUE, transmit=TRANSMIT)
    except UntrustedInput:
        return None


@settings(max_examples=120, deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=120))
def test_reading_answers_is_total(data: bytes, tail: bytes) -> None:
    assert _read(data) is None
    _read(_answer(data))  # whatever the server hides in it
    assert _read(_answer(b"")[:84] + tail) is None


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_no_change_before_the_end_of_the_authenticator_goes_unnoticed(data: st.DataObject) -> None:
    answer = _answer(nts.field(nts.COOKIE, b"c" * 100))
    at = data.draw(st.integers(0, len(answer) - 1))
    changed = bytearray(answer)
    changed[at] ^= data.draw(st.integers(1, 255))
    assert _read(bytes(changed)) is None
    assert _read(answer[:at]) is None


@settings(max_examples=120, deadline=None)
@given(st.integers(-(2**41), 2**43), st.integers(-(2**40), 2**40))
def test_an_instant_within_half_an_era_comes_back(unix_ms: int, beside_ms: int) -> None:
    assert nts.milliseconds(nts.timestamp(unix_ms), near_ms=unix_ms + beside_ms) == unix_ms


@st.composite
def _elections(draw: st.DrawFn) -> tuple[int, list[Bound], list[Bound], int]:
    """(servers listed, honest bounds, at most half as many liars, the truth)"""
    listed = draw(st.integers(3, 9))
    liars = draw(st.integers(0, (listed - 1) // 2))
    truth = draw(st.integers(-50, 50))
    honest = [
        Bound(f"h{index}", truth - draw(st.integers(0, 30)), truth + draw(st.integers(0, 30)))
        for index in range(draw(st.integers(0, listed - liars)))
    ]
    lies = []
    for index in range(liars):
        begin = draw(st.integers(-120, 120))
        lies.append(Bound(f"l{index}", begin, begin + draw(st.integers(0, 100))))
    return listed, honest, lies, truth


@settings(max_examples=200, deadline=None)
@given(_elections(), st.randoms(use_true_random=False))
def test_a_minority_of_liars_never_wins(
    election: tuple[int, list[Bound], list[Bound], int], rnd: Any
) -> None:
    listed, honest, lies, truth = election
    every = [*honest, *lies]
    rnd.shuffle(every)
    found = vote(tuple(every), listed=listed)
    if len(honest) >= quorum(listed):
        assert found is not None  # nor can they stop it
    if found is None:
        return
    assert found.earliest_ms <= truth <= found.latest_ms
    assert len(found.agreeing) >= quorum(listed)
    assert {*found.agreeing, *found.outvoted} == {b.server for b in every}
    rnd.shuffle(every)
    assert vote(tuple(every), listed=listed) == found
    # whoever agrees is no further off than the widest bound
    widest = max(b.latest_ms - b.earliest_ms for b in every)
    assert found.latest_ms - found.earliest_ms <= 2 * widest


@settings(max_examples=120, deadline=None)
@given(st.floats(0, 1e6), st.floats(0, 2000), st.floats(0, 1), st.floats(-1e9, 1e9), st.floats(-500, 500))
def test_one_answer_bounds_the_offset(
    sent: float, way: float, when: float, offset: float, wrong: float
) -> None:
    """Milliseconds with fractions, as they pass; all readings are cut off to whole ones."""
    stamp = sent + way * when + offset + wrong
    found = bound(
        "a",
        sent_boot_ms=int(sent // 1),
        received_boot_ms=int((sent + way) // 1),
        stamp_ms=int(stamp // 1),
        root_distance_ms=-int(-abs(wrong) // 1),
    )
    assert found.earliest_ms <= offset + 1e-3
    assert offset - 1e-3 <= found.latest_ms


_said = st.one_of(
    st.builds(Send, st.binary(max_size=40000)),
    st.builds(Plain, st.binary(max_size=200) | st.lists(_records, max_size=6).map(b"".join)),
    st.builds(
        Proven,
        st.binary(max_size=100),
        st.integers(-(2**60), 2**60),
        st.integers(-(2**60), 2**60),
        st.just((bytes(32), bytes(32))),
    ),
    st.builds(Failed, st.sampled_from(["name", "authority", "tls"]), st.text(max_size=20)),
)
_carried = st.builds(
    Carried,
    line=st.integers(1, 12),
    data=st.binary(max_size=100) | st.just(_answer(b"")),
    ended=st.sampled_from(["", "", "so"]),
)


class _Captured:
    """TLS that says anything (a ports.Tls)."""

    def __init__(self, said: list[Any]) -> None:
        self._left = said

    def fileno(self) -> int:
        return 0

    def receive(self, data: bytes) -> None:
        pass

    def say(self, data: bytes) -> None:
        pass

    def said(self) -> tuple[Any, ...]:
        said, self._left[:] = tuple(self._left[:3]), self._left[3:]
        return said

    def close(self) -> None:
        pass


@settings(max_examples=80, deadline=None)
@given(
    st.lists(_carried, max_size=30), st.lists(_said, max_size=30), st.lists(st.integers(0, 7000), max_size=30)
)
def test_nothing_that_a_captured_watcher_or_tls_says_stops_the_warden(
    carried: list[Carried], said: list[Any], waits: list[int]
) -> None:
    servers = tuple(SimulatedServer(f"s{n}.test", f"192.0.2.{n + 1}") for n in range(3))
    time = NetworkTime(
        TrustedTime(servers=tuple(server.listed for server in servers)),
        period_ms=20_000,
        connect=lambda *, name, authorities: _Captured(said),
        random=bytes,
        new_line=itertools.count(1).__next__,
    )
    boot_ms = 1_000
    for message, wait in itertools.zip_longest(carried, waits):
        now = Moment(boot_ms=boot_ms, utc_ms=0, boot_id="b")
        orders = time.step(now, floor_ms=0)
        if message is not None:
            orders += time.hear(message, now, floor_ms=0)
        for order in orders:
            assert len(canonical.encode(order)) <= MESSAGE_BYTES
            assert len(getattr(order, "data", b"")) <= CARRIED_BYTES
        boot_ms += wait or 0
        assert 0 <= time.wait_ms(now) <= 20_000
        assert time.findings()
    assert time.anchor is None  # none of that was an answer


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-(10**7), 10**7), min_size=2, max_size=2), st.integers(0, 400))
def test_two_of_five_change_nothing_but_who_is_outvoted(lies: list[int], late: int) -> None:
    servers = tuple(SimulatedServer(f"s{n}.test", f"192.0.2.{n + 1}") for n in range(5))
    for server, lie in zip(servers, lies, strict=False):
        server.offset_ms = lie
        server.after_ms = late
    network = SimulatedNetwork(*servers)
    time = NetworkTime(
        TrustedTime(servers=tuple(server.listed for server in servers)),
        period_ms=20_000,
        connect=network.connect,
        random=bytes,
        new_line=itertools.count(1).__next__,
    )
    true_ms = 1_795_435_200_000
    for boot_ms in range(600):
        now = Moment(boot_ms=boot_ms, utc_ms=0, boot_id="b")
        network.order(time.step(now, floor_ms=0), now, true_ms=true_ms + boot_ms)
        for message in network.arrived(now):
            network.order(time.hear(message, now, floor_ms=0), now, true_ms=true_ms + boot_ms)
    assert time.anchor is not None
    offset = time.anchor.utc_ms - time.anchor.boot_ms
    assert offset <= true_ms <= offset + time.anchor.spread_ms
    assert time.anchor.spread_ms <= 2 * (late + 3)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_a_dial_is_read_as_it_was_written(data: bytes) -> None:
    dial = Dial(line=1, over="udp", address="192.0.2.1", port=123, data=data)
    assert canonical.decode(canonical.encode(dial), Dial, limit=MESSAGE_BYTES, what="a dial") == dial
