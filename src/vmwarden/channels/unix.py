# SPDX-License-Identifier: Apache-2.0
"""A unix socket to a companion in the same kernel: containers, tests, and `make run`."""

import socket
from pathlib import Path

from vmwarden.errors import ChannelDown
from vmwarden.linux.stream import Stream


class UnixSocket:
    """Opens a connection to the companion that listens at path."""

    name = "unix"

    def __init__(self, path: Path) -> None:
        self._path = path

    def keep(self) -> bool:
        """A connection is made anew each time; nothing is held."""
        return False

    def open(self) -> Stream:
        """Raises ChannelDown: nobody listens, not allowed, or its queue is full."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            sock.connect(str(self._path))
        except OSError as error:
            raise ChannelDown(
                f"{self.name}: {self._path}: {error.strerror or error}", mend="start the companion"
            ) from error
        else:
            return Stream(sock.detach(), self.name)
        finally:
            sock.close()
