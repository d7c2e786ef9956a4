"""The rates that a row is tried at: around the highest that meets the SLO, on one grid for all rows.

On a grid rows are tried at equal rates, so that the requests of all trials can be counted together, and of two rows the
one that holds more is never taken for the other.  A row begins at what it should sustain by its closed-loop latencies
alone.  For that a queue is played through: requests at random times, one server that takes all that waits up to a
limit, and for a batch as long as the row took for one of that size in the closed loop.  What really disturbs a server
is missing from it.
"""

import math
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

STEP = 1.1
"""Ratio of neighbouring rates: between two of them the latency is interpolated."""
LOST = 4
"""Trials in a row that all met the SLO, or all missed it: what the row holds has moved away, and is searched anew."""
FARTHEST = 48
"""Places from the first: a row that does not meet the SLO at a hundredth of the first rate holds none."""
PLAYED = 2000
"""Requests of one trial: their 99th percentile is then good to some percent, which a first guess needs no better."""
HALVINGS = 12

Figures = dict[str, Any]
"""Of one load, by the names of `bench.core.reports.LoadFigures` and what inherits from it."""
Rate = Callable[[float], Figures | None]
"""Tries a rate, requests a second: what came of it, `keeps` among it."""


def rate_at(place: int) -> float:
    """Return the rate, requests a second, at a place of the grid."""
    return float(STEP**place)


def place_of(rate: float) -> int:
    """Return the place whose rate is closest."""
    return round(math.log(rate) / math.log(STEP))


@dataclass
class Search:
    """The places that a row is tried at, one after another, each by what came of the one before.

    Away from the first in steps that double, then halving what is in between, until two neighbours are known of which
    one meets the SLO.  From then on one place up after a rate that met it, one down after one that did not (Dixon and
    Mood 1948): so the trials straddle the rate that the row holds, and follow it where the machine changes.
    """

    first: int
    highest: int | None = None

    def __post_init__(self) -> None:
        self.place = self.first
        self._lowest = self.first - FARTHEST
        self._highest = self.first + FARTHEST if self.highest is None else self.highest
        self._begin()

    def _begin(self) -> None:
        self._met, self.missed, self._stride = self._lowest - 1, self._highest + 1, 1
        self._latest: list[bool] = []

    @property
    def is_bracketed(self) -> bool:
        """Whether two neighbouring places are known, the lower of which met the SLO, or the grid's end was reached."""
        return self.missed - self._met == 1

    @property
    def is_over(self) -> bool:
        """Whether the next place lies beyond the grid: a row holds no rate, or every one."""
        return not self._lowest <= self.place <= self._highest

    def tell(self, keeps: bool) -> None:
        """Take whether the SLO was met at `place`, and choose the next one."""
        if self.is_bracketed:
            self._latest = [*self._latest, keeps][-LOST:]
            if self._latest == [keeps] * LOST:
                self._begin()
        if not self.is_bracketed and keeps:
            self._met = self.place
        elif not self.is_bracketed:
            self.missed = self.place
        if self.is_bracketed:
            self.place += 1 if keeps else -1
        elif self._met >= self._lowest and self.missed <= self._highest:
            self.place = (self._met + self.missed) // 2
        elif keeps:
            self.place, self._stride = min(self.place + self._stride, self._highest), 2 * self._stride
        else:
            self.place, self._stride = max(self.place - self._stride, self._lowest), 2 * self._stride


def tried(search: Search, rate: Rate, first: Iterable[int] = (), is_cut: Callable[[], bool] = bool) -> list[Figures]:
    """Try places, then those of a search until two neighbours are known; a rate that gives nothing ends it."""
    waiting, given = list(first), list[Figures]()
    while not is_cut() and (waiting or not search.is_bracketed):
        found = rate(rate_at(waiting[0] if waiting else search.place))
        if found is None:
            break
        given.append(found)
        if waiting:
            waiting.pop(0)
        else:
            search.tell(found["keeps"])
    return given


def expected_rate(mean_ms: Mapping[int, float], max_batch: int, budget_ms: float, seed: int = 0) -> float:
    """Return the highest requests/s whose p99 stays within the budget, 0.0 if none; `mean_ms`: by batch size."""
    sizes = sorted(size for size in mean_ms if size <= max_batch) or [min(mean_ms)]
    service_ms = np.interp(np.arange(max_batch + 1), sizes, [mean_ms[size] for size in sizes])
    if service_ms[1] > budget_ms:
        return 0.0
    low, high = 0.0, 1000 * max(size / mean_ms[size] for size in sizes)
    source = random.Random(seed)
    gaps = [source.expovariate(1.0) for _ in range(PLAYED)]
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if _p99_ms(gaps, middle / 1000, service_ms.tolist(), max_batch) <= budget_ms:
            low = middle
        else:
            high = middle
    return low


def _p99_ms(gaps: list[float], rate_per_ms: float, service_ms: list[float], max_batch: int) -> float:
    """Return the 99th percentile of the latencies of requests that are served in batches of what waits."""
    arrivals = np.cumsum(gaps) / rate_per_ms
    latencies: list[float] = []
    free, first = 0.0, 0
    while first < len(arrivals):
        begins = max(free, float(arrivals[first]))
        waiting = int(np.searchsorted(arrivals, begins, side="right")) - first
        size = min(max(waiting, 1), max_batch)
        free = begins + service_ms[size]
        latencies += (free - arrivals[first : first + size]).tolist()
        first += size
    return float(np.percentile(latencies, 99))
