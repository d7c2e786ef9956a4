"""Ratios of rows that were timed in turns: many short blocks, all rows in random order within a pass.

With y the mean over a row's processes of the logarithm of what its blocks of a pass gave (their median, say):

    d[pass]      y[a, pass] - y[b, pass]: what the machine did to the whole pass cancels out
    ratio        exp(mean of d), the geometric mean of what each pass says: a host that has a fast and a slow state and
                 changes between them does not flip it, as it flips a median of all calls
    variance     s² · (1 + 2 Σ ρ) / passes  +  p² · (Σ w² of a's processes + Σ w² of b's)
    s²           of d, shrunk towards the other pairs' of the panel (`prior`, Smyth 2004)
    ρ            correlation of passes so and so far apart, of all pairs together (`inflation`)
    p²           variance between processes of one row (memory layout, compiled code), from the rows that have several
                 processes, all batch sizes of a device together; w is the share of a process in its row's blocks
    another run  exp(level ± t · √(2 · (s²/passes + p² Σ w²) + 2 · m²)), m² the variance of the passes themselves:
                 another run may meet the machine in another state for all of its time

Of neighbours, pairs whose blocks follow each other, the mean is trimmed, and s² and ρ are of these pairs alone: blocks
that met the same machine differ little, but at times by much.  Each process then has a difference of its own in a pass.

Randomized, interleaved trials: Abedi and Brecht 2017.  Degrees of freedom of a sum: Welch 1947, Satterthwaite 1946.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, takewhile

import numpy as np
from numpy.typing import NDArray

from bench.statistics.intervals import Interval, around, t_quantile
from bench.statistics.shrinkage import MOST_FREEDOM, SMALLEST_VARIANCE, prior

Array = NDArray[np.float64]
Blocks = Mapping[int, Mapping[int, float]]
"""What the blocks of a row gave at one batch size, by process and pass; positive."""
TRIMMED = 0.2
"""Of the differences of neighbours at either end: their noise has heavy tails."""
JUMPS = 10.0
"""A row whose slowest block takes so many times as long as its fastest has no one latency."""
LEAST_PASSES = 4
LEAST_OF_TWO = 3
"""Passes that two processes of a row need to tell how they differ."""
SURE_ENOUGH = 1e-4
"""A variance of D below which a cell says no more of processes than another: 1%²."""
USUAL_PROCESSES = 0.02
"""Standard deviation between processes of one row, of logarithms, where a run says little of it; recorded runs have
0.003 to 0.023."""
USUAL_FREEDOM = 4.0
"""Of it: simulated, a false verdict in 3% of tables where processes differ by 3%, in 7% where by 8%."""
COMPARISONS = 100
"""At about so many its use is judged."""
ROUNDS_OF_CORRECTION = 3


@dataclass(frozen=True)
class Estimate:
    """A difference of logarithms with its variance and that one's degrees of freedom."""

    value: float
    variance: float
    freedom: float

    def interval(self, comparisons: int = 1, more: float = 0.0) -> Interval | None:
        """Return it as a ratio with its 95% interval, one of `comparisons` that share the error; `more` widens it.

        None where it says nothing.
        """
        return around(self.value, self.half_width(comparisons) + more)

    def half_width(self, comparisons: int = 1) -> float:
        """Return half of that interval, as a logarithm."""
        return t_quantile(self.freedom, comparisons) * math.sqrt(self.variance)


def summed(value: float, parts: Iterable[tuple[float, float]]) -> Estimate:
    """Return an estimate whose variance is the sum of independent parts, each with its degrees of freedom."""
    known = [(variance, freedom) for variance, freedom in parts if variance > 0]
    total = sum(variance for variance, _ in known)
    freedom = total**2 / sum(variance**2 / freedom for variance, freedom in known) if total else MOST_FREEDOM
    return Estimate(value, max(total, SMALLEST_VARIANCE), freedom)


