"""The rates that a process tries: around the highest that meets the SLO, on one grid for all processes of a row.

On a grid the processes try equal rates, so that their requests can be counted together.  It begins at what the row
should sustain by its closed-loop latencies alone.  For that a queue is played through: requests at random times, one
server that takes all that waits up to a limit, and for a batch as long as the row took for one of that size in the
closed loop.  What really disturbs a server is missing from it.
"""

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

STEP = 1.1
"""Ratio of neighbouring rates: between two of them the latency is interpolated."""
LOWEST = -48
"""A hundredth of the first rate: a row that does not keep the budget there holds no rate."""
HIGHEST = 48
PLAYED = 2000
"""Requests of one trial: their 99th percentile is then good to some percent, which a first guess needs no better."""
HALVINGS = 12


@dataclass(frozen=True)
class Grid:
    """The rates that a row may be tried at: `rate(0)` is the first, each is 1.1 times the one before."""

    first: float

    def rate(self, place: int) -> float:
        """Return the rate, requests a second, at a place."""
        return self.first * STEP**place

    def place(self, rate: float) -> int:
        """Return the place whose rate is closest."""
        return round(math.log(rate / self.first) / math.log(STEP))


def search(
    keeps_budget: Callable[[int], bool],
    start: int,
    most: int,
    may_go_on: Callable[[bool], bool] = lambda _is_kept: True,
    highest: int = HIGHEST,
) -> list[int]:
    """Try places, the first at `start`, until two neighbours are known of which one keeps the budget; return them.

    Away from the start in steps that double, then halving what is in between; at most `most` places, and after the
    second none that `may_go_on` forbids, which is told whether a place keeps the budget; never above `highest`.
    """
    tried: list[int] = []
    kept, missed = LOWEST - 1, highest + 1
    place, stride = start, 1
    while missed - kept > 1 and len(tried) < most and (len(tried) < 2 or may_go_on(kept >= LOWEST)):
        tried.append(place)
        if keeps_budget(place):
            kept = max(kept, place)
        else:
            missed = min(missed, place)
        if kept >= LOWEST and missed <= highest:
            place = (kept + missed) // 2
        else:
            place = min(kept + stride, highest) if kept >= LOWEST else max(missed - stride, LOWEST)
            stride *= 2
    return tried


def expected_rate(mean_ms: Mapping[int, float], max_batch: int, budget_ms: float, seed: int = 0) -> float:
    """Return the highest rate, requests a second, whose 99th percentile stays within the budget; 0.0 if none does.

    `mean_ms`: latency by batch size.
    """
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
