# SPDX-License-Identifier: Apache-2.0
"""The simulated host does what its behaviours say, seen through a real channel and the real rule."""

import socket
import time
from pathlib import Path

import pytest

from vmwarden.channels.unix import UnixSocket
from vmwarden.model.evidence import Subject
from vmwarden.model.policy import TrustedHost
from vmwarden.model.statement import Audience, Challenge, StatementReply
from vmwarden.ports.channel import Channel
from vmwarden.rules import canonical
from vmwarden.rules.statement import Admitted, admit
from vmwarden.testing.clock import FakeClock
from vmwarden.testing.host import Behaviour, HostSimulator

ME = Audience(vm="web-1", generation=1)


def ask(channel: Channel, nonce: str) -> None:
    channel.send(canonical.encode(Challenge(aud=ME, nonce=nonce)))


def listen(channel: Channel, count: int = 1, timeout_s: float = 5.0) -> list[bytes]:
    messages: list[bytes] = []
    end = time.monotonic() + timeout_s
    while len(messages) < count and time.monotonic() < end:
        messages += channel.receive()
        time.sleep(0.005)
    return messages


def judged(host: HostSimulator, message: bytes, *nonces: str) -> Admitted:
    return admit(
        canonical.decode(message, StatementReply, limit=16384, what="reply").jws,
        source="unix",
        boot_frozen=False,
        hosts=(TrustedHost(name="h", key=host.public_line),),
        audience=ME,
        nonces=frozenset(nonces),
        now=FakeClock().now(),
        utc_ms=None,
    )


@pytest.mark.parametrize(
    ("behaviour", "finding"),
    [
        (Behaviour.EXPIRED, "statement.expired"),
        (Behaviour.UNKNOWN_KEY, "statement.unknown-key"),
        (Behaviour.OTHER_VM, "statement.other-vm"),
        (Behaviour.OTHER_GENERATION, "statement.other-generation"),
        (Behaviour.REPLAYED, "statement.replayed"),
        (Behaviour.NO_NONCE, "statement.no-nonce"),
    ],
)
def test_what_is_refused(tmp_path: Path, behaviour: Behaviour, finding: str) -> None:
    with HostSimulator(tmp_path / "s", behaviour=behaviour) as host:
        channel = UnixSocket(tmp_path / "s").open()
        for nonce in ("a" * 43, "b" * 43):
            ask(channel, nonce)
            (message,) = listen(channel)
            assert [piece.finding for piece in judged(host, message, nonce).evidence] == [finding]
        channel.close()


@pytest.mark.parametrize(
    ("behaviour", "subject", "value"),
    [
        (Behaviour.HONEST, Subject.COUNTRY, "DE"),
        (Behaviour.WRONG_COUNTRY, Subject.COUNTRY, "US"),
        (Behaviour.WRONG_POSTAL_CODE, Subject.POSTAL_CODE, "99999"),
        (Behaviour.WRONG_TIME_ZONE, Subject.TIME_ZONE, "America/New_York"),
    ],
)
def test_what_is_believed(tmp_path: Path, behaviour: Behaviour, subject: Subject, value: str) -> None:
    with HostSimulator(tmp_path / "s", behaviour=behaviour) as host:
        channel = UnixSocket(tmp_path / "s").open()
        ask(channel, "a" * 43)
        (message,) = listen(channel)
        found = {piece.subject: piece for piece in judged(host, message, "a" * 43).evidence}
        assert found[subject].value == value
        assert host.wait_for_challenges(1, 1)
        channel.close()


def test_what_is_no_answer(tmp_path: Path) -> None:
    with HostSimulator(tmp_path / "s", behaviour=Behaviour.SILENT, pace_s=0.02) as host:
        channel = UnixSocket(tmp_path / "s").open()
        ask(channel, "a" * 43)
        assert listen(channel, timeout_s=0.3) == []
        assert channel.residue() == (0, 0)
        for behaviour in (Behaviour.GARBAGE, Behaviour.OVERSIZED):
            host.behaviour = behaviour
            ask(channel, "a" * 43)
            for message in listen(channel, count=9, timeout_s=0.3):
                assert b'"jws"' not in message
            assert channel.residue()[1] >= 1
        host.behaviour = Behaviour.SLOW
        ask(channel, "a" * 43)
        assert listen(channel, timeout_s=0.5) == []
        assert 5 < channel.residue()[0] < 200
        channel.close()


def test_two_answers_and_two_places(tmp_path: Path) -> None:
    with HostSimulator(tmp_path / "s", behaviour=Behaviour.TWO_ANSWERS) as host:
        channel = UnixSocket(tmp_path / "s").open()
        ask(channel, "a" * 43)
        first, second = listen(channel, count=2)
        assert first == second
        host.behaviour = Behaviour.CONTRADICTING
        countries = set()
        for nonce in ("b" * 43, "c" * 43):
            ask(channel, nonce)
            (message,) = listen(channel)
            found = {piece.subject: piece for piece in judged(host, message, nonce).evidence}
            countries.add(found[Subject.COUNTRY].value)
        assert countries == {"DE", "NL"}
        channel.close()


def test_it_calls_qemu_and_can_be_dropped(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as qemu:
        qemu.bind(str(tmp_path / "q"))
        qemu.listen(1)
        qemu.settimeout(5)
        with HostSimulator(tmp_path / "q", listen=False) as host:
            first, _ = qemu.accept()
            host.drop()
            second, _ = qemu.accept()
            first.settimeout(5)
            assert first.recv(1) == b""
            first.close()
            second.close()


def test_a_static_statement(tmp_path: Path) -> None:
    host = HostSimulator(tmp_path / "unused")
    admitted = admit(
        host.static(ME, country="FR"),
        source="fw_cfg",
        boot_frozen=True,
        hosts=(TrustedHost(name="h", key=host.public_line),),
        audience=ME,
        nonces=frozenset(),
        now=FakeClock().now(),
        utc_ms=int(time.time() * 1000),
    )
    assert {piece.value for piece in admitted.evidence if piece.subject is Subject.COUNTRY} == {"FR"}
