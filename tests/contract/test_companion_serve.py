# SPDX-License-Identifier: Apache-2.0
"""The companion behind real sockets, as QEMU's chardev sees it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vmwarden.companion.facts import HostFacts
from vmwarden.companion.serve import Companion, Post
from vmwarden.errors import FileUnavailable, Malformed, UsageError
from vmwarden.model.statement import Audience, Challenge, HostStatement, StatementReply
from vmwarden.rules import canonical, jws
from vmwarden.rules.frame import Receiver, frame
from vmwarden.testing.clock import FakeClock

KEY = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
Wire = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def challenge(vm: str = "web-1", nonce: str = "n" * 43) -> bytes:
    return frame(canonical.encode(Challenge(aud=Audience(vm=vm, generation=1), nonce=nonce)))


async def heard(reader: asyncio.StreamReader, receiver: Receiver | None = None) -> HostStatement:
    receiver = receiver or Receiver()
    while True:
        messages = receiver.feed(await asyncio.wait_for(reader.read(65536), 5))
        if messages:
            token = canonical.decode(messages[0], StatementReply, limit=16384, what="reply").jws
            payload, _ = jws.verify(
                token, {jws.public_key(KEY).fingerprint: jws.public_key(KEY)}, "vmwarden-statement+jwt", 8192
            )
            return canonical.decode(payload, HostStatement, limit=8192, what="statement")


async def connected(path: Path) -> Wire:
    """Once somebody listens there; the test's own time limit is the bound."""
    while True:
        try:
            return await asyncio.open_unix_connection(str(path))
        except ConnectionRefusedError:
            await asyncio.sleep(0.01)


class World:
    def __init__(self, facts: Callable[[], HostFacts] = lambda: HostFacts(host_id="h", country="DE")) -> None:
        self.said: list[str] = []
        self.facts = facts

    @asynccontextmanager
    async def companion(self, *posts: Post) -> AsyncIterator[Companion]:
        made = Companion(posts, KEY, lambda: self.facts(), clock=FakeClock(), say=self.said.append)
        task = asyncio.create_task(made.run(signals=False))
        try:
            for post in posts:
                while post.listen and not post.path.exists() and not task.done():
                    await asyncio.sleep(0.01)
            yield made
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def test_listening_it_answers_each_vm_in_its_own_name_only(tmp_path: Path) -> None:
    async def story() -> None:
        world = World()
        posts = tuple(Post(vm, tmp_path / vm, listen=True) for vm in ("web-1", "web-2"))
        async with world.companion(*posts):
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "web-1"))
            writer.write(b"\x00garbage" + challenge("web-2") + challenge("web-2") + challenge("web-1"))
            said = await heard(reader)
            assert (said.aud.vm, said.nonce, said.country) == ("web-1", "n" * 43, "DE")
            assert len(world.said) == 1
            writer.close()
            other, writer = await asyncio.open_unix_connection(str(tmp_path / "web-2"))
            for byte in challenge("web-2", "m" * 43):
                writer.write(bytes([byte]))
            assert (await heard(other)).aud.vm == "web-2"
            writer.close()
        assert not (tmp_path / "web-1").exists()

    asyncio.run(story())


def test_calling_it_comes_back_when_qemu_restarts(tmp_path: Path) -> None:
    path = tmp_path / "qemu.sock"

    async def qemu(wires: "asyncio.Queue[Wire]") -> asyncio.AbstractServer:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await wires.put((reader, writer))

        return await asyncio.start_unix_server(connected, str(path))

    async def story() -> None:
        world = World()
        wires: asyncio.Queue[Wire] = asyncio.Queue()
        async with world.companion(Post("web-1", path, listen=False)):
            while not world.said:
                await asyncio.sleep(0.01)
            for nonce in ("a" * 43, "b" * 43):
                server = await qemu(wires)
                reader, writer = await asyncio.wait_for(wires.get(), 5)
                writer.write(challenge(nonce=nonce))
                assert (await heard(reader)).nonce == nonce
                writer.close()
                server.close()
                path.unlink(missing_ok=True)
        assert any("trying again" in line for line in world.said)

    asyncio.run(story())


def test_facts_are_read_again_and_bad_ones_change_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        world = World()
        async with world.companion(Post("web-1", tmp_path / "s", listen=True)) as companion:
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
            countries = []
            for facts in (
                lambda: HostFacts(host_id="h", country="NL"),
                lambda: HostFacts(country="FR"),
                _unreadable,
            ):
                world.facts = facts
                companion.reload()
                writer.write(challenge())
                countries.append((await heard(reader)).country)
            assert countries == ["NL", "NL", "NL"]
            assert sum("the old ones stay" in line for line in world.said) == 2
            writer.close()

    asyncio.run(story())


def _unreadable() -> HostFacts:
    raise Malformed("no facts")


def test_facts_that_make_no_statement_are_found_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        Companion((), KEY, HostFacts, clock=FakeClock(), say=print)


def test_a_socket_of_a_former_life_is_replaced_and_a_file_is_not(tmp_path: Path) -> None:
    async def story() -> None:
        old = tmp_path / "old"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(old))
        async with World().companion(Post("web-1", old, listen=True)):
            reader, writer = await connected(old)
            writer.write(challenge())
            assert (await heard(reader)).host_id == "h"
            assert old.stat().st_mode & 0o777 == 0o600
            writer.close()
        file = tmp_path / "file"
        file.write_text("precious")
        with pytest.raises(FileUnavailable):
            await Companion(
                (Post("web-1", file, listen=True),),
                KEY,
                lambda: HostFacts(host_id="h"),
                clock=FakeClock(),
                say=print,
            ).run(signals=False)
        assert file.read_text() == "precious"

    asyncio.run(story())


@pytest.mark.timeout(30)
def test_a_guest_that_floods_and_never_reads_is_cut_off_and_harms_nobody(tmp_path: Path) -> None:
    async def story() -> None:
        world = World()
        posts = tuple(Post(vm, tmp_path / vm, listen=True) for vm in ("web-1", "web-2"))
        async with world.companion(*posts):
            _, flood = await asyncio.open_unix_connection(str(tmp_path / "web-1"))
            flood.write(challenge() * 2000)
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "web-2"))
            writer.write(challenge("web-2"))
            assert (await heard(reader)).aud.vm == "web-2"
            writer.close()
            flood.transport.abort()

    asyncio.run(story())
