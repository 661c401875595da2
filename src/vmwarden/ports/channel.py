# SPDX-License-Identifier: Apache-2.0
"""A way to the host."""

from typing import Protocol


class Channel(Protocol):
    """Bytes to and from the host's companion, framed by vmwarden.rules.frame."""

    @property
    def name(self) -> str: ...

    def fileno(self) -> int:
        """For the event loop.  Raises ChannelDown."""
        ...

    def send(self, message: bytes) -> None:
        """One message, without waiting.  Raises ChannelDown."""
        ...

    def receive(self) -> tuple[bytes, ...]:
        """Whole messages that have arrived; never waits.  Raises ChannelDown when the host went away."""
        ...

    def residue(self) -> tuple[int, int]:
        """Bytes of a message that has begun and not ended; lines discarded as garbage since the last send."""
        ...

    def close(self) -> None: ...


class Way(Protocol):
    """Where a channel comes from.

    name: names the evidence that arrives by it ("virtio-serial").
    """

    @property
    def name(self) -> str: ...

    def keep(self) -> bool:
        """Take hold of what only root may open, before privileges are dropped; False if there is nothing."""
        ...

    def open(self) -> Channel:
        """Raises ChannelDown: no such channel, not allowed, nobody at the host's end."""
        ...
