# SPDX-License-Identifier: Apache-2.0
"""The watcher: unprivileged, looks outside, decides nothing."""

import select
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from vmwarden.errors import ChannelDown, UntrustedInput, WorldError
from vmwarden.linux.sockets import connect
from vmwarden.model.message import MESSAGE_BYTES, Gather, Gathered, ToWarden, ToWatcher
from vmwarden.model.statement import Challenge
from vmwarden.ports.channel import Channel, Way
from vmwarden.ports.clock import Clock
from vmwarden.ports.source import Source
from vmwarden.ports.tree import Tree
from vmwarden.rules import canonical
from vmwarden.watcher.conversation import Conversation
from vmwarden.watcher.gather import gather
from vmwarden.watcher.relay import Relay

#: between attempts to reach the warden
_RETRY_MS = 500
#: longest sleep of the loop while a question is open: overdue answers are told this late at most
_TICK_MS = 500
#: and while none is: the warden's orders, the host's words and stop end it at once
_IDLE_MS = 60_000
#: a send that takes longer means that the warden is stopped; it will be found gone or running again
_SEND_TIMEOUT_S = 2.0


_TO_WATCHER = cast("type[ToWatcher]", ToWatcher)


class _Line:
    """A way with its open channel and what was said on it."""

    def __init__(self, way: Way) -> None:
        self.way = way
        self.channel: Channel | None = None
        self.talk = Conversation(way.name)
        self.deaf_until_ms = 0
        self.why_not = ""

    def close(self) -> None:
        if self.channel is not None:
            self.channel.close()
            self.channel = None


class Watcher:
    """One connection to the warden, some channels to the host."""

    def __init__(
        self,
        *,
        warden: Path,
        sources: Sequence[Source],
        tree: Tree,
        ways: Sequence[Way],
        clock: Clock,
    ) -> None:
        self._warden = warden
        self._sources = sources
        self._tree = tree
        self._clock = clock
        self._lines = tuple(_Line(way) for way in ways)
        self._running = True
        self._turn = 0
        self._waiting = 0
        self._stopped, self._wake = socket.socketpair()
        self._wake.setblocking(False)

    def stop(self) -> None:
        """Ends run after the current step, also from a signal handler or another thread."""
        self._running = False
        try:
            self._wake.send(b".")
        except BlockingIOError:
            pass  # full: it has been told before

    def run(self) -> None:
        """Serve the warden until stop; a lost warden is looked for again.  Raises nothing of the world."""
        signal.signal(signal.SIGTERM, lambda *_: self.stop())
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        while self._running:
            try:
                link = connect(self._warden, kind=socket.SOCK_SEQPACKET, timeout_s=_SEND_TIMEOUT_S)
            except WorldError:
                self._pause()
                continue
            with link:
                try:
                    self._serve(link)
                except OSError:
                    self._pause()

    def _pause(self) -> None:
        poll = select.poll()
        poll.register(self._stopped, select.POLLIN)
        poll.poll(_RETRY_MS)

    def _serve(self, link: socket.socket) -> None:
        relay = Relay(lambda carried: self._tell(link, carried))
        try:
            self._serve_with(link, relay)
        finally:
            relay.close()

    def _serve_with(self, link: socket.socket, relay: Relay) -> None:
        while self._running:
            now = self._clock.now()
            poll = select.poll()
            poll.register(link, select.POLLIN)
            poll.register(self._stopped, select.POLLIN)
            listening = {}
            for line in self._lines:
                if line.talk.waiting:
                    self._open(line)
                if line.channel is not None and line.deaf_until_ms <= now.boot_ms:
                    listening[line.channel.fileno()] = line
                    poll.register(line.channel.fileno(), select.POLLIN)
            relay.register(poll)
            idle_ms = _TICK_MS if self._open_questions() else _IDLE_MS
            wait_ms = relay.wait_ms(now)
            for fileno, event in poll.poll(idle_ms if wait_ms is None else min(idle_ms, wait_ms)):
                if fileno == self._stopped.fileno():
                    return
                if fileno == link.fileno():
                    if not self._hear_warden(link, relay):
                        return
                elif fileno not in listening:
                    relay.ready(fileno)
                elif event & select.POLLIN:
                    self._hear_host(link, listening[fileno])
                else:
                    # virtio-serial reports a hang-up for as long as nobody listens on the host: do not spin
                    listening[fileno].deaf_until_ms = now.boot_ms + _TICK_MS
            self._tell_overdue(link)
            relay.overdue(self._clock.now())
            if self._waiting != (waiting := self._open_questions()):
                self._waiting = waiting
                self._tell(link, Gathered(turn=self._turn, waiting=waiting))

    def _open_questions(self) -> int:
        return sum(line.talk.waiting for line in self._lines)

    def _open(self, line: _Line) -> None:
        if line.channel is None:
            try:
                line.channel = line.way.open()
            except ChannelDown as error:
                line.why_not = str(error)  # said in _challenge, when somebody asks

    def _hear_warden(self, link: socket.socket, relay: Relay) -> bool:
        data = link.recv(MESSAGE_BYTES)
        if not data:
            return False
        try:
            order = canonical.decode(data, _TO_WATCHER, limit=MESSAGE_BYTES, what="the warden's order")
        except UntrustedInput:
            # the warden is newer or older than we are: whoever upgrades restarts both
            return False
        if not isinstance(order, Gather):
            relay.order(order, self._clock.now())
            return True
        if order.challenge is not None:
            for line in self._lines:
                self._challenge(link, line, order.challenge, turn=order.turn)
        for message in gather(self._sources, self._tree, turn=order.turn, now=self._clock.now()):
            self._tell(link, message)
        self._turn, self._waiting = order.turn, self._open_questions()
        self._tell(link, Gathered(turn=order.turn, waiting=self._waiting))
        return True

    def _challenge(self, link: socket.socket, line: _Line, challenge: Challenge, *, turn: int) -> None:
        now = self._clock.now()
        self._open(line)
        _, garbage = (0, 0) if line.channel is None else line.channel.residue()
        message = line.talk.ask(challenge, turn=turn, now=now, garbage=garbage)
        if line.channel is None:
            self._tell(link, line.talk.absent(line.why_not, "channel.absent", now))
            return
        line.deaf_until_ms = 0
        try:
            line.channel.send(message)
        except ChannelDown as error:
            line.close()
            self._tell(link, line.talk.absent(str(error), "channel.down", now))

    def _hear_host(self, link: socket.socket, line: _Line) -> None:
        if line.channel is None:
            return
        try:
            messages = line.channel.receive()
        except ChannelDown:
            line.close()
            return
        for message in messages:
            statement = line.talk.hear(message)
            if statement is not None:
                self._tell(link, statement)

    def _tell_overdue(self, link: socket.socket) -> None:
        for line in self._lines:
            unfinished, garbage = (0, 0) if line.channel is None else line.channel.residue()
            overdue = line.talk.overdue(self._clock.now(), unfinished=unfinished, garbage=garbage)
            if overdue is not None:
                self._tell(link, overdue)

    def _tell(self, link: socket.socket, message: ToWarden) -> None:
        data = canonical.encode(message)
        if len(data) <= MESSAGE_BYTES:
            link.send(data)
