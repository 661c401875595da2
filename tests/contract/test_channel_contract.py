# SPDX-License-Identifier: Apache-2.0
"""What ports.channel promises, for every way to the host."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmwarden.channels.unix import UnixSocket
from vmwarden.channels.virtio_serial import PORT_NAME, VirtioSerial
from vmwarden.errors import ChannelDown, TooLarge
from vmwarden.ports.channel import Channel, Way
from vmwarden.rules.frame import MESSAGE_BYTES, frame
from vmwarden.testing.tree import FakeTree

SYS = "/sys/class/virtio-ports"
TREE = FakeTree(
    {
        f"{SYS}/vport1p1/name": b"org.qemu.guest_agent.0\n",
        f"{SYS}/vport1p2/name": PORT_NAME.encode() + b"\n",
    }
)


class Ends:
    """A way, and the host's end of what it opened last."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.opened: list[str] = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(folder / "host.sock"))
        self.listener.listen(4)
        self.listener.settimeout(5)
        self.path = folder / "host.sock"
        self.way: Way = UnixSocket(self.path) if kind == "unix" else VirtioSerial(TREE, device=self._device)

    def _device(self, path: str) -> int:
        self.opened.append(path)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(self.path))
            return sock.detach()

    def open(self) -> tuple[Channel, socket.socket]:
        channel = self.way.open()
        host, _ = self.listener.accept()
        host.settimeout(5)
        return channel, host


@pytest.fixture(params=["unix", "virtio-serial"])
def ends(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ends]:
    made = Ends(request.param, tmp_path)
    yield made
    made.listener.close()


def test_messages_pass_both_ways(ends: Ends) -> None:
    channel, host = ends.open()
    channel.send(b'{"a":1}')
    assert host.recv(100) == frame(b'{"a":1}')
    assert channel.receive() == ()
    host.sendall(b"noise" + frame(b'{"b":2}') + frame(b'{"c":3}') + b'\n{"d"')
    assert channel.receive() == (b'{"b":2}', b'{"c":3}')
    assert channel.residue() == (4, 1)
    host.sendall(b":4}\n")
    assert channel.receive() == (b'{"d":4}',)
    assert channel.name == ends.way.name
    channel.close()
    channel.close()
    host.close()


def test_what_the_host_sent_before_it_went_is_not_lost(ends: Ends) -> None:
    channel, host = ends.open()
    host.sendall(frame(b'{"last":1}') + b'\n{"half')
    host.close()
    assert channel.receive() == (b'{"last":1}',)
    with pytest.raises(ChannelDown):
        channel.receive()
    assert channel.residue() == (0, 1)
    with pytest.raises(ChannelDown):
        channel.send(b"{}")
        channel.send(b"{}")
    channel.close()
    with pytest.raises(ChannelDown):
        channel.fileno()


def test_a_send_counts_garbage_anew_and_refuses_what_is_no_message(ends: Ends) -> None:
    channel, host = ends.open()
    host.sendall(b"noise\n")
    assert channel.receive() == ()
    assert channel.residue() == (0, 1)
    channel.send(b"{}")
    assert channel.residue() == (0, 0)
    with pytest.raises(TooLarge):
        channel.send(b"{" + b" " * MESSAGE_BYTES + b"}")
    channel.close()
    host.close()


@pytest.mark.timeout(10)
def test_a_host_that_does_not_read_gets_the_last_question_and_costs_no_wait(ends: Ends) -> None:
    channel, host = ends.open()
    padding = b"x" * 16000
    for n in range(200):
        channel.send(b'{"n":%d,"%s":1}' % (n, padding))
    got = b""
    host.settimeout(0.2)
    while b'{"n":199' not in got or not got.endswith(b"}\n"):
        channel.receive()
        got += host.recv(1 << 20)
    lines = [line for line in got.split(b"\n") if line]
    assert all(line.startswith(b'{"n":') and line.endswith(b":1}") for line in lines)
    assert len(lines) < 200
    channel.close()
    host.close()


@pytest.mark.timeout(10)
def test_a_host_that_floods_does_not_keep_us(ends: Ends) -> None:
    channel, host = ends.open()
    host.setblocking(False)
    sent = 0
    try:
        while sent < 1 << 24:
            sent += host.send(b"\x00" * 65536)
    except BlockingIOError:
        pass
    assert channel.receive() == ()
    assert channel.residue() == (0, 1)
    channel.close()
    host.close()


def test_virtio_serial_finds_the_port_by_name_and_holds_it(tmp_path: Path) -> None:
    ends = Ends("virtio-serial", tmp_path)
    assert ends.way.keep()
    assert ends.opened == ["/dev/vport1p2"]
    first = ends.way.open()
    first.close()
    second, host = ends.open()
    second.send(b"{}")
    assert host.recv(10) == b"\n{}\n"
    assert ends.opened == ["/dev/vport1p2"]
    second.close()
    host.close()
    ends.listener.close()


def test_virtio_serial_says_what_is_missing() -> None:
    def denied(path: str) -> int:
        raise PermissionError(13, "Permission denied", path)

    for way, reason in (
        (VirtioSerial(FakeTree()), "virtio-ports"),
        (VirtioSerial(FakeTree({f"{SYS}/vport1p1/name": b"other\n"})), "no port is named"),
        (VirtioSerial(TREE, device=denied), "Permission denied"),
    ):
        assert way.keep() is False
        with pytest.raises(ChannelDown, match=reason):
            way.open()
        way.close()


def test_virtio_serial_with_nobody_at_the_other_end_is_down_at_once() -> None:
    def hung_up(_: str) -> int:
        ours, theirs = socket.socketpair()
        theirs.close()
        return ours.detach()

    way = VirtioSerial(TREE, device=hung_up)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(ChannelDown, match="nobody"):
        way.open()
    way.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_virtio_serial_looks_for_the_successor_of_an_unplugged_port() -> None:
    theirs: list[socket.socket] = []
    given: list[int] = []

    def device(_: str) -> int:
        ours, other = socket.socketpair()
        theirs.append(other)
        given.append(ours.detach())
        return given[-1]

    way = VirtioSerial(TREE, device=device)
    assert way.keep()
    broken = os.open("/", os.O_RDONLY)  # reading a folder fails, as reading an unplugged port does
    os.dup2(broken, given[0])
    os.close(broken)
    channel = way.open()
    assert len(given) == 2
    channel.send(b"{}")
    assert theirs[1].recv(10) == b"\n{}\n"
    channel.close()
    way.close()


def test_unix_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(ChannelDown):
        UnixSocket(tmp_path / "absent").open()
