# SPDX-License-Identifier: Apache-2.0
"""How many sockets of a protocol this network namespace has, as /proc tells."""

from pathlib import Path

from vmwarden.errors import ControlFailed

#: of the thread, because a namespace belongs to a thread
_PROTOCOLS = Path("/proc/thread-self/net/protocols")


def af_xdp(protocols: Path = _PROTOCOLS) -> int:
    """Sockets of AF_XDP.  0 also on a kernel that has none.  Raises ControlFailed: /proc does not say.

    sock_diag would name the device of each, but Debian builds it as a module and others not at all.
    """
    return _af_xdp(protocols) or 0


def has_af_xdp(protocols: Path = _PROTOCOLS) -> bool:
    """Whether this kernel has AF_XDP.  Raises ControlFailed: /proc does not say."""
    return _af_xdp(protocols) is not None


def _af_xdp(protocols: Path) -> int | None:
    try:
        with open(protocols, encoding="ascii", errors="replace") as lines:
            for line in lines:
                # "protocol  size sockets  memory press maxhdr  slab module …"
                words = line.split()
                if words[:1] == ["XDP"]:
                    return _count(words[2])
    except (OSError, ValueError, IndexError) as error:
        raise ControlFailed(f"{protocols}: {error}") from error
    return None


def _count(word: str) -> int:
    if not (word.isascii() and word.isdigit()):
        raise ValueError(f"{word[:40]!r} is no number of sockets")
    return int(word)
