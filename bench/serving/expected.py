"""What a row should hold by its closed-loop latencies alone: where the search begins.

A queue is played through: requests at random times, one server that takes all that waits up to a limit, and for a batch
as long as the row took for one of that size in the closed loop.  What really disturbs a server is missing from it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

import numpy as np

PLAYED = 2000
"""Requests of one trial: their 99th percentile is then good to some percent, which a first guess needs no better."""
HALVINGS = 12


def expected_rate(mean_ms: Mapping[int, float], max_batch: int, budget_ms: float, seed: int = 0) -> float:
    """Return the highest rate, requests a second, whose 99th percentile stays within the budget; 0.0 if none does.

    `mean_ms`: latency by batch size.
    """
    sizes = sorted(size for size in mean_ms if size <= max_batch) or [min(mean_ms)]
    service_ms = np.interp(np.arange(max_batch + 1), sizes, [mean_ms[size] for size in sizes])
    if service_ms[1] > budget_ms:
        return 0.0
    low, high = 0.0, 1000 * max(size / mean_ms[size] for size in sizes)
    gaps = _gaps(seed)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if _p99_ms(gaps, middle / 1000, service_ms.tolist(), max_batch) <= budget_ms:
            low = middle
        else:
            high = middle
    return low


def _gaps(seed: int) -> list[float]:
    source = random.Random(seed)
    return [source.expovariate(1.0) for _ in range(PLAYED)]


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
