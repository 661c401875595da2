# SPDX-License-Identifier: Apache-2.0
"""sd_notify: telling systemd how the service is (sd_notify(3))."""

import os
import re
import socket


def notify(*lines: str) -> bool:
    """Send lines such as READY=1 to $NOTIFY_SOCKET.  False where there is none, or it does not take them."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setblocking(False)
            sock.connect(address)
            sock.send("\n".join(lines).encode())
    except OSError:
        # systemd restarting is no reason to stop guarding
        return False
    return True


def watchdog_s() -> float | None:
    """Period in seconds within which systemd wants WATCHDOG=1; None where it does not watch us."""
    text = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID", "")
    number = re.fullmatch(r"[0-9]{1,18}", text)
    if number is None or (pid and pid != str(os.getpid())):
        return None
    return int(number[0]) / 1_000_000
