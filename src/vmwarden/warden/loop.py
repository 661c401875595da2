# SPDX-License-Identifier: Apache-2.0
"""The warden's event loop: sockets, signals, timers.  One thread; every wait has a bound."""

import contextlib
import select
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from vmwarden.errors import CommandFailed, JournalError, UntrustedInput
from vmwarden.linux.child import Child
from vmwarden.linux.notify import notify
from vmwarden.linux.sockets import listen, peer
from vmwarden.model.control import REQUEST_BYTES, Request
from vmwarden.model.handover import Handover
from vmwarden.model.message import MESSAGE_BYTES
from vmwarden.ports.clock import Clock
from vmwarden.rules import canonical
from vmwarden.warden.warden import Warden

#: how long the watcher is heard before timers and the owner are looked at again; if it has still something to
#: say it waits as long: a flood must starve neither the lease nor the rest of the VM
_HEAR_MS = 100
#: clients of the control socket at a time, and how long one may dawdle
_CLIENTS = 16
_CLIENT_MS = 60_000
#: before a watcher that ended is started again
_RESPAWN_MS = 300


@dataclass
class _Client:
    """A connection to the control socket."""

    sock: socket.socket
    born_ms: int
    buffer: bytes = b""
    waiting: bool = field(default=False)
    answer: memoryview = field(default=memoryview(b""))


