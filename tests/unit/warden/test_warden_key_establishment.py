# SPDX-License-Identifier: Apache-2.0
import pytest

from vmwarden.errors import CommandFailed
from vmwarden.model.message import CARRIED_BYTES, Carried, Carry, Dial, HangUp
from vmwarden.model.moment import Moment
from vmwarden.model.time_servers import TimeServer
from vmwarden.ports.tls import Plain, Said, Send, Tls
from vmwarden.warden.key_establishment import (
    DIAL_MS,
    START_MS,
    TALK_MS,
    KeyEstablishment,
    Trouble,
)

NOW = Moment(boot_ms=1_000, utc_ms=0, boot_id="b")
SERVER = TimeServer(name="ntp.test", address="192.0.2.1", port=4461)


class ScriptedTls:
    """Says what it is given (a ports.Tls)."""

    def __init__(self, *said: Said) -> None:
        self.left = list(said)
        self.received = b""

    def fileno(self) -> int:
        return -1

    def receive(self, data: bytes) -> None:
        self.received += data

    def say(self, data: bytes) -> None:
        raise AssertionError("nothing has been proven")

    def said(self) -> tuple[Said, ...]:
        said, self.left = tuple(self.left), []
        return said

    def close(self) -> None:
        self.left = []


def begun(tls: Tls) -> KeyEstablishment:
    establishment = KeyEstablishment(
        SERVER, authorities=("QQ==",), line=7, connect=lambda *, name, authorities: tls
    )
    assert establishment.due_ms is None
    establishment.begin(NOW)
    return establishment


def dialed(tls: ScriptedTls) -> KeyEstablishment:
    """TLS has said hello, and the connection stands."""
    tls.left.insert(0, Send(b"hello"))
    establishment = begun(tls)
    dial = Dial(line=7, over="tcp", address="192.0.2.1", port=4461, data=b"hello")
    assert establishment.go_on(NOW, at_least_ms=0) == (dial,)
    establishment.hear(Carried(line=7), NOW)
    return establishment


def test_what_tls_sends_is_carried_in_pieces_that_a_message_may_have() -> None:
    establishment = begun(ScriptedTls(Send(b"a" * (CARRIED_BYTES + 1)), Send(b"b")))
    orders = establishment.go_on(NOW, at_least_ms=0)
    assert orders == (
        Dial(line=7, over="tcp", address="192.0.2.1", port=4461, data=b"a" * CARRIED_BYTES),
        Carry(line=7, data=b"a"),
        Carry(line=7, data=b"b"),
    )


def test_a_server_that_says_too_much_is_not_listened_to() -> None:
    tls = ScriptedTls()
    establishment = dialed(tls)
    for _ in range(9):
        establishment.hear(Carried(line=7, data=bytes(CARRIED_BYTES)), NOW)
    assert establishment.outcome == Trouble("time.server.tls", "it says too much")
    assert len(tls.received) == 1 << 16
    assert establishment.close() == HangUp(line=7)


def test_nothing_is_read_before_it_is_known_who_speaks() -> None:
    establishment = begun(ScriptedTls(Plain(b"")))
    establishment.go_on(NOW, at_least_ms=0)
    assert establishment.outcome == Trouble("time.server.tls", "it speaks before it is known")


def test_a_process_that_cannot_be_started_is_told() -> None:
    def connect(*, name: str, authorities: tuple[bytes, ...]) -> Tls:
        assert (name, authorities) == ("ntp.test", (b"A",))
        raise CommandFailed("TLS cannot be started: Resource temporarily unavailable")

    establishment = KeyEstablishment(SERVER, authorities=("QQ==",), line=7, connect=connect)
    establishment.begin(NOW)
    assert isinstance(establishment.outcome, Trouble)
    assert establishment.outcome.id == "time.server.tls"


@pytest.mark.parametrize("ended", ["", "gone"])
def test_what_came_before_the_end_is_still_looked_at(ended: str) -> None:
    establishment = dialed(ScriptedTls())
    establishment.hear(Carried(line=7, data=b"last words", ended=ended), NOW)
    establishment.go_on(NOW, at_least_ms=0)
    assert establishment.outcome is None
    later = Moment(boot_ms=NOW.boot_ms + 1_000, utc_ms=0, boot_id="b")
    establishment.go_on(later, at_least_ms=0)
    assert establishment.outcome == (Trouble("time.server.tls", "gone") if ended else None)


def at(ms: int) -> Moment:
    return Moment(boot_ms=NOW.boot_ms + ms, utc_ms=0, boot_id="b")


def outcome(establishment: KeyEstablishment, now: Moment) -> object:
    establishment.go_on(now, at_least_ms=0)
    return establishment.outcome


def test_each_stretch_has_its_bound() -> None:
    mute = begun(ScriptedTls())
    assert outcome(mute, at(START_MS - 1)) is None
    assert outcome(mute, at(START_MS)) == Trouble("time.server.tls", "TLS does not begin within 8 s")

    nobody = begun(ScriptedTls(Send(b"hello")))
    assert len(nobody.go_on(at(START_MS - 1), at_least_ms=0)) == 1
    assert outcome(nobody, at(START_MS - 1 + DIAL_MS - 1)) is None
    assert outcome(nobody, at(START_MS - 1 + DIAL_MS)) == Trouble(
        "time.server.unreachable", "no connection within 4 s"
    )

    slow = dialed(ScriptedTls())
    assert outcome(slow, at(TALK_MS - 1)) is None
    assert outcome(slow, at(TALK_MS)) == Trouble("time.server.slow", "key establishment takes more than 5 s")


def test_a_connection_that_does_not_come_about() -> None:
    establishment = begun(ScriptedTls(Send(b"hello")))
    establishment.go_on(NOW, at_least_ms=0)
    establishment.hear(Carried(line=7, ended="connection failed: ECONNREFUSED"), NOW)
    assert establishment.outcome == Trouble("time.server.unreachable", "connection failed: ECONNREFUSED")
    assert not establishment.stood
