# SPDX-License-Identifier: Apache-2.0
"""Frames over a descriptor that never makes us wait: a character device or a stream socket."""

import os

from vmwarden.errors import ChannelDown
from vmwarden.rules.frame import Receiver, frame

_CHUNK = 65536
#: reads in one call of receive: a host that floods us cannot keep the watcher from its other work
_READS = 8


class Stream:
    """A ports.Channel over fd, which it owns and which is set not to block.

    At most two messages wait to be sent: the rest of one that has begun, and the newest.  A host that
    does not read gets the last question when it reads again, not a queue of old ones.
    """

    def __init__(self, fd: int, name: str) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._name = name
        self._receiver = Receiver()
        self._begun = b""
        self._newest = b""

    @property
    def name(self) -> str:
        return self._name

    def fileno(self) -> int:
        """Raises ChannelDown when closed."""
        if self._fd < 0:
            raise ChannelDown(f"{self._name}: closed")
        return self._fd

    def send(self, message: bytes) -> None:
        """Raises ChannelDown; TooLarge and Malformed for what is no message."""
        self._newest = frame(message)
        self._receiver.forget()
        self._flush()

    def receive(self) -> tuple[bytes, ...]:
        """Raises ChannelDown when the host went away and all that it sent has been returned."""
        self._flush()
        messages: list[bytes] = []
        for _ in range(_READS):
            try:
                data = os.read(self.fileno(), _CHUNK)
            except BlockingIOError:
                break
            except OSError as error:
                raise self._down(error.strerror or "read failed") from error
            if not data:
                if messages:
                    break
                raise self._down("nobody is at the host's end")
            messages += self._receiver.feed(data)
        return tuple(messages)

    def residue(self) -> tuple[int, int]:
        return self._receiver.unfinished, self._receiver.garbage

    def close(self) -> None:
        """Closing twice is no error."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _flush(self) -> None:
        while data := self._begun or self._newest:
            try:
                written = os.write(self.fileno(), data)
            except BlockingIOError:
                return
            except OSError as error:
                raise self._down(error.strerror or "write failed") from error
            if not self._begun:
                self._newest = b""
            self._begun = data[written:]

    def _down(self, why: str) -> ChannelDown:
        self._receiver.restart()
        self._begun = self._newest = b""
        return ChannelDown(f"{self._name}: {why}", mend="start the companion on the host")
