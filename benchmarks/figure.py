# SPDX-License-Identifier: Apache-2.0
"""One measured number beside its budget, and the statistics of paired rounds."""

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

#: resamples of the bootstrap and the seed of its generator: the same rounds give the same interval
_RESAMPLES = 2000
_SEED = 20261123


@dataclass(frozen=True, slots=True)
class Figure:
    """What a benchmark reports.

    budget: as docs/benchmarks.md prints it, for example "<= 1.05"; "" where there is none.
    within: whether it is kept; None without a budget.  detail: interval, rounds, how it was measured.
    """

    name: str
    value: float
    unit: str
    budget: str = ""
    within: bool | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Interval:
    """A median and the 95 % bootstrap interval around it."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def misses_at_most(self, budget: float) -> bool:
        """Missed only if the whole interval lies beyond."""
        return self.low > budget

    def misses_at_least(self, budget: float) -> bool:
        """Missed only if the whole interval lies beyond."""
        return self.high < budget


def median_interval(values: Sequence[float]) -> Interval:
    """Of the median of values, by resampling with replacement."""
    generator = random.Random(_SEED)
    medians = sorted(statistics.median(generator.choices(values, k=len(values))) for _ in range(_RESAMPLES))
    return Interval(
        statistics.median(values), medians[int(_RESAMPLES * 0.025)], medians[int(_RESAMPLES * 0.975) - 1]
    )
