# SPDX-License-Identifier: Apache-2.0
"""What it costs to do nothing: CPU of both programs, settled, over windows of a minute.

The programs run in observe mode; the policy's recheck is 60 s, so evidence is gathered every 20 s.  What
enforcing adds is measured apart, as root, in a network namespace made for it: looking whether the rules
stand and renewing the lease, once a tick.  The sum is the third figure.

    python -m benchmarks --only idle
"""

import os
import time
from dataclasses import dataclass

from benchmarks.figure import Figure, Interval, median_interval
from benchmarks.gate_overhead import policy
from benchmarks.site import Failed, Pair, cpu_s, site, sleeps
from vmwarden.controls.gate import NftGate
from vmwarden.ports.gate import LONGEST_LEASE_MS
from vmwarden.rules.duration import milliseconds
from vmwarden.testing.network import lan

BUDGET_PERCENT = 0.2
WINDOW_S = 60.0
#: after the verdict, seconds
_SETTLE_S = 5.0
_TICKS = 200
#: warden.loop's longest sleep, and the share of a lease after which it is renewed
_LONGEST_SLEEP_MS = 1_000
_RENEWALS_A_LEASE = 3


@dataclass(frozen=True, slots=True)
class _Reading:
    """CPU seconds of both and of the watcher, sleeps of both, and the moment."""

    both_s: float
    watcher_s: float
    sleeps: int
    at_s: float


def run(rounds: int) -> list[Figure]:
    """rounds windows.  Raises Unmeasurable, Failed."""
    both: list[float] = []
    watcher: list[float] = []
    slept: list[float] = []
    with site() as here, here.guarding() as pair:
        time.sleep(_SETTLE_S)
        for _ in range(rounds):
            before = _read(pair)
            time.sleep(WINDOW_S)
            after = _read(pair)
            seconds = after.at_s - before.at_s
            both.append((after.both_s - before.both_s) / seconds * 100)
            watcher.append((after.watcher_s - before.watcher_s) / seconds * 100)
            slept.append((after.sleeps - before.sleeps) / seconds)
    observing = median_interval(both)
    figures = [
        _percent(
            "idle: both, settled, observing",
            observing,
            f"{rounds} windows of {WINDOW_S:g} s; the watcher {median_interval(watcher)} %;"
            f" {median_interval(slept).median:.1f} wake-ups a second",
        )
    ]
    if os.geteuid() == 0:
        figures += _enforcing(observing, rounds)
    return figures


def _enforcing(observing: Interval, rounds: int) -> list[Figure]:
    lease_ms = milliseconds(policy().gate.lease)
    ticks = 1000 / min(_LONGEST_SLEEP_MS, lease_ms // _RENEWALS_A_LEASE)
    tick = median_interval(_gate_ticks_us(rounds))
    share = ticks / 1e6 * 100
    return [
        Figure(
            "idle: the gate's part of a tick (rules stand, lease renewed)",
            tick.median,
            "us",
            detail=f"{tick} of CPU, {rounds} rounds of {_TICKS}",
        ),
        _percent(
            "idle: both, settled, enforcing (reckoned)",
            Interval(
                observing.median + tick.median * share,
                observing.low + tick.low * share,
                observing.high + tick.high * share,
            ),
            f"observing, and {ticks:g} ticks of the gate a second",
        ),
    ]


def _gate_ticks_us(rounds: int) -> list[float]:
    """CPU microseconds of a tick, the mean of each round, in a namespace of its own."""
    taken = []
    with lan() as network, network.vm.entered():
        gate = NftGate()
        try:
            gate.install(policy())
            for _ in range(rounds):
                began = time.thread_time_ns()
                for _ in range(_TICKS):
                    if not gate.installed():
                        raise Failed("the rules did not stand")
                    gate.lease(LONGEST_LEASE_MS)
                taken.append((time.thread_time_ns() - began) / _TICKS / 1000)
        finally:
            gate.remove()
    return taken


def _read(pair: Pair) -> _Reading:
    return _Reading(
        both_s=pair.cpu_s(),
        watcher_s=cpu_s(pair.watcher),
        sleeps=sleeps(pair.warden) + sleeps(pair.watcher),
        at_s=time.monotonic(),
    )


def _percent(name: str, interval: Interval, detail: str) -> Figure:
    return Figure(
        name,
        interval.median,
        "%",
        f"<= {BUDGET_PERCENT:g}",
        not interval.misses_at_most(BUDGET_PERCENT),
        f"{interval} of a core; {detail}",
    )
