# SPDX-License-Identifier: Apache-2.0
"""Messages in a stream of bytes that may begin, break off and lie anywhere.

A frame is line feed, one JSON object without line feeds, line feed.  The leading line feed ends whatever
stood before it, so that a receiver is in step again with the very next frame: after garbage, after half a
message of a peer that died, and after a message too long.  See docs/reference/protocol.md.
"""

from vmwarden.errors import Malformed, TooLarge

#: bytes of one message without its line feeds: twice the largest statement
MESSAGE_BYTES = 16384


def frame(message: bytes) -> bytes:
    """The bytes to send.  Raises TooLarge beyond MESSAGE_BYTES, Malformed if it is no object on one line."""
    if len(message) > MESSAGE_BYTES:
        raise TooLarge(f"message: {len(message)} bytes, at most {MESSAGE_BYTES} are sent")
    if not _like_message(message) or b"\n" in message:
        raise Malformed("message: not one JSON object on one line")
    return b"\n" + message + b"\n"


class Receiver:
    """Takes the stream apart.  It holds at most MESSAGE_BYTES, whatever arrives, and never raises."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._skipping = False
        self._garbage = 0

    def feed(self, data: bytes) -> tuple[bytes, ...]:
        """Messages completed by these bytes; how the stream was split into calls does not matter."""
        messages = []
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            self._take(data[start:end])
            start = end + 1
            line = bytes(self._line)
            self._line.clear()
            if self._skipping:
                self._skipping = False
            elif _like_message(line):
                messages.append(line)
            elif line:
                self._garbage += 1
        self._take(data[start:])
        return tuple(messages)

    def restart(self) -> None:
        """The peer went away: half a message of it is worthless."""
        if self._line:
            self._garbage += 1
        self._line.clear()
        self._skipping = False

    def forget(self) -> None:
        """Count garbage from here on."""
        self._garbage = 0

    @property
    def unfinished(self) -> int:
        """Bytes of a message that has begun and not ended."""
        return len(self._line) if self._line.startswith(b"{") else 0

    @property
    def garbage(self) -> int:
        """Lines that were no message: too long, or not an object; one that is still coming in counts."""
        return self._garbage + (1 if self._line and not self._line.startswith(b"{") else 0)

    def _take(self, part: bytes) -> None:
        if self._skipping:
            return
        if len(self._line) + len(part) > MESSAGE_BYTES:
            self._line.clear()
            self._skipping = True
            self._garbage += 1
        else:
            self._line += part


def _like_message(line: bytes) -> bool:
    return line.startswith(b"{") and line.endswith(b"}")
