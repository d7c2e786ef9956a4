"""How sure are we?  Intervals that count the spread between processes, and verdicts from them.

Runs of one process share its memory layout, its threads' places and the clock it was
born into; so the process, not the run, is the unit that repeats.  With m_1 … m_k the
processes' medians of one cell (k = timing.processes):

    interval of p50      exp(mean(log m) ± t(k-1) · s / √k)            Student 1908, on logs
    interval of a ratio  exp(difference of means ± t(ν) · √(s1²/k1 + s2²/k2)),  ν after Welch 1947

Logs, because latencies are positive and their spread grows with their size, and because
a ratio is then a difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Logs = NDArray[np.float64]

CONFIDENCE = 0.95
MOST_PROCESSES = 100
"""More are never suggested."""


@dataclass(frozen=True)
class Interval:
    """An estimate with the limits of its 95% confidence interval, all in the unit of the values or as a ratio."""

    value: float
    low: float
    high: float


def interval(values: Sequence[float]) -> Interval | None:
    """Return the geometric mean of positive values with its interval; None for fewer than two of them."""
    if len(values) < 2:
        return None
    logs = np.log(np.asarray(values, dtype=np.float64))
    half = _t(len(logs) - 1) * float(logs.std(ddof=1)) / math.sqrt(len(logs))
    centre = float(logs.mean())
    return Interval(math.exp(centre), math.exp(centre - half), math.exp(centre + half))


def quantile_interval(values: Sequence[float], share: float) -> Interval | None:
    """Return the quantile of the runs with a distribution-free interval from their order; None for too few runs.

    The number of runs below the true quantile is binomial, so two of the ordered runs enclose it with
    95% confidence, whatever the distribution (David and Nagaraja 2003, section 7.1).  It takes runs as
    independent: it says how well these runs give the quantile, not how another process would differ.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    runs = len(ordered)
    tail = (1 - CONFIDENCE) / 2
    low, high = int(stats.binom.ppf(tail, runs, share)), int(stats.binom.ppf(1 - tail, runs, share)) + 1
    if low < 1 or high > runs:
        return None
    return Interval(float(np.quantile(ordered, share)), float(ordered[low - 1]), float(ordered[high - 1]))


def ratio_interval(over: Sequence[float], under: Sequence[float]) -> Interval | None:
    """Return `over` / `under` (geometric means) with its interval; None if one has fewer than two values."""
    if len(over) < 2 or len(under) < 2:
        return None
    first, second = (np.log(np.asarray(values, dtype=np.float64)) for values in (over, under))
    difference = float(first.mean() - second.mean())
    half = _welch_half_width(first, second)
    return Interval(math.exp(difference), math.exp(difference - half), math.exp(difference + half))


def verdict(speedup: Interval | None, margin: float) -> str:
    """Return `faster`, `slower`, `tie` or `inconclusive` for a speed-up with its interval.

    `margin` is the difference that decides nothing (0.02: 2%).  Faster and slower need the whole
    interval beyond it, a tie needs the whole interval inside (two one-sided tests, Schuirmann 1987).
    """
    if speedup is None:
        return "inconclusive"
    limit = 1 + margin
    if speedup.low > limit:
        return "faster"
    if speedup.high < 1 / limit:
        return "slower"
    return "tie" if 1 / limit <= speedup.low and speedup.high <= limit else "inconclusive"


def processes_that_would_settle(over: Sequence[float], under: Sequence[float], margin: float) -> int | None:
    """Return how many processes a row would give a verdict if means and spread stayed as they are.

    None if more than 100 would be needed, or if there are fewer than two to estimate from.
    """
    if len(over) < 2 or len(under) < 2:
        return None
    first, second = (np.log(np.asarray(values, dtype=np.float64)) for values in (over, under))
    gap = abs(abs(float(first.mean() - second.mean())) - math.log1p(margin))
    spread = math.sqrt(float(first.var(ddof=1) + second.var(ddof=1)))
    for processes in range(2, MOST_PROCESSES + 1):
        if _t(2 * (processes - 1)) * spread / math.sqrt(processes) < gap:
            return processes
    return None


def _welch_half_width(first: Logs, second: Logs) -> float:
    a, b = (float(logs.var(ddof=1)) / len(logs) for logs in (first, second))
    if a + b == 0:
        return 0.0
    freedom = (a + b) ** 2 / (a**2 / (len(first) - 1) + b**2 / (len(second) - 1))
    return _t(freedom) * math.sqrt(a + b)


def _t(freedom: float) -> float:
    """Return the two-sided 95% quantile of Student's t."""
    return float(stats.t.ppf(0.5 + CONFIDENCE / 2, freedom))
