"""The shortest time of a run: a peak is what the machine can do, not what it does on average."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

COPY_BYTES = 2**29
LEAST_RUNS = 5
LEAST_SECONDS = 0.5

Peaks = dict[str, Any]
Wait = Callable[[], None]


def operations(size: int) -> float:
    """Return the operations of a product of two square matrices: 2 n³, a multiplication and an addition each."""
    return 2.0 * size**3


def best_seconds(run: Callable[[], Any], wait: Wait = lambda: None) -> float:
    """Return the shortest time of a run, after one that does not count."""
    run()
    wait()
    best, spent, runs = float("inf"), 0.0, 0
    while runs < LEAST_RUNS or spent < LEAST_SECONDS:
        before = time.perf_counter()
        run()
        wait()
        elapsed = time.perf_counter() - before
        best, spent, runs = min(best, elapsed), spent + elapsed, runs + 1
    return best
