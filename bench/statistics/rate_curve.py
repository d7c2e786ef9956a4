"""Latency against offered load: where it crosses a budget, trial by trial, and what it is below.

Of two trials of a process that follow each other, one met the budget and the other did not: where log p99, interpolated
over log rate, crosses the budget is one estimate of the rate that a row holds (`straddles`).

For every other budget and latency there is one curve through all trials.  Latency does not fall when more requests
come, so it never falls (isotonic regression), and is interpolated on logarithms by monotone cubics (PCHIP; Fritsch and
Butland 1984).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
from statistics import geometric_mean
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import interpolate, optimize, stats

from bench.core.reports import RatePoint, ServingProcess
from bench.statistics.blocks import Panel, pool_processes

TURNS = 2
"""Processes of a row, which take turns by pass."""
USUAL, USUAL_FREEDOM = 0.03, 4.0
"""How far two processes of one row usually are from their mean, as a share; counted as sure as from so many."""
APART, NEIGHBOURS = 1.6, 1.15
"""Rates that lie no further apart straddle what a row holds; where the higher one overloads it, no further than that:
nothing is interpolated then."""
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
    """The highest rate within a budget, by the curve through all trials."""

    rate: float
    is_cliff: bool = False
    """At the next rate that was tried the row was overloaded: it is the last one before, and not interpolated."""
    is_least: bool = False
    """Every rate that was tried keeps the budget."""


@dataclass(frozen=True)
class Straddle:
    """The rate that two trials say a row holds; `is_cliff`: the lower one's, since the row was overloaded above."""

    per_s: float
    is_cliff: bool


def straddles(trials: Iterable[RatePoint], budget_ms: float) -> dict[int, Straddle]:
    """Return what each two trials of a process in a row say that it holds, by the later one's pass."""
    found: dict[int, Straddle] = {}
    for before, after in pairwise(sorted(trials, key=attrgetter("number"))):
        met, missed = (before, after) if before.keeps else (after, before)
        apart = NEIGHBOURS if missed.is_overloaded else APART
        if before.keeps == after.keeps or not 1 / apart < before.rate / after.rate < apart:
            continue
        share = 0.0
        if not missed.is_overloaded:
            share = math.log(budget_ms / met.p99_ms) / math.log(missed.p99_ms / met.p99_ms)
        per_s = met.sent_per_s * (missed.sent_per_s / met.sent_per_s) ** share
        found[after.number] = Straddle(per_s, missed.is_overloaded)
    return found


def seconds_a_request(trials: Mapping[int, Sequence[RatePoint]], budget_ms: float) -> dict[int, dict[int, float]]:
    """Return what the trials of each process say of the time that a row needs for a request, by pass."""
    found = {process: straddles(own, budget_ms) for process, own in trials.items()}
    return {process: {number: 1 / each.per_s for number, each in own.items()} for process, own in found.items() if own}


def by_process(processes: Iterable[ServingProcess]) -> dict[int, list[RatePoint]]:
    """Return the trials of each process."""
    return {each.process: each.points for each in processes}


def sustained_per_s(trials: Mapping[int, Sequence[RatePoint]], budget_ms: float) -> float | None:
    """Return the rate that a row holds by the trials of its processes; None if it holds none."""
    if seconds := seconds_a_request(trials, budget_ms):
        return 1 / panel_of([seconds]).levels()[0].value
    crossed = crossing(curve_of([trial for own in trials.values() for trial in own]), budget_ms)
    return crossed.rate if crossed else None


def panel_of(rows: Sequence[Mapping[int, Mapping[int, float]]]) -> Panel:
    """Return the panel of rows that were served in the same passes, from what `seconds_a_request` gave of each.

    A row's processes take turns by pass, so that no pass has two of them: how they differ is seen in pairs of passes.
    Few rows show it, so that it is shrunk towards what is usual.
    """
    panel = Panel(rows)
    by_turn = Panel([{process: _by_turn(own) for process, own in row.items()} for row in rows])
    by_turn.process_freedom = 0.0
    pool_processes([by_turn], [None])
    freedom = USUAL_FREEDOM + by_turn.process_freedom
    squares = USUAL_FREEDOM * USUAL**2 + by_turn.process_freedom * by_turn.process_variance
    panel.process_variance, panel.process_freedom = squares / freedom, freedom
    return panel


def _by_turn(own: Mapping[int, float]) -> dict[int, float]:
    found: dict[int, list[float]] = {}
    for number, seconds in own.items():
        found.setdefault((number - 1) // TURNS, []).append(seconds)
    return {turn: geometric_mean(values) for turn, values in found.items()}


def at_each_rate(trials: Iterable[RatePoint]) -> dict[float, list[RatePoint]]:
    """Return the trials at each rate that was asked for, the lowest first."""
    found: dict[float, list[RatePoint]] = {}
    for trial in sorted(trials, key=attrgetter("rate")):
        found.setdefault(trial.rate, []).append(trial)
    return found


def curve_of(trials: Iterable[RatePoint]) -> list[Point]:
    """Return a point for each rate that was tried: geometric means of its trials, overloaded if most of them were.

    A rate counts as it was sent: of a few hundred requests at random times some percent more or fewer come than were
    asked for; MLPerf's result of the Server scenario is the scheduled rate for the same reason.
    """
    found: list[Point] = []
    for own in at_each_rate(trials).values():
        is_overloaded = 2 * sum(trial.is_overloaded for trial in own) > len(own)
        counted = [trial for trial in own if trial.is_overloaded == is_overloaded]
        rate, p50_ms, p95_ms, p99_ms = (
            geometric_mean(getattr(trial, name) for trial in counted)
            for name in ("sent_per_s", "p50_ms", "p95_ms", "p99_ms")
        )
        found.append(Point(rate, p50_ms, p95_ms, p99_ms, is_overloaded))
    return found


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
    """Return a quantile of the latency at a rate, in ms, `alone_ms` at no load; None beyond what was tried."""
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
