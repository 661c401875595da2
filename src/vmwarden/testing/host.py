# SPDX-License-Identifier: Apache-2.0
"""A host in a thread, honest or not, behind a unix socket as QEMU's chardev knows it."""

import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vmwarden.errors import UntrustedInput
from vmwarden.model.statement import Audience, Challenge, HostStatement, Label, StatementReply
from vmwarden.rules import canonical, jws
from vmwarden.rules.frame import MESSAGE_BYTES, Receiver, frame
from vmwarden.rules.statement import issue

_TICK_S = 0.05
_ANSWER_SECONDS = 120


class Behaviour(StrEnum):
    """How the host answers a challenge.

    expired: over when it was issued.  replayed: its first answer ever, again.  no-nonce: a static statement.
    contradicting: one place in one answer, another in the next.  two-answers: the same, twice.
    slow: one byte, then pace_s of silence.  oversized: an answer longer than a message may be.
    """

    HONEST = "honest"
    WRONG_COUNTRY = "wrong-country"
    WRONG_POSTAL_CODE = "wrong-postal-code"
    WRONG_TIME_ZONE = "wrong-time-zone"
    EXPIRED = "expired"
    UNKNOWN_KEY = "unknown-key"
    OTHER_VM = "other-vm"
    OTHER_GENERATION = "other-generation"
    REPLAYED = "replayed"
    NO_NONCE = "no-nonce"
    SILENT = "silent"
    CONTRADICTING = "contradicting"
    GARBAGE = "garbage"
    SLOW = "slow"
    OVERSIZED = "oversized"
    TWO_ANSWERS = "two-answers"


