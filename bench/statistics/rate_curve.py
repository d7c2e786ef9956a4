"""Latency against offered load, of one process: where it crosses a budget, and what it is below.

Latency does not fall when more requests come, so a curve that never falls is fitted through the noisy points (isotonic
regression), and interpolated on logarithms by monotone cubics (PCHIP; Fritsch and Butland 1984).  All points have their
say in where the budget is crossed, not only the two around it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import interpolate, optimize, stats

Quantile = Literal["p50_ms", "p95_ms", "p99_ms"]
CONFIDENCE = 0.99
ALLOWED_SHARE = 0.01


@dataclass(frozen=True)
class Point:
    """Latencies at one rate, requests a second; an overloaded one has no latencies that mean anything."""

    rate: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    is_overloaded: bool = False


@dataclass(frozen=True)
class Crossing:
    """The highest rate within a budget.

    `is_cliff`: at the next rate that was tried the row was overloaded, so the rate is the last one before; it is not
    interpolated.  `is_least`: every rate that was tried keeps the budget.
    """

    rate: float
    is_cliff: bool = False
    is_least: bool = False


def crossing(points: Sequence[Point], budget_ms: float) -> Crossing | None:
    """Return where p99 crosses the budget; None if no rate that was tried keeps it."""
    steady, is_cliff = steady_points(points)
    if not steady:
        return None
    logs = np.log([point.rate for point in steady])
    margins = fitted(steady, "p99_ms") - math.log(budget_ms)
    within = np.flatnonzero(margins <= 0)
    if not len(within):
        return None
    last = int(within[-1])
    if last == len(steady) - 1:
        return Crossing(steady[last].rate, is_cliff=is_cliff, is_least=not is_cliff)
    curve = interpolate.PchipInterpolator(logs, margins)
    root = optimize.brentq(curve, logs[last], logs[last + 1]) if margins[last] < 0 else logs[last]
    return Crossing(math.exp(root))


def latency_at(points: Sequence[Point], rate: float, quantile: Quantile, alone_ms: float | None = None) -> float | None:
    """Return a quantile of the latency at a rate, in ms; None where nothing was tried below or above it.

    `alone_ms`: what it is for requests that come one after another, where that is known: at no load at all.
    """
    steady, _ = steady_points(points)
    rates = [point.rate for point in steady]
    logs = fitted(steady, quantile) if steady else np.zeros(0)
    if alone_ms is not None:
        lowest = math.log(alone_ms) if not len(logs) else min(math.log(alone_ms), float(logs[0]))
        rates, logs = [0.0, *rates], np.array([lowest, *logs])
    if len(rates) < 2 or not rates[0] <= rate <= rates[-1]:
        return None
    return math.exp(float(np.interp(rate, rates, logs)))


def steady_points(points: Sequence[Point]) -> tuple[list[Point], bool]:
    """Return the points below the first overloaded one by rate, one a rate, and whether there is an overloaded one."""
    lowest = min((point.rate for point in points if point.is_overloaded), default=math.inf)
    by_rate = {point.rate: point for point in points if not point.is_overloaded and point.rate < lowest}
    return [by_rate[rate] for rate in sorted(by_rate)], math.isfinite(lowest)


def fitted(points: Sequence[Point], quantile: Quantile) -> NDArray[np.float64]:
    """Return the logarithms of a quantile at each rate, made never to fall (least squares)."""
    logs = np.log([getattr(point, quantile) for point in points])
    found: NDArray[np.float64] = optimize.isotonic_regression(logs).x
    return found


def shows_p99(late: int, queries: int) -> bool:
    """Tell whether so few late requests show, with 99% confidence, that their share is below 1%.

    If 1% were late, so few of them would be seen with a probability of at most 1% (exact binomial; the rule by which
    MLPerf's LoadGen stops early, loadgen/early_stopping.cc).  The fewest requests that can show it are 459, none late.
    """
    return queries > 0 and float(stats.binom.cdf(late, queries, ALLOWED_SHARE)) <= 1 - CONFIDENCE
