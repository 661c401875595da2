# SPDX-License-Identifier: Apache-2.0
"""Flows between a guest on a tap and its host, every packet stamped: when did the last one come through?

UDP and TCP out of the guest, UDP into it, one packet of each every few milliseconds.  What is sent carries
the sender's clock: times that are compared are the guest's own (CLOCK_BOOTTIME), so that what emulation adds
on the way does not count.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import selectors
import socket
import struct
import threading
import time

from testbed.guest import Guest
from testbed.spec import USER_GATEWAY, USER_GUEST
from vmwarden.testing.network import Namespace

OUT_UDP, OUT_TCP, IN_UDP = 9100, 9101, 9102
_STAMP = struct.Struct("!q")
PACE_S = 0.002
_RECEIVE = 1 << 16

_IN_GUEST = f"""
import json, os, socket, struct, threading, time
_stamp = struct.Struct("!q")
_came = []
_pace_s = {PACE_S}
def _now():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
def _sending(link):
    while True:
        try:
            link.send(_stamp.pack(_now()))
        except (PermissionError, BlockingIOError):
            pass  # the gate refuses; the buffer of the stream is full
        time.sleep(_pace_s)
def _receiving():
    door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    door.bind(("", {IN_UDP}))
    while True:
        door.recv(64)
        _came.append(_now())
def _go(work, *given):
    threading.Thread(target=work, args=given, daemon=True).start()
def flow():
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.connect(("{USER_GATEWAY}", {OUT_UDP}))
    tcp = socket.create_connection(("{USER_GATEWAY}", {OUT_TCP}), 10)
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    tcp.setblocking(False)
    for work in ((_sending, udp), (_sending, tcp), (_receiving,)):
        _go(*work)
def signalled(pid, number):
    before = _now()
    os.kill(pid, number)
    print(json.dumps([before, _now()]))
"""


class Flows:
    """Runs from entering to the end of the ``with`` block; the guest's gate must be open at its start."""

    def __init__(self, guest: Guest, namespace: str, *, pace_s: float = PACE_S) -> None:
        """pace_s: between two packets of a flow, each way."""
        self._pace_s = pace_s
        self._guest = guest
        self._inside = Namespace(namespace)
        self._stop = threading.Event()
        self._stamps: dict[str, list[int]] = {"udp out": [], "tcp out": []}

    def __enter__(self) -> Flows:
        with contextlib.ExitStack() as stack:
            self._udp = stack.enter_context(self._inside.socket(socket.SOCK_DGRAM))
            self._udp.bind((USER_GATEWAY, OUT_UDP))
            door = stack.enter_context(self._inside.socket(socket.SOCK_STREAM))
            door.bind((USER_GATEWAY, OUT_TCP))
            door.listen(1)
            door.settimeout(20)
            self._guest.py(f"{_IN_GUEST}_pace_s = {self._pace_s}\nflow()\n")
            self._tcp = stack.enter_context(door.accept()[0])
            self._out = stack.enter_context(self._inside.socket(socket.SOCK_DGRAM))
            self._threads = [
                threading.Thread(target=work, daemon=True) for work in (self._receive, self._send)
            ]
            for thread in self._threads:
                thread.start()
            self._open = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(5)
        self._open.close()

    def signal(self, pid: int, number: int) -> int:
        """Send a signal in the guest; the guest's clock just before, in nanoseconds."""
        before, _ = json.loads(self._guest.py(f"signalled({pid}, {number})"))
        return int(before)

    def now(self) -> int:
        """The guest's clock."""
        return int(self._guest.py("print(_now())"))

    def stamps(self) -> dict[str, list[int]]:
        """When, by the guest's clock, each packet that came through was sent (out) or received (in)."""
        came = json.loads(self._guest.py("print(json.dumps(_came))"))
        return {name: list(stamps) for name, stamps in self._stamps.items()} | {"udp in": came}

    def forget(self) -> None:
        """Drop the stamps so far; flows that run for long have too many to be fetched at once."""
        self._guest.py("_came.clear()")
        for stamps in self._stamps.values():
            stamps.clear()

    def last_after_ms(self, moment_ns: int) -> dict[str, float]:
        """How long after a moment each flow's last packet so far came through; 0 = none came after it."""
        return {
            name: round(max(0, (stamps[-1] if stamps else 0) - moment_ns) / 1e6, 1)
            for name, stamps in self.stamps().items()
        }

    def longest_gap_ms(self, since_ns: int, name: str = "udp out") -> float:
        """The longest silence of a flow since a moment, up to its newest packet."""
        stamps = [since_ns, *(stamp for stamp in self.stamps()[name] if stamp > since_ns)]
        return max((b - a) / 1e6 for a, b in itertools.pairwise(stamps))

    def wait_silent(self, timeout_s: float, quiet_s: float = 1.0) -> None:
        """Until nothing has come out of the guest for quiet_s.  Raises TimeoutError."""
        deadline, seen, since = time.monotonic() + timeout_s, -1, time.monotonic()
        while time.monotonic() < deadline:
            count = sum(map(len, self._stamps.values()))
            if count != seen:
                seen, since = count, time.monotonic()
            elif time.monotonic() - since >= quiet_s:
                return
            time.sleep(0.02)
        raise TimeoutError(f"packets still come after {timeout_s} s")

    def wait_flowing(self, timeout_s: float) -> None:
        """Until UDP comes out again.  Raises TimeoutError."""
        deadline, seen = time.monotonic() + timeout_s, len(self._stamps["udp out"])
        while time.monotonic() < deadline:
            if len(self._stamps["udp out"]) > seen + 20:
                return
            time.sleep(0.02)
        raise TimeoutError(f"no packets within {timeout_s} s")

    def _send(self) -> None:
        while not self._stop.wait(self._pace_s):
            with contextlib.suppress(OSError):  # nobody listens yet
                self._out.sendto(b"x" * 32, (USER_GUEST.split("/")[0], IN_UDP))

    def _receive(self) -> None:
        rest = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._udp, selectors.EVENT_READ, "udp out")
            selector.register(self._tcp, selectors.EVENT_READ, "tcp out")
            while not self._stop.is_set():
                for key, _ in selector.select(0.05):
                    if key.data == "udp out":
                        self._stamps["udp out"].append(_STAMP.unpack(self._udp.recv(64))[0])
                        continue
                    try:
                        data = self._tcp.recv(_RECEIVE)
                    except OSError:
                        data = b""
                    if not data:
                        selector.unregister(self._tcp)
                        continue
                    rest += data
                    whole = len(rest) - len(rest) % _STAMP.size
                    self._stamps["tcp out"] += [one for (one,) in _STAMP.iter_unpack(rest[:whole])]
                    rest = rest[whole:]
