# SPDX-License-Identifier: Apache-2.0
"""Runs one target on many inputs and watches it: which errors leave it, for how long, how much memory."""

import base64
import itertools
import random
import resource
import signal
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any, Literal

from tests.fuzz.mutate import Mutator

#: CPU time of one input, seconds.  A turn of the warden may take a third of the shortest lease (1 s).
WITHIN_S = 0.3
#: what a run may add to the memory of this process, bytes: the largest input that anybody reads is 3 MB
MEMORY = 256 << 20
#: memory that stays in use after a run, kilobytes of the peak
GROWTH_KB = 96 << 10
OUR_CODE = "/src/vmwarden/"


@dataclass(frozen=True, kw_only=True)
class Target:
    """One reader of bytes.

    seeds: valid inputs.  run: read one input.  raises: what may leave run, and nothing else may.
    form: how inputs are made from seeds.  counts: executions in CI, in the long form.
    header: of netlink messages, the bytes of the family's own header.
    """

    name: str
    seeds: Callable[[], Sequence[bytes]]
    run: Callable[[bytes], object]
    raises: tuple[type[Exception], ...] = ()
    form: Literal["bytes", "json", "netlink"] = "bytes"
    header: int = 0
    counts: tuple[int, int] = (1_000, 200_000)
    within_s: float = WITHIN_S


@dataclass(frozen=True, slots=True)
class Figures:
    """What a run came to.  refused: inputs that were answered with an error of ours.  slowest_ms: CPU time of
    one input."""

    target: str
    executions: int
    refused: int
    seconds: float
    slowest_ms: float

    def row(self) -> str:
        """Of a table in Markdown."""
        return (
            f"| {self.target} | {self.executions:,} | {self.refused:,} | {self.slowest_ms:.0f} "
            f"| {self.seconds:.0f} |"
        )


class Hang(BaseException):
    """An input took too long.  Not an Exception: the code under test must not be able to swallow it."""


class Found(AssertionError):
    """What none may do was done; says by which input, and how to repeat it."""


def found_by(target: Target, data: bytes, error: BaseException | str) -> Found:
    """By this input."""
    packed = base64.b85encode(zlib.compress(data, 9)).decode()
    said = f"{error!r}"[:500] if isinstance(error, BaseException) else error
    return Found(
        f"{target.name}: {said}\n  input ({len(data)} bytes): {data[:300]!r}\n"
        f"  repeat: .venv/bin/python -m tests.fuzz {target.name} '{packed[:20_000]}'"
    )


def execute(target: Target, count: int, seed: int) -> Figures:
    """Every seed input, then count mutated ones.  Raises Found with the first that breaks a promise."""
    rng = random.Random(f"{target.name}/{seed}")
    corpus = list(target.seeds())
    refused, slowest = 0, 0.0
    started, before = time.monotonic(), _peak_kb()
    with _bounded():
        for data in itertools.chain(corpus, inputs(target, corpus, rng, count)):
            was_refused, seconds = _one(target, data)
            refused += was_refused
            slowest = max(slowest, seconds)
    grown = _peak_kb() - before
    if grown > GROWTH_KB:
        raise Found(f"{target.name}: the process grew by {grown} kB")
    return Figures(target.name, count, refused, time.monotonic() - started, slowest * 1000)


def inputs(target: Target, corpus: Sequence[bytes], rng: random.Random, count: int) -> Iterator[bytes]:
    """count inputs that are made of the corpus."""
    mutator = Mutator(rng)
    for _ in range(count):
        data, other = rng.choice(corpus), rng.choice(corpus)
        match target.form:
            case "bytes":
                yield mutator.raw(data, other)
            case "json":
                yield mutator.json(data, other)
            case "netlink":
                yield mutator.attributes(data, other, header=target.header)


def _one(target: Target, data: bytes) -> tuple[bool, float]:
    """Whether it was refused, and its CPU seconds."""
    signal.setitimer(signal.ITIMER_PROF, 10 * target.within_s)
    begun = time.process_time()
    refused = False
    try:
        target.run(data)
    except target.raises:
        refused = True
    except BaseException as error:
        raise found_by(target, data, error) from error
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    seconds = time.process_time() - begun
    if seconds > target.within_s:
        raise found_by(target, data, f"took {seconds:.2f} s of CPU")
    return refused, seconds


def entered(run: Callable[[], object]) -> set[str]:
    """The functions of vmwarden that run enters, as "warden/loop.py:Loop._hear_client"."""
    found: set[CodeType] = set()

    def profile(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            found.add(frame.f_code)

    sys.setprofile(profile)
    try:
        run()
    finally:
        sys.setprofile(None)
    return {
        f"{code.co_filename.partition(OUR_CODE)[2]}:{code.co_qualname}"
        for code in found
        if OUR_CODE in code.co_filename
    }


@contextmanager
def _bounded() -> Iterator[None]:
    """Within: a hang is an error, and so is memory without end."""

    def hang(*_: object) -> None:
        raise Hang("it does not come to an end")

    handler = signal.signal(signal.SIGPROF, hang)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm", encoding="ascii") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.signal(signal.SIGPROF, handler)


def _peak_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
