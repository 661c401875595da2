# SPDX-License-Identifier: Apache-2.0
"""A network of its own for machines on tap devices: a namespace with a bridge, and no way out of it."""

from __future__ import annotations

import itertools
import os
import subprocess
from types import TracebackType

from testbed.commands import require, run
from testbed.failures import CommandFailed
from testbed.spec import USER_GATEWAY, USER_GUEST, TapNetwork

BRIDGE = "bridge0"
_LIMIT = 20.0
_NUMBERS = itertools.count()


class Wire:
    """Makes the namespace at once; `close` (or the end of a ``with``) removes it with all that is in it.

    Needs root. Close the machines on it first.
    """

    def __init__(self, address: str = f"{USER_GATEWAY}/24") -> None:
        """``address`` is that of the bridge: the host's own in this network."""
        require(["ip"])
        self.netns = f"vmwbed-{os.getpid()}-{next(_NUMBERS)}"
        self._taps = itertools.count()
        run(["ip", "netns", "add", self.netns], timeout=_LIMIT)
        try:
            self.ip("link", "set", "lo", "up")
            # No spanning tree and no learning delay: a machine's first packet must not be lost.
            self.ip("link", "add", BRIDGE, "type", "bridge", "forward_delay", "0")
            self.ip("address", "add", address, "dev", BRIDGE)
            self.ip("link", "set", BRIDGE, "up")
        except CommandFailed:
            self.close()
            raise

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def tap(
        self, address: str | None = USER_GUEST, gateway: str | None = USER_GATEWAY, mac: str | None = None
    ) -> TapNetwork:
        """A new tap on the bridge, named tap0, tap1, and so on; ``address`` is the guest's own.

        The default addresses are those of the user network, so that one snapshot does for both. A second
        guest needs another address (and hence boots), unless it takes the first one's place.
        """
        ifname = f"tap{next(self._taps)}"
        self.ip("tuntap", "add", "dev", ifname, "mode", "tap")
        self.ip("link", "set", ifname, "master", BRIDGE)
        self.ip("link", "set", ifname, "up")
        return TapNetwork(ifname, self.netns, address, gateway, mac)

    def ip(self, *words: str) -> str:
        """Run ``ip`` in the namespace."""
        return run(["ip", "-n", self.netns, *words], timeout=_LIMIT)

    def inside(self, *words: str) -> list[str]:
        """The words that run a program in the namespace."""
        return ["ip", "netns", "exec", self.netns, *words]

    def close(self) -> None:
        """Remove the namespace; without complaint if it is gone."""
        subprocess.run(
            ["ip", "netns", "delete", self.netns], timeout=_LIMIT, check=False, capture_output=True
        )
