# SPDX-License-Identifier: Apache-2.0
"""The companion's program: one unix socket a VM, on whose other side is QEMU."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vmwarden.companion.answer import answer, statement
from vmwarden.companion.facts import HostFacts
from vmwarden.errors import FileUnavailable, WardenError
from vmwarden.model.statement import Audience
from vmwarden.ports.clock import Clock
from vmwarden.rules.frame import Receiver, frame
from vmwarden.rules.statement import issue

#: between attempts to reach QEMU's socket
_RETRY_S = 0.5
#: between two answers on one socket: a guest that floods us gets 50 signatures a second, 0.3 % of a core
_PACE_S = 0.02
#: a guest that does not read for so long is cut off
_PATIENCE_S = 5.0
_CHUNK = 65536


class Post(NamedTuple):
    """vm: who is on this wire.  path: the socket.  listen: QEMU connects to us; otherwise we to QEMU."""

    vm: str
    path: Path
    listen: bool


class Companion:
    """Answers challenges until stopped.

    facts: called at the start and on reload; if it raises on reload, the old facts stay.  What it raises at
    the start leaves the constructor, and so do UsageError and TooLarge for facts that make no statement.
    say: takes one line for the administrator.  mode: of sockets that we make.
    """

    def __init__(
        self,
        posts: tuple[Post, ...],
        key: Ed25519PrivateKey,
        facts: Callable[[], HostFacts],
        *,
        clock: Clock,
        say: Callable[[str], None],
        mode: int = 0o600,
    ) -> None:
        self._posts = posts
        self._key = key
        self._load = facts
        self._facts = self._read()
        self._clock = clock
        self._say = say
        self._mode = mode

    def reload(self) -> None:
        """Read the facts again."""
        try:
            self._facts = self._read()
        except WardenError as error:
            self._say(f"facts not reloaded, the old ones stay: {error}")
        else:
            self._say("facts reloaded")

    def _read(self) -> HostFacts:
        """The facts, once they were seen to make a statement that a VM would read."""
        facts = self._load()
        trial = Audience(vm="trial", generation=1)
        issue(statement(facts, audience=trial, now_s=0, valid_for_s=1, nonce="0" * 64), self._key)
        return facts

    async def run(self, *, signals: bool = True) -> None:
        """Until cancelled, or stopped by SIGTERM or SIGINT.  Raises FileUnavailable for a socket."""
        stop = asyncio.Event()
        if signals:
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGHUP, self.reload)
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, stop.set)
        servers = [(post, await self._listen(post)) for post in self._posts if post.listen]
        callers = [asyncio.create_task(self._call(post)) for post in self._posts if not post.listen]
        try:
            await stop.wait()
        finally:
            for task in callers:
                task.cancel()
            await asyncio.gather(*callers, return_exceptions=True)
            for post, server in servers:
                server.close()
                post.path.unlink(missing_ok=True)

    async def _listen(self, post: Post) -> asyncio.AbstractServer:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._talk(post, reader, writer)

        try:
            if post.path.is_socket():
                post.path.unlink()  # ours of a former life: nobody can listen on it any more
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            try:
                sock.bind(str(post.path))
                post.path.chmod(self._mode)
                return await asyncio.start_unix_server(handle, sock=sock)
            except OSError:
                sock.close()
                raise
        except OSError as error:
            raise FileUnavailable(f"{post.path}: cannot listen there: {error.strerror or error}") from error

    async def _call(self, post: Post) -> None:
        told = ""
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(str(post.path))
            except OSError as error:
                why = f"{post.vm}: {post.path}: {error.strerror or error}; trying again"
                if why != told:
                    self._say(why)
                told = why
            else:
                told = ""
                await self._talk(post, reader, writer)
            await asyncio.sleep(_RETRY_S)

    async def _talk(self, post: Post, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        receiver = Receiver()
        told = False
        try:
            while data := await reader.read(_CHUNK):
                for message in receiver.feed(data):
                    reply = answer(
                        message,
                        vm=post.vm,
                        facts=self._facts,
                        key=self._key,
                        now_s=self._clock.now().utc_ms // 1000,
                    )
                    if reply is not None:
                        writer.write(frame(reply))
                        await asyncio.wait_for(writer.drain(), _PATIENCE_S)
                    elif not told:
                        # once a connection: a guest must not be able to fill the host's log
                        self._say(f"{post.vm}: sends what is no challenge of this VM; not answered")
                        told = True
                    await asyncio.sleep(_PACE_S)
        except (OSError, TimeoutError) as error:
            self._say(f"{post.vm}: connection lost: {error or 'the guest does not read'}")
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
