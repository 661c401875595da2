# SPDX-License-Identifier: Apache-2.0
"""The virtio-serial port that QEMU gives the VM: -device virtserialport,name=org.vmwarden.host.0."""

import os
import select
from collections.abc import Callable

from vmwarden.errors import ChannelDown, SourceUnavailable
from vmwarden.linux.stream import Stream
from vmwarden.ports.tree import Tree

#: reverse domain name, as virtio-serial ports are named by custom (org.qemu.guest_agent.0)
PORT_NAME = "org.vmwarden.host.0"
_PORTS = "/sys/class/virtio-ports"


def _open_device(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)


class VirtioSerial:
    """Finds the port by name and opens it.

    The device belongs to root and only one process may have it open (EBUSY): call keep before
    privileges are dropped, and every later open works on the same descriptor.
    """

    name = "virtio-serial"

    def __init__(
        self, tree: Tree, *, port: str = PORT_NAME, device: Callable[[str], int] = _open_device
    ) -> None:
        self._tree = tree
        self._port = port
        self._device = device
        self._kept = -1

    def keep(self) -> bool:
        """Open the device now and hold it; False where there is none (open will say why)."""
        if self._kept < 0:
            try:
                self._kept = self._open_port()
            except ChannelDown:
                return False
        return True

    def open(self) -> Stream:
        """A channel to the host.  Raises ChannelDown: no such port, not allowed, nobody at the host's end.

        Without a host end the kernel reports a hang-up for ever, and read returns 0 (port_fops_poll,
        port_fops_read in drivers/char/virtio_console.c): refusing here keeps an event loop from spinning.
        """
        fd = os.dup(self._kept) if self.keep() and self._alive() else self._open_port()
        if _hung_up(fd):
            os.close(fd)
            raise ChannelDown(
                f"{self.name}: nobody is at the host's end of {self._port}", mend="start the companion"
            )
        return Stream(fd, self.name)

    def close(self) -> None:
        """Give the device back.  Closing twice is no error."""
        if self._kept >= 0:
            os.close(self._kept)
            self._kept = -1

    def _alive(self) -> bool:
        # An unplugged port has no device behind its descriptor any more: look for its successor.
        try:
            os.read(self._kept, 0)
        except BlockingIOError:
            return True
        except OSError:
            self.close()
            return False
        return True

    def _open_port(self) -> int:
        try:
            for port in self._tree.list(_PORTS):
                if self._named(port) == self._port:
                    return self._device(f"/dev/{port}")
        except SourceUnavailable as error:
            raise ChannelDown(f"{self.name}: {error}") from error
        except OSError as error:
            raise ChannelDown(f"{self.name}: {self._port}: {error.strerror}") from error
        raise ChannelDown(
            f"{self.name}: no port is named {self._port}",
            mend=f"give the VM one: -device virtserialport,chardev=…,name={self._port}",
        )

    def _named(self, port: str) -> str:
        try:
            return self._tree.read(f"{_PORTS}/{port}/name", 256).decode("utf-8", "replace").strip()
        except SourceUnavailable:
            return ""  # unplugged while we looked


def _hung_up(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, 0)
    return any(event & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, event in poll.poll(0))
