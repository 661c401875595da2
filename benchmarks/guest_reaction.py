# SPDX-License-Identifier: Apache-2.0
"""Evidence of a violation to closed egress, in a guest: from the host's answer to the last packet of a flow.

One restored fast guest under emulation, on a tap.  Each round the host, honest so far, answers one challenge
with another country, and is honest again once the VM has closed.  Both ends of the measurement are on the
host and by its clock: the answer handed to QEMU, and the kernel's time stamp of the last ICMP answer of the
guest.  So it holds everything between: virtio, the watcher, the warden's signature check, judging and
decision, the lease's end, and the packet's way.  On one emulated CPU nothing else runs while the warden
decides (it has priority), so in many rounds no packet comes after the answer at all: they count as 0.  The
upper bound beside it is when the console says so: after the gate is closed and the journal is written.

    python -m benchmarks --only guest_reaction --rounds 12     (root, QEMU)
"""

from __future__ import annotations

import math
import os
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.figure import Figure
from testbed.image import ensure_image
from testbed.pings import Pings
from testbed.provision import Desk
from testbed.warded import Warded, host_key, save_warded
from testbed.wire import Wire
from vmwarden.testing.host import Behaviour, HostSimulator

BUDGET_MS = 250.0
#: asked every two seconds: on a loaded host an answer may take one
POLICY_MORE = "  unknown: [{after: 0s, posture: held}]\n"
RECHECK = "6s"
#: a verdict, the next question, and what emulation adds
_SOON_S = 60.0
#: between rounds
_REST_S = 0.5
#: so long without a packet means closed; ten times what a loaded host was seen to delay one
_QUIET_S = 0.5


def run(rounds: int) -> list[Figure]:
    """Reaction, and what a round of question and answer costs the warden in the guest's CPU time."""
    with tempfile.TemporaryDirectory(prefix="vmw-bench-") as scratch:
        taken, cpu, asked = _measure(Path(scratch), rounds)
    last, told = ([pair[side] for pair in taken] for side in (0, 1))
    warden, watcher = (seconds * 1000 / asked for seconds in cpu)
    where = f"QEMU without acceleration, one CPU, load of the host {os.getloadavg()[0]:.1f}"
    return [
        Figure(
            "evidence of a violation -> egress closed, in a guest, p99",
            _p99(last),
            "ms",
            f"<= {BUDGET_MS:.0f}",
            _p99(last) <= BUDGET_MS,
            f"{_spread(last)}; in {last.count(0.0)} none came after the answer; {where}",
        ),
        Figure(
            "evidence of a violation -> closed, recorded and said on the console, p99",
            _p99(told),
            "ms",
            detail=_spread(told),
        ),
        Figure(
            "one question and its answer: CPU time of the warden, emulated",
            warden,
            "ms",
            detail=f"of the watcher {watcher:.1f} ms; mean of {asked} questions, ticks and journal included",
        ),
    ]


def _p99(values: list[float]) -> float:
    return sorted(values)[math.ceil(0.99 * len(values)) - 1]


def _spread(values: list[float]) -> str:
    return f"{len(values)} rounds, p50 {statistics.median(values):.0f}, longest {max(values):.0f}"


def _measure(scratch: Path, rounds: int) -> tuple[list[tuple[float, float]], tuple[float, float], int]:
    """Each round's milliseconds to the last packet and to the word on the console; the CPU seconds of warden
    and watcher; how many questions there were."""
    desk = Desk(scratch / "desk")
    policy = desk.policy(recheck=RECHECK, place_more=POLICY_MORE)
    snapshot = save_warded(ensure_image(), desk.layer(policy, scratch / "vm.squashfs"), scratch / "snapshot")
    channel = scratch / "channel.sock"
    with (
        Wire() as wire,
        Warded(snapshot, channel, network=wire.tap()) as vm,
        HostSimulator(channel, key=host_key(desk), listen=False) as host,
    ):
        vm.said(r"vmwarden: posture open: allow", _SOON_S)
        programs = (vm.warden(), vm.watcher())
        with Pings(wire.netns) as pings:
            pings.wait_answers(_SOON_S)
            before, questions = _cpu(vm, programs), len(host.challenges)
            taken = [_round(vm, host, pings) for _ in range(rounds)]
            after, asked = _cpu(vm, programs), len(host.challenges) - questions
    return taken, (after[0] - before[0], after[1] - before[1]), asked


def _round(vm: Warded, host: HostSimulator, pings: Pings) -> tuple[float, float]:
    """Milliseconds from the wrong answer to the last packet and to the console's word.

    Raises GuestTimeout, TimeoutError.
    """
    vm.listen()
    time.sleep(_REST_S)
    already = len(host.answered)
    host.behaviour = Behaviour.WRONG_COUNTRY
    vm.said(r"vmwarden: posture held: deny", _SOON_S, every=0.005)
    said = time.time_ns()
    pings.wait_silent(_SOON_S, quiet_s=_QUIET_S)
    wrong = next(when for when, how in host.answered[already:] if how is Behaviour.WRONG_COUNTRY)
    last = pings.answered_ns[-1]
    host.behaviour = Behaviour.HONEST
    vm.said(r"(?s)held: deny.*vmwarden: posture open", _SOON_S)
    pings.wait_answers(_SOON_S)
    return max(0.0, (last - wrong) / 1e6), (said - wrong) / 1e6


def _cpu(vm: Warded, programs: tuple[int, int]) -> tuple[float, float]:
    """Seconds that each has run so far: the first field of /proc/PID/schedstat, in nanoseconds."""
    warden, watcher = (int(vm.guest.get(f"/proc/{pid}/schedstat").split()[0]) / 1e9 for pid in programs)
    return warden, watcher