class Panel:
    """The rows of one device that were timed in the same passes, at one batch size."""

    def __init__(
        self,
        rows: Sequence[Blocks],
        reference: int = 0,
        session: str = "",
        neighbours: Iterable[tuple[int, int]] | None = None,
    ) -> None:
        """`reference`: the place of the row that those of other sessions are compared through.

        `neighbours`: the pairs whose blocks follow each other, of which alone comparisons are asked.
        """
        self.session, self.trimmed = session, 0.0 if neighbours is None else TRIMMED
        self.numbers = sorted({number for blocks in rows for own in blocks.values() for number in own})
        self.logs: list[Array] = [  # `[processes, passes]`
            np.log([[own.get(number, np.nan) for number in self.numbers] for own in blocks.values()]) for blocks in rows
        ]
        self.means = np.array([_mean(own) for own in self.logs])
        self.known = ~np.isnan(self.means)
        self.reference = reference
        self.process_variance, self.process_freedom = 0.0, MOST_FREEDOM
        pairs = combinations(range(len(rows)), 2) if neighbours is None else sorted(neighbours)
        own = [series for pair in pairs if len(series := self.differences(*pair)) >= LEAST_PASSES]
        self.inflation = inflation([self.pulled_in(series) for series in own])
        variances, freedoms = zip(*map(self.own_variance, own), strict=True) if own else ((), ())
        self._prior = prior(variances, freedoms)
        self._most_freedom = len(rows) * max(freedoms, default=1.0)  # a pair shares each of its rows with others

    def _cut(self, passes: int) -> int:
        return int(self.trimmed * passes)

    def location(self, own: Array) -> float:
        """Return the mean of differences of passes; of neighbours the trimmed one (Tukey and McLaughlin 1963)."""
        cut = self._cut(len(own))
        return float(np.sort(own)[cut : len(own) - cut].mean())

    def pulled_in(self, own: Array) -> Array:
        """Return differences of which those that `location` leaves out are as large as the next that it takes."""
        cut, ordered = self._cut(len(own)), np.sort(own)
        return np.clip(own, ordered[cut], ordered[len(own) - 1 - cut])

    def own_variance(self, own: Array) -> tuple[float, float]:
        """Return the variance of `location` times the passes, were these independent, and its freedom (Yuen 1974)."""
        passes = len(own)
        taken = passes - 2 * self._cut(passes)
        variance = float(np.var(self.pulled_in(own), ddof=1)) * passes * (passes - 1) / (taken * (taken - 1))
        return max(variance, SMALLEST_VARIANCE), max(1.0, taken / self.inflation - 1)

    @cached_property
    def states(self) -> Array:
        """What each pass did to the rows in it: the median over rows, so that one disturbed row does not move it."""
        found: Array = np.nanmedian(self.means - np.nanmean(self.means, axis=1)[:, None], axis=0)
        return found

    def levels(self) -> "list[Level]":
        """Return where each row stands, in the order in which they were given."""
        return [Level(self, place) for place in range(len(self.logs))]

    def differences(self, first: int, second: int) -> Array:
        """Return the differences of two rows in the passes that both have; of neighbours process by process."""
        one, other = self.logs[first], self.logs[second]
        by_process = self.trimmed and one.shape == other.shape
        own: Array = (one - other).T.ravel() if by_process else self.means[first] - self.means[second]
        return own[~np.isnan(own)]

    def shares(self, place: int, passes: NDArray[np.bool_]) -> float:
        """Return Σ w² of a row in these passes: 1 for one process, ½ for two of equal shares."""
        if len(self.logs[place]) == 1:
            return 1.0
        ran = ~np.isnan(self.logs[place][:, passes])
        weights = (ran / np.maximum(ran.sum(axis=0), 1)).mean(axis=1)
        return float((weights**2).sum())

    def noise(self, own: Array) -> tuple[float, float]:
        """Return the variance of the mean of differences of passes, and its degrees of freedom."""
        variance, freedom = self.own_variance(own)
        if self._prior:
            scale, of_prior = self._prior[0], min(self._prior[1], self._most_freedom)
            variance = (of_prior * scale + freedom * variance) / (of_prior + freedom)
            freedom += of_prior
        return variance * self.inflation / len(own), freedom

    def compared(self, first: int, second: int) -> Estimate | None:
        """Return the logarithm of the ratio of two rows; None if one has fewer than `LEAST_PASSES` passes."""
        if first == second:
            return Estimate(0.0, SMALLEST_VARIANCE, MOST_FREEDOM)
        own = self.differences(first, second)
        if len(own) < LEAST_PASSES:
            return self._of_other_passes(first, second)
        both = self.known[first] & self.known[second]
        processes = self.process_variance * (self.shares(first, both) + self.shares(second, both))
        return summed(self.location(own), [self.noise(own), (processes, self.process_freedom)])

    def _of_other_passes(self, first: int, second: int) -> Estimate | None:
        """Compare rows of few common passes as two samples (Welch 1947): what passes did to both stays in it."""
        rows = [(place, self.means[place][self.known[place]]) for place in (first, second)]
        if min(len(own) for _, own in rows) < LEAST_PASSES:
            return None
        noise = [(float(np.var(own, ddof=1)) * self.inflation / len(own), len(own) - 1.0) for _, own in rows]
        processes = self.process_variance * sum(self.shares(place, self.known[place]) for place, _ in rows)
        return summed(float(rows[0][1].mean() - rows[1][1].mean()), [*noise, (processes, self.process_freedom)])


