# SPDX-License-Identifier: Apache-2.0
"""How many sockets of a protocol this network namespace has, as /proc tells."""

from vmwarden.errors import ControlFailed

#: of the thread, because a namespace belongs to a thread
_PROTOCOLS = "/proc/thread-self/net/protocols"


def af_xdp() -> int:
    """Sockets of AF_XDP.  0 also on a kernel that has none.  Raises ControlFailed: /proc does not say.

    sock_diag would name the device of each, but Debian builds it as a module and others not at all.
    """
    try:
        with open(_PROTOCOLS, encoding="ascii", errors="replace") as lines:
            for line in lines:
                # "protocol  size sockets  memory press maxhdr  slab module …"
                words = line.split()
                if words[:1] == ["XDP"]:
                    return int(words[2])
    except (OSError, ValueError, IndexError) as error:
        raise ControlFailed(f"{_PROTOCOLS}: {error}") from error
    return 0