class Loop:
    """Runs a Warden until SIGTERM."""

    def __init__(
        self,
        warden: Warden,
        *,
        clock: Clock,
        watcher_path: Path,
        control_path: Path,
        watcher_uid: int,
        watcher_command: tuple[str, ...] | None,
        say: Callable[[str], None],
        owner_uid: int,
        until_boot_ms: int | None = None,
        handover: Handover | None = None,
    ) -> None:
        """watcher_uid: who may be the watcher, besides owner_uid.  watcher_command: arguments of
        vmwarden that start one; None = somebody else does.  until_boot_ms: stop then (for trials);
        None = SIGTERM.  handover: of the program that was this process before.
        Raises WorldError where the sockets cannot be made."""
        self._warden = warden
        self._clock = clock
        self._say = say
        self._allowed = frozenset((watcher_uid, owner_uid))
        self._owner_uid = owner_uid
        self._until = until_boot_ms
        self._command = watcher_command
        self._child: Child | None = None
        self._respawn_at_ms = 0
        self._watcher: socket.socket | None = None
        self._deaf_until_ms = 0
        self._clients: dict[int, _Client] = {}
        self._paths = (watcher_path, control_path)
        self._watchers = listen(watcher_path, kind=socket.SOCK_SEQPACKET, mode=0o600, uid=watcher_uid)
        self._control = listen(control_path, kind=socket.SOCK_STREAM, mode=0o600)
        self._wake, self._woken = socket.socketpair(type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        #: CLOCK_BOOTTIME of the next tick, whatever else happens
        self._due_ms = 0
        self._handover = handover
        self._running = True
        self._reload = False
        self._restart = False

    def run(self) -> Handover | None:
        """Until SIGTERM or SIGINT, or until it was asked to restart: then what the successor needs.

        The watcher that was started here ends with it.
        """
        signal.set_wakeup_fd(self._woken.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGINT, self._on_stop)
        signal.signal(signal.SIGHUP, self._on_reload)
        try:
            # it loads its modules while the first records are put on disk
            self._keep_child(self._clock.now().boot_ms)
            self._warden.start(self._handover)
            notify("READY=1")
            while self._running:
                self._step()
            return self._warden.hand_over() if self._restart else None
        finally:
            if not self._restart:
                notify("STOPPING=1")
                self._warden.stop()
            if self._child is not None:
                self._child.stop()
            for path in self._paths:
                path.unlink(missing_ok=True)

    def _on_stop(self, *_: object) -> None:
        self._running = False

    def _on_reload(self, *_: object) -> None:
        self._reload = True

    def _step(self) -> None:
        now = self._clock.now()
        if self._until is not None and now.boot_ms >= self._until:
            self._running = False
            return
        self._keep_child(now.boot_ms)
        poll = select.poll()
        deaf_ms = self._deaf_until_ms - now.boot_ms
        for sock in (self._watchers, self._control, self._wake, None if deaf_ms > 0 else self._watcher):
            if sock is not None:
                poll.register(sock, select.POLLIN)
        for client in self._clients.values():
            poll.register(client.sock, select.POLLOUT if client.answer else select.POLLIN)
        gate = self._warden.gate_filenos()
        for fileno in gate:
            poll.register(fileno, select.POLLIN)
        for fileno in self._warden.time_filenos():
            poll.register(fileno, select.POLLIN)
        timeout = self._warden.time_in_ms(now, min(max(0, self._due_ms - now.boot_ms), 1_000))
        if self._watcher is not None:
            timeout = min(timeout, self._warden.gather_in_ms(now))
        if deaf_ms > 0:
            timeout = min(timeout, deaf_ms)
        ready = {fileno for fileno, _ in poll.poll(timeout)}
        if self._wake.fileno() in ready:
            with contextlib.suppress(BlockingIOError):
                self._wake.recv(4096)
        if ready.intersection(gate):
            matters = self._warden.gate_event()
            if not matters and ready.issubset(gate) and self._clock.now().boot_ms < self._due_ms:
                return  # programs that change their own rules all day must not make us judge all day
        if self._reload:
            self._reload = False
            self._warden.reload()
        if self._watcher is not None and self._watcher.fileno() in ready:
            self._hear_watcher(self._watcher)
        if self._watchers.fileno() in ready:
            self._accept_watcher()
        if self._control.fileno() in ready:
            self._accept_client(now.boot_ms)
        for client in list(self._clients.values()):
            if client.sock.fileno() in ready:
                if client.answer:
                    self._write(client)
                else:
                    self._hear_client(client)
        self._warden.tick()
        self._due_ms = self._clock.now().boot_ms + self._warden.tick_ms()
        self._order()
        self._answer_waiting(self._clock.now().boot_ms)
        notify("WATCHDOG=1")

    # -- the watcher -----------------------------------------------------------------------------

    def _keep_child(self, now_ms: int) -> None:
        if self._command is None:
            return
        if self._child is not None:
            code = self._child.ended()
            if code is None:
                return
            self._child = None
            self._respawn_at_ms = now_ms + _RESPAWN_MS
            self._say(f"the watcher ended with status {code}; starting it again")
        if now_ms >= self._respawn_at_ms:
            try:
                self._child = Child(self._command)
            except CommandFailed as error:
                self._respawn_at_ms = now_ms + _RESPAWN_MS
                self._say(str(error))

    def _accept_watcher(self) -> None:
        try:
            sock, _ = self._watchers.accept()
        except OSError:
            return
        sock.setblocking(False)
        uid = peer(sock).uid
        if uid not in self._allowed:
            self._say(f"uid {uid} is no watcher: refused")
            sock.close()
            return
        if self._watcher is not None:
            # the old one may be stopped and never answer again; the newer one is the living one
            self._drop_watcher("another watcher connected")
        self._watcher = sock
        self._warden.watcher_connected()

    def _hear_watcher(self, sock: socket.socket) -> None:
        begun = now = self._clock.now().boot_ms
        while now - begun < _HEAR_MS:
            try:
                data = sock.recv(MESSAGE_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                self._drop_watcher(error.strerror or str(error))
                return
            if not data:
                self._drop_watcher("it closed the connection")
                return
            try:
                self._warden.receive(data)
            except UntrustedInput as error:
                self._drop_watcher(f"it sent what it must not: {error}")
                return
            now = self._clock.now().boot_ms
        self._deaf_until_ms = now + (now - begun)

    def _drop_watcher(self, why: str) -> None:
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None
            self._warden.watcher_lost(why)

    def _order(self) -> None:
        if self._watcher is None:
            return
        order = self._warden.gather()
        for data in (*(() if order is None else (order,)), *self._warden.time_orders()):
            try:
                self._watcher.send(data)
            except BlockingIOError:
                pass  # it is stopped: its evidence ages, and the next order comes
            except OSError as error:
                self._drop_watcher(error.strerror or str(error))
                return

    # -- the control socket ----------------------------------------------------------------------

    def _accept_client(self, now_ms: int) -> None:
        try:
            sock, _ = self._control.accept()
        except OSError:
            return
        sock.setblocking(False)
        if peer(sock).uid not in (0, self._owner_uid) or len(self._clients) >= _CLIENTS:
            sock.close()
            return
        self._clients[sock.fileno()] = _Client(sock=sock, born_ms=now_ms)

    def _hear_client(self, client: _Client) -> None:
        try:
            data = client.sock.recv(REQUEST_BYTES)
        except BlockingIOError:
            return  # it was another socket of the same number that had something to say
        except OSError:
            data = b""
        client.buffer += data
        if not data or len(client.buffer) > REQUEST_BYTES:
            self._end_client(client)
            return
        if b"\n" not in client.buffer:
            return
        line = client.buffer.partition(b"\n")[0]
        try:
            request = canonical.decode(line, Request, limit=REQUEST_BYTES, what="the request")
        except UntrustedInput as error:
            self._answer(client, {"errors": [problem._asdict() for problem in error.problems]})
            return
        try:
            self._serve(client, request)
        except JournalError as error:
            self._answer(client, {"errors": [{"message": str(error)}]})

    def _serve(self, client: _Client, request: Request) -> None:
        match request.request:
            case "status":
                self._answer(client, self._warden.status())
            case "settled":
                client.waiting = True
            case "reload":
                self._warden.reload()
                self._answer(client, self._warden.status())
            case "restart":
                self._answer(client, self._warden.status())
                self._restart, self._running = True, False
            case "checkpoint":
                self._answer(client, {"note": self._warden.checkpoint()})

    def _answer_waiting(self, now_ms: int) -> None:
        status = None
        for client in list(self._clients.values()):
            if client.waiting:
                status = status or self._warden.status()
                if status.settled:
                    self._answer(client, status)
                    continue
            if now_ms - client.born_ms > _CLIENT_MS:
                self._end_client(client)

    def _answer(self, client: _Client, document: object) -> None:
        # a policy of many places makes a status that no buffer of the kernel takes at once
        client.waiting = False
        client.answer = memoryview(msgspec.json.encode(document) + b"\n")
        self._write(client)

    def _write(self, client: _Client) -> None:
        try:
            client.answer = client.answer[client.sock.send(client.answer) :]
        except BlockingIOError:
            return
        except OSError:
            self._end_client(client)
            return
        if not client.answer:
            self._end_client(client)

    def _end_client(self, client: _Client) -> None:
        self._clients.pop(client.sock.fileno(), None)
        client.sock.close()