@dataclass(frozen=True, eq=False)
class Level:
    """Where one row of a panel stands."""

    panel: Panel
    place: int

    @property
    def log_level(self) -> float:
        """The mean over its passes, as a logarithm."""
        return float(np.nanmean(self.panel.means[self.place]))

    @property
    def value(self) -> float:
        """The geometric mean of its passes."""
        return math.exp(self.log_level)

    @cached_property
    def is_unstable(self) -> bool:
        """Whether its slowest block took `JUMPS` times as long as its fastest, of those that count."""
        own = self.panel.logs[self.place]
        return float(np.ptp(self.panel.pulled_in(own[~np.isnan(own)]))) >= math.log(JUMPS)

    def of_another_run(self) -> Interval | None:
        """Return the interval in which another run's value lies with 95%; None from few passes, or if unstable."""
        panel, passes = self.panel, self.panel.known[self.place]
        own, states = panel.means[self.place][passes], panel.states[passes]
        if len(own) < LEAST_PASSES or self.is_unstable:
            return None
        freedom = len(own) - 1.0
        noise = min(np.var(own, ddof=1), np.var(own - states, ddof=1)) * panel.inflation / len(own)
        processes = panel.process_variance * panel.shares(self.place, passes)
        parts = ((noise, freedom), (processes, panel.process_freedom), (np.var(states, ddof=1), freedom))
        return summed(self.log_level, [(2 * float(variance), df) for variance, df in parts]).interval()


def _mean(logs: Array) -> Array:
    """Return the mean over processes `[passes]` of `[processes, passes]`, NaN where none ran."""
    ran = (~np.isnan(logs)).sum(axis=0)
    found: Array = np.where(ran > 0, np.nansum(logs, axis=0) / np.maximum(ran, 1), np.nan)
    return found


def estimate(over: Level, under: Level) -> Estimate | None:
    """Return log(over / under); None from few passes, or where one of the two is unstable.

    Rows of two sessions are compared through their reference rows, which are the same row timed in both.
    """
    if over.is_unstable or under.is_unstable:
        return None
    if over.panel is under.panel:
        return over.panel.compared(over.place, under.place)
    if over.panel.session == under.panel.session:
        return _of_two_sizes(over, under)
    first, second = (each.panel.compared(each.place, each.panel.reference) for each in (over, under))
    if first is None or second is None:
        return None
    return summed(first.value - second.value, [(first.variance, first.freedom), (second.variance, second.freedom)])


def _of_two_sizes(over: Level, under: Level) -> Estimate | None:
    """Return log(over / under) of two batch sizes that were timed in the same passes."""
    both = set(over.panel.numbers) & set(under.panel.numbers)
    values = [each.panel.means[each.place][[number in both for number in each.panel.numbers]] for each in (over, under)]
    own = values[0] - values[1]
    own = own[~np.isnan(own)]
    if len(own) < LEAST_PASSES:
        return None
    noise = float(np.var(own, ddof=1)) * max(over.panel.inflation, under.panel.inflation) / len(own)
    shares = (each.panel.shares(each.place, each.panel.known[each.place]) for each in (over, under))
    processes = over.panel.process_variance * sum(shares)
    return summed(float(own.mean()), [(noise, len(own) - 1.0), (processes, over.panel.process_freedom)])


