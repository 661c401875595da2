# SPDX-License-Identifier: Apache-2.0
"""Telling what happens, with times; and stopping when something is not as told."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class NotAsTold(Exception):
    """A step did not go as the story says."""


class Story:
    """Prints steps.  Times are wall seconds; the guests run under emulation, some twenty times slower."""

    def __init__(self) -> None:
        self.times: dict[str, float] = {}
        self._said = ""

    def act(self, title: str) -> None:
        self._print(f"\n== {title}")

    def say(self, text: str) -> None:
        self._print(f"   {text}")

    @contextmanager
    def step(self, told: str) -> Iterator[None]:
        """What is told happens inside; NotAsTold and every other failure names it."""
        begun = time.monotonic()
        self._print(f" · {told} …", end="")
        try:
            yield
        except BaseException:
            self._print(" NO")
            raise
        seconds = time.monotonic() - begun
        self.times[told] = seconds
        self._print(f" {seconds:.1f} s")

    def lines(self) -> list[str]:
        """Everything that was printed."""
        return self._said.strip("\n").split("\n")

    def _print(self, text: str, end: str = "\n") -> None:
        self._said += text + end
        sys.stdout.write(text + end)
        sys.stdout.flush()


def expect(condition: bool, otherwise: str) -> None:
    """Raises NotAsTold with otherwise unless condition."""
    if not condition:
        raise NotAsTold(otherwise)


def within(seconds: float, wanted: str) -> Iterator[float]:
    """Yields the time left until seconds are over, twice a second; then raises NotAsTold."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        yield left
        time.sleep(0.2)
    raise NotAsTold(f"{wanted}: not within {seconds:.0f} s")