class HostSimulator:
    """Answers challenges on path until stopped; use it as a context manager.

    behaviour, facts: may be set at any time; they hold from the next challenge on.  facts are fields of
    HostStatement.  listen: make the socket and let QEMU connect to it; otherwise connect to QEMU's.
    clock_offset_s: how far this host's clock is from the machine's.  challenges: all that arrived, in order.
    answered: when each answer began to go out (nanoseconds of CLOCK_REALTIME), and how the host behaved.
    """

    def __init__(
        self,
        path: Path,
        *,
        key: Ed25519PrivateKey | None = None,
        listen: bool = True,
        behaviour: Behaviour = Behaviour.HONEST,
        facts: dict[str, Any] | None = None,
        pace_s: float = 1.0,
        clock_offset_s: int = 0,
    ) -> None:
        self.key = key or Ed25519PrivateKey.generate()
        self.behaviour = behaviour
        self.facts: dict[str, Any] = {
            "host_id": "host-7",
            "host_name": "rack-7.example",
            "country": "DE",
            "subdivision": "DE-HE",
            "city": "Frankfurt am Main",
            "postal_code": "60311",
            "time_zone": "Europe/Berlin",
            "hypervisor": "qemu",
            "compliance": (Label(name="iso27001", until=2**33),),
        } | (facts or {})
        self.pace_s = pace_s
        self.clock_offset_s = clock_offset_s
        self.challenges: list[Challenge] = []
        self.answered: list[tuple[int, Behaviour]] = []
        self._path = path
        self._listen = listen
        self._first: bytes | None = None
        self._dropped = 0
        self._heard = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="host-simulator", daemon=True)

    @property
    def public_line(self) -> str:
        """For trust.hosts of a policy."""
        return jws.public_key(self.key).line

    def __enter__(self) -> "HostSimulator":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """With listen the socket is there when this returns.  Raises OSError."""
        self._listener = self._bind() if self._listen else None
        self._thread.start()

    def stop(self) -> None:
        """Closes every socket and waits for the thread."""
        self._stop.set()
        self._thread.join(timeout=5)
        if self._listener is not None:
            self._listener.close()
            self._path.unlink(missing_ok=True)

    def drop(self) -> None:
        """End the connection that stands, as a restart of the companion does."""
        self._dropped += 1

    def wait_for_challenges(self, count: int, timeout_s: float) -> bool:
        """True once so many have arrived in all."""
        with self._heard:
            return self._heard.wait_for(lambda: len(self.challenges) >= count, timeout_s)

    def static(self, audience: Audience, *, valid_for_s: int = 86_400, **changes: Any) -> str:
        """A static statement by this host, for fw_cfg or OEM strings.  changes: fields of HostStatement."""
        return issue(self._statement(audience, nonce=None, life_s=valid_for_s, **changes), self.key)

    def _statement(
        self, audience: Audience, *, nonce: str | None, life_s: int, **changes: Any
    ) -> HostStatement:
        now = int(time.time()) + self.clock_offset_s  # noqa: TID251 - a host has a clock of its own
        made = HostStatement(aud=audience, iat=now, exp=now + life_s, nonce=nonce, **self.facts)
        return msgspec.structs.replace(made, **changes)

    def _answers(self, challenge: Challenge) -> Iterator[bytes]:
        """Bytes to send, piece by piece."""
        changes: dict[str, Any] = {}
        key = self.key
        match self.behaviour:
            case Behaviour.SILENT:
                return
            case Behaviour.GARBAGE:
                yield os.urandom(512) + b"\n{}\n" + b'{"type":"statement"}\n'
                return
            case Behaviour.OVERSIZED:
                yield b'\n{"jws":"' + b"A" * (MESSAGE_BYTES + 1) + b'"}\n'
                return
            case Behaviour.REPLAYED if self._first is not None:
                yield frame(self._first)
                return
            case Behaviour.REPLAYED:
                changes["nonce"] = "R" * 43
            case Behaviour.NO_NONCE:
                changes["nonce"] = None
            case Behaviour.EXPIRED:
                changes["exp"] = int(time.time()) - 60  # noqa: TID251 - a host has a clock of its own
            case Behaviour.UNKNOWN_KEY:
                key = Ed25519PrivateKey.generate()
            case Behaviour.OTHER_VM:
                changes["aud"] = Audience(vm="another-vm", generation=challenge.aud.generation)
            case Behaviour.OTHER_GENERATION:
                changes["aud"] = Audience(vm=challenge.aud.vm, generation=challenge.aud.generation + 1)
            case Behaviour.WRONG_COUNTRY:
                changes |= {"country": "US", "subdivision": "US-VA"}
            case Behaviour.WRONG_POSTAL_CODE:
                changes["postal_code"] = "99999"
            case Behaviour.WRONG_TIME_ZONE:
                changes["time_zone"] = "America/New_York"
            case Behaviour.CONTRADICTING if len(self.challenges) % 2 == 0:
                changes |= {"country": "NL", "subdivision": None, "postal_code": "1012 AB"}
            case _:
                pass
        said = self._statement(challenge.aud, nonce=challenge.nonce, life_s=_ANSWER_SECONDS)
        reply = canonical.encode(StatementReply(jws=issue(msgspec.structs.replace(said, **changes), key)))
        self._first = self._first or reply
        sent = frame(reply)
        if self.behaviour is Behaviour.SLOW:
            yield from (bytes([byte]) for byte in sent)
        else:
            yield sent * (2 if self.behaviour is Behaviour.TWO_ANSWERS else 1)

    def _bind(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self._path))
        listener.listen(4)
        return listener

    def _run(self) -> None:
        while not self._stop.is_set():
            dropped = self._dropped  # before there is a connection that drop could mean
            sock = self._connected()
            if sock is None:
                self._stop.wait(_TICK_S)
                continue
            with sock:
                try:
                    self._talk(sock, dropped)
                except OSError:
                    pass  # the guest went away; wait for the next one

    def _connected(self) -> socket.socket | None:
        if self._listener is not None:
            if not select.select([self._listener], [], [], _TICK_S)[0]:
                return None
            return self._listener.accept()[0]
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(str(self._path))
        except OSError:
            sock.close()
            return None
        return sock

    def _talk(self, sock: socket.socket, dropped: int) -> None:
        receiver = Receiver()
        sock.settimeout(5)
        while not self._stop.is_set() and dropped == self._dropped:
            if not select.select([sock], [], [], _TICK_S)[0]:
                continue
            data = sock.recv(65536)
            if not data:
                return
            for message in receiver.feed(data):
                self._hear(sock, message)

    def _hear(self, sock: socket.socket, message: bytes) -> None:
        try:
            challenge = canonical.decode(message, Challenge, limit=MESSAGE_BYTES, what="challenge")
        except UntrustedInput:
            return
        with self._heard:
            self.challenges.append(challenge)
            self._heard.notify_all()
        behaviour = self.behaviour
        for number, piece in enumerate(self._answers(challenge)):
            if not number:
                self.answered.append((time.time_ns(), behaviour))
            sock.sendall(piece)
            if self.behaviour is Behaviour.SLOW and self._stop.wait(self.pace_s):
                return
