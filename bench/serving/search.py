"""Which rates a process tries: around the highest that keeps the budget, on one grid for all processes of a row.

On a grid the processes try equal rates, so that their requests can be counted together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

STEP = 1.1
"""Ratio of neighbouring rates: between two of them the latency is interpolated."""
LOWEST = -48
"""A hundredth of the first rate: a row that does not keep the budget there holds no rate."""
HIGHEST = 48


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
