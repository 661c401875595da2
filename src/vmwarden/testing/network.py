# SPDX-License-Identifier: Apache-2.0
"""A small network of its own: a VM, a peer beside it, and a container behind it.  Needs root.

    peer (10.99.0.2, 10.99.0.3, fd99::2) -- (10.99.0.1, fd99::1) vm (172.30.0.1) -- (172.30.0.2) behind

Three network namespaces with random names; nothing outside them is touched, and nothing of them stays.
"""

import secrets
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from vmwarden.errors import CommandFailed
from vmwarden.linux import namespace
from vmwarden.linux.process import Completed, run

VM, VM6 = "10.99.0.1", "fd99::1"
PEER, STRANGER, PEER6 = "10.99.0.2", "10.99.0.3", "fd99::2"
BEHIND, GATEWAY = "172.30.0.2", "172.30.0.1"

#: `ip` and `nft` on a loaded machine; seconds
_WITHIN_S = 20.0
_KNOCK_PORT = 9
_KNOCKS = 50


@dataclass(frozen=True, slots=True)
class Namespace:
    """One network namespace."""

    name: str

    def entered(self) -> AbstractContextManager[None]:
        """See vmwarden.linux.namespace.entered."""
        return namespace.entered(self.name)

    def socket(self, kind: socket.SocketKind, family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
        """A socket that belongs here, usable from everywhere."""
        with self.entered():
            return socket.socket(family, kind)

    def run(self, *argv: str, check: bool = True) -> Completed:
        """Raises CommandFailed."""
        with self.entered():
            return run(argv, timeout_s=_WITHIN_S, check=check)

    def ruleset(self) -> str:
        """`nft list ruleset`, counters and remaining times left out."""
        return self.run("nft", "-s", "list", "ruleset").stdout.decode()


@dataclass(frozen=True, slots=True)
class Lan:
    """The three namespaces; make it with lan()."""

    vm: Namespace
    peer: Namespace
    behind: Namespace


@contextmanager
def lan() -> Iterator[Lan]:
    """The network, as long as the block lasts.  Raises CommandFailed, ControlFailed."""
    stem = f"vmw{secrets.token_hex(4)}"
    made = Lan(*(Namespace(stem + end) for end in ("v", "p", "b")))
    try:
        for each in (made.vm, made.peer, made.behind):
            run(["ip", "netns", "add", each.name], timeout_s=_WITHIN_S)
        _wire(made)
        yield made
    finally:
        for each in (made.vm, made.peer, made.behind):
            run(["ip", "netns", "del", each.name], timeout_s=_WITHIN_S, check=False)


def _wire(made: Lan) -> None:
    # without duplicate address detection an IPv6 address can be used at once
    _ip(
        made.vm,
        f"link add eth0 type veth peer name eth0 netns {made.peer.name}",
        f"link add eth1 type veth peer name eth0 netns {made.behind.name}",
        f"addr add {VM}/24 dev eth0",
        f"addr add {VM6}/64 dev eth0 nodad",
        f"addr add {GATEWAY}/24 dev eth1",
        "link set lo up",
        "link set eth0 up",
        "link set eth1 up",
    )
    _ip(
        made.peer,
        f"addr add {PEER}/24 dev eth0",
        f"addr add {STRANGER}/24 dev eth0",
        f"addr add {PEER6}/64 dev eth0 nodad",
        "link set lo up",
        "link set eth0 up",
        f"route add {BEHIND}/32 via {VM}",
    )
    _ip(
        made.behind,
        f"addr add {BEHIND}/24 dev eth0",
        "link set lo up",
        "link set eth0 up",
        f"route add default via {GATEWAY}",
    )
    with made.vm.entered():
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    _settle(made)


def _ip(where: Namespace, *commands: str) -> None:
    with where.entered():
        run(["ip", "-batch", "-"], timeout_s=_WITHIN_S, input="\n".join(commands).encode() + b"\n")


def _settle(made: Lan) -> None:
    """Links are up and neighbours known before the first measured packet."""
    for source, target, address in (
        (made.vm, made.peer, PEER),
        (made.vm, made.peer, STRANGER),
        (made.vm, made.peer, PEER6),
        (made.peer, made.vm, VM6),
        (made.behind, made.vm, GATEWAY),
    ):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with (
            target.socket(socket.SOCK_DGRAM, family) as door,
            source.socket(socket.SOCK_DGRAM, family) as knock,
        ):
            door.bind((address, _KNOCK_PORT))
            door.settimeout(0.1)
            for _ in range(_KNOCKS):
                try:
                    knock.sendto(b"", (address, _KNOCK_PORT))
                    door.recv(1)
                    break
                except OSError:
                    continue  # not yet: no carrier, no neighbour, no answer
            else:
                raise CommandFailed(f"the test network does not carry packets to {address}")
