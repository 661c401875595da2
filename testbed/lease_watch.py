# SPDX-License-Identifier: Apache-2.0
"""Watching the warden's lease from inside the guest: each renewal, and how much was left of the one before.

It hears what nf_tables tells of each transaction and reads the clock; it asks the warden nothing.  It runs
at a real-time priority with its memory locked, so that what starves the warden does not starve it.  What
keeps even it from running is the host's doing, and it says how long that was at most.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import pairwise

import msgspec

from testbed.failures import GuestTimeout
from testbed.guest import Guest

_AT = "/run/lease-watch"
#: between two looks at the clock, seconds, and how much later than that is called a stall
_PACE_S, _LATE_S = 0.02, 0.03
#: everything takes its time on a guest without CPU to spare
_WITHIN_S = 120.0

PROGRAM = f"""\
import ctypes, json, os, sys, time
sys.path.insert(0, "/opt/vmwarden/lib")
from vmwarden.linux.netlink import EventsLost, Netlink, attributes, replies

NEW_ELEMENT, DELETED_ELEMENT, NEW_GENERATION = 10 << 8 | 12, 10 << 8 | 14, 10 << 8 | 15
SETS = (b"lease\\0", b"lease_guarded\\0")

def now():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) / 1e6

def timeout(fields):
    for _, element in attributes(fields.get(3, b"")):
        return int.from_bytes(dict(attributes(element)).get(4, b""), "big")
    return 0

netlink = Netlink(12, what="events of nf_tables", groups=1 << 6)
if ctypes.CDLL(None).mlockall(3) != 0:
    sys.exit("memory cannot be locked")
with open("/proc/self/oom_score_adj", "w") as adjust:
    adjust.write("-1000")
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
before = now()
open("{_AT}.ready", "w").close()
events, lost, stalls, granted, ended = [], 0, [], 0, False
while not os.path.exists("{_AT}.stop"):
    netlink.wait({_PACE_S})
    at = now()
    if at - before > {(_PACE_S + _LATE_S) * 1000}:
        stalls.append([before, at])
    before = at
    try:
        datagram = netlink.heard()
    except EventsLost:
        lost += 1
        continue
    for reply in replies(datagram):
        fields = dict(attributes(reply.payload[4:]))
        if reply.kind == NEW_GENERATION:
            if granted or ended:
                events.append([at, granted])
            granted, ended = 0, False
        elif fields.get(1) == b"vmwarden_alive\\0" and fields.get(2) in SETS:
            if reply.kind == NEW_ELEMENT:
                granted = timeout(fields)
            elif reply.kind == DELETED_ELEMENT:
                ended = True
with open("{_AT}.part", "w") as out:
    json.dump({{"events": events, "lost": lost, "stalls": stalls}}, out)
os.rename("{_AT}.part", "{_AT}.json")
"""


@dataclass(frozen=True)
class Renewal:
    """One renewal of a lease that should have been running.

    left_ms: what was left of it; below 0: for so long it had lapsed.  after_ms: since the renewal before.
    stalled_ms: of these, those in which even a real-time process could not run.
    """

    left_ms: float
    after_ms: float
    stalled_ms: float


@dataclass(frozen=True)
class Seen:
    """What was seen of the lease.

    ended: leases that the warden ended, because of its verdict.  lost: times that events were lost; then
    nothing here is certain.
    """

    seconds: float
    renewals: tuple[Renewal, ...]
    ended: int
    lost: int


def begin(guest: Guest) -> None:
    """Start watching; returns when it has begun.  Do it before the load: its start takes CPU."""
    guest.sh(f"rm -f {_AT}.json {_AT}.stop {_AT}.ready", check=True)
    guest.put(f"{_AT}.py", PROGRAM)
    guest.spawn(f"exec /usr/bin/python3 {_AT}.py")
    guest.wait_until(f"test -e {_AT}.ready", _WITHIN_S)


def watch(guest: Guest, seconds: float) -> Seen:
    """What is seen from now on for so long.  Ends the watching.  Raises GuestTimeout."""
    # asked of the agent itself: a shell of its own takes long on a guest that has no CPU to spare
    clock = "import time; print(time.clock_gettime_ns(time.CLOCK_BOOTTIME) / 1e6)"
    began = ended = float(guest.py(clock, _WITHIN_S))
    while ended < began + seconds * 1000:
        # the guest's clock may go slower than the host's
        time.sleep(max(0.2, (began + seconds * 1000 - ended) / 2000))
        ended = float(guest.py(clock, _WITHIN_S))
    guest.py(f"open('{_AT}.stop', 'w').close()", _WITHIN_S)
    asked = f"import os; print(open('{_AT}.json').read() if os.path.exists('{_AT}.json') else '')"
    deadline = time.monotonic() + _WITHIN_S
    while not (text := guest.py(asked, _WITHIN_S).strip()):
        if time.monotonic() > deadline:
            raise GuestTimeout("nothing was heard of the one who watches the lease")
        time.sleep(0.5)
    return seen(text, began=began, ended=ended)


class _Told(msgspec.Struct):
    """What the program in the guest wrote down, in milliseconds of CLOCK_BOOTTIME.

    events: (when, granted for so long; 0 = ended).  stalls: (from, to).
    """

    events: list[tuple[float, float]]
    stalls: list[tuple[float, float]]
    lost: int


def seen(text: str, *, began: float, ended: float) -> Seen:
    """Of what the program in the guest wrote down, between two readings of its clock in milliseconds."""
    told = msgspec.json.decode(text, type=_Told)
    events: list[tuple[float, float | None]] = [event for event in told.events if event[0] <= ended]
    renewals: list[Renewal] = []
    closings = 0
    for (renewed, granted), (at, following) in pairwise([*events, (ended, None)]):
        if not granted or at <= began:
            continue
        left = renewed + granted - at
        if following == 0:
            closings += 1
        elif following or left < 0:
            stalls = [min(at, to) - max(renewed, since) for since, to in told.stalls if renewed < to <= at]
            renewals.append(Renewal(left, at - renewed, sum(stalls)))
    return Seen((ended - began) / 1000, tuple(renewals), closings, told.lost)