def inflation(series: Sequence[Array]) -> float:
    """Return 1 + 2 Σ ρ_k, by which neighbours that are alike make the variance of a mean larger; 1.0 without series.

    ρ_k, the correlation of values k passes apart, is of all series together.  The sum ends before the first that is not
    positive (Geyer 1992).  An own mean taken off makes each covariance too small by that mean's variance, which is
    added.
    """
    if not series:
        return 1.0
    longest = max(map(len, series))
    own = [values - values.mean() for values in series]
    lags = range(longest // 3 + 1)
    count = sum(map(len, own))
    covariances = [
        sum(float((each[lag:] * each[: max(0, len(each) - lag)]).sum()) for each in own) / count for lag in lags
    ]
    if not covariances[0]:
        return 1.0
    found = 1.0
    for _ in range(ROUNDS_OF_CORRECTION):
        of_mean = covariances[0] * found / (longest - found) if found < longest else covariances[0]
        correlations = [(each + of_mean) / (covariances[0] + of_mean) for each in covariances[1:]]
        positive = takewhile(lambda rho: rho > 0, correlations)
        found = min(1 + 2 * sum(positive), longest / 2)
    return found


def pool_processes(panels: Sequence[Panel], twins: Sequence[tuple[int, int] | None]) -> None:
    """Give all panels of a device the variance between processes of one row.

    `twins`: the places of the baseline and of its A/A row in each panel, whose processes are all of one variant.  Two
    processes differ by D; E[D²] = 2 p² + the variance that their blocks make.  A cell counts by how sure it is, and for
    one fewer than its processes; those of all batch sizes are the same processes.  Few degrees of freedom are filled up
    with what is usual (Smyth 2004), unless the run knows better: to the standard error that noise leaves.
    """
    found = [each for panel, twin in zip(panels, twins, strict=True) for each in _groups(panel, twin)]
    if not found:
        return
    weights = [group.freedom / (group.noise + SURE_ENOUGH) ** 2 for group in found]
    total = sum(weights)
    variance = sum(w * (group.squared - group.noise) / 2 for w, group in zip(weights, found, strict=True)) / total
    of_row: dict[int, tuple[float, float]] = {}
    for weight, group in zip(weights, found, strict=True):
        before, freedom = of_row.get(group.place, (0.0, 0.0))
        of_row[group.place] = before + weight, max(freedom, group.freedom)
    freedom = total**2 / sum(weight**2 / freedom for weight, freedom in of_row.values())
    unsure = math.sqrt(sum((w * group.noise) ** 2 / group.freedom / 2 for w, group in zip(weights, found, strict=True)))
    own = Estimate(0.0, max(variance, unsure / total), freedom)
    usual = (USUAL_FREEDOM * USUAL_PROCESSES**2 + freedom * max(0.0, variance)) / (USUAL_FREEDOM + freedom)
    shrunk = Estimate(0.0, usual, USUAL_FREEDOM + freedom)
    narrower = min(own, shrunk, key=lambda each: each.half_width(COMPARISONS))
    for panel in panels:
        panel.process_variance, panel.process_freedom = narrower.variance, narrower.freedom


@dataclass(frozen=True)
class _Group:
    """The processes of one variant at one batch size: how they differ in the square, and what their blocks make of it.

    Both are means over pairs of processes.
    """

    place: int
    freedom: float
    squared: float
    noise: float


def _groups(panel: Panel, twin: tuple[int, int] | None) -> Iterable[_Group]:
    for place, own in enumerate(panel.logs):
        if twin and place == twin[1]:
            continue
        processes = [*own, *panel.logs[twin[1]]] if twin and place == twin[0] else [*own]
        differences = [one - other for one, other in combinations(processes, 2)]
        pairs = [own[~np.isnan(own)] for own in differences]
        known = [own for own in pairs if len(own) >= LEAST_OF_TWO]
        if known:
            squares = [panel.location(own) ** 2 for own in known]
            noise = [panel.own_variance(own)[0] * panel.inflation / len(own) for own in known]
            among = (1 + math.sqrt(1 + 8 * len(known))) / 2
            yield _Group(place, among - 1, float(np.mean(squares)), float(np.mean(noise)))
