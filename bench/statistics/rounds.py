"""Levels and noise of rows that were timed together, one process a row in each round.

With y the logarithm of what a row's process gave in a round (its median, say), in one panel at one batch size:

    y[row, round] = level[row] + state of the machine[round], if the row shares it + noise[row, round]

    level            the mean over the row's own rounds: the figure that is shown
    state            the median over rows of y - level, so that one disturbed row does not move it
                     a row shares it if y is steadier without it: rows that wait for the host do, a row that the GPU
                     alone sets the pace of does not
    noise            what is left; its variance is shrunk towards the other rows' (`steadied`)
    ratio of a, b    exp(level b - level a); its variance is noise_a²/n_a + noise_b²/n_b, and what of the machine's
                     state does not cancel out: state² · (s_a/n_a + s_b/n_b - 2 s_a s_b · common rounds/(n_a n_b)), s
                     being 1 for a row that shares it, else 0
    another run      exp(level ± t · √(2 · (noise²/n + state²))): its noise is drawn anew as ours was, and the machine
                     may be in another state for the whole of it, so that more rounds do not shrink that part

Randomized, interleaved trials (Abedi and Brecht 2017) turn what changes with time into noise that is the same for all.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from bench.statistics.intervals import Interval, around, t_quantile

Values = Mapping[int, float]
"""What the process of each round gave, by the number of the round; positive."""
LEAST_ROWS = 4
"""With fewer rows the state of the machine cannot be told from a row's noise, and stays part of it."""

SMALLEST_VARIANCE = 1e-12
"""Of logarithms: processes that differ by less than a millionth count as this far apart."""
LEAST_CELLS = 3
MOST_FREEDOM = 1e4


@dataclass(frozen=True)
class Level:
    """Where one row of a panel stands at one batch size, and how sure that is; variances are of logarithms."""

    log_level: float
    rounds: frozenset[Hashable]
    noise_variance: float
    noise_freedom: float
    state_variance: float
    state_freedom: float
    shares_state: bool = True

    @property
    def value(self) -> float:
        """The geometric mean of the processes' values."""
        return math.exp(self.log_level)

    def of_another_run(self) -> Interval | None:
        """Return the interval in which another run's value lies with 95%; None for one process."""
        if len(self.rounds) < 2:
            return None
        noise = self.noise_variance / len(self.rounds)
        state = self.state_variance * self.shares_state
        total = noise + state
        freedom = total**2 / (noise**2 / self.noise_freedom + state**2 / self.state_freedom)
        return around(self.log_level, t_quantile(freedom) * math.sqrt(2 * total))

    def half_width(self) -> float:
        """Return how far the level may be off, as a logarithm: half of its own 95% interval in these rounds."""
        if len(self.rounds) < 2:
            return math.inf
        return t_quantile(self.noise_freedom) * math.sqrt(self.noise_variance / len(self.rounds))


def levels(rows: Sequence[Values]) -> list[Level]:
    """Return the level of each row of one panel and batch size; every row needs at least one round."""
    numbers = sorted(set().union(*rows))
    logs = np.log([[row.get(number, np.nan) for number in numbers] for row in rows])
    means = np.nanmean(logs, axis=1)
    state = np.nanmedian(logs - means[:, None], axis=0) if len(rows) >= LEAST_ROWS else np.zeros(len(numbers))
    own, steady = ([_variance(row) for row in each] for each in (logs, logs - state))
    shares = [without <= variance for without, variance in zip(steady, own, strict=True)]
    of_noise = steadied(list(map(min, own, steady)), [len(row) - 1.0 for row in rows])
    of_state = _variance(state), max(1.0, len(state) - 1.0)
    return [
        Level(float(mean), frozenset(row), *noise, *of_state, shares_state=shared)
        for mean, row, noise, shared in zip(means, rows, of_noise, shares, strict=True)
    ]


def _variance(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(np.var(known, ddof=1)) if len(known) > 1 else 0.0


def ratio(over: Level, under: Level, comparisons: int = 1, moved: float = 0.0) -> Interval | None:
    """Return over / under with its interval; None for one process.

    `comparisons`: how many such ratios are looked at together.  `moved`: how far the machine moved between the two, as
    a logarithm, where they were not timed together; the interval is wider by as much.
    """
    if min(len(over.rounds), len(under.rounds)) < 2:
        return None
    a, b = over.noise_variance / len(over.rounds), under.noise_variance / len(under.rounds)
    freedom = (a + b) ** 2 / (a**2 / over.noise_freedom + b**2 / under.noise_freedom)  # Welch 1947
    n_a, n_b, common = len(over.rounds), len(under.rounds), len(over.rounds & under.rounds)
    s_a, s_b = over.shares_state, under.shares_state
    state = max(over.state_variance, under.state_variance) * (
        s_a / n_a + s_b / n_b - 2 * s_a * s_b * common / (n_a * n_b)
    )
    half = t_quantile(freedom, comparisons) * math.sqrt(a + b + state) + moved
    return around(over.log_level - under.log_level, half)


def steadied(variances: Sequence[float], freedoms: Sequence[float]) -> list[tuple[float, float]]:
    """Return (variance, degrees of freedom) of each cell, shrunk towards the others' (Smyth 2004, sections 4 and 6.2).

    Three processes say little about their own spread, and the cells of one panel are alike.  With s² of d degrees of
    freedom taken as draws from one distribution with scale s0² and d0 degrees of freedom, the variance is
    (d0 · s0² + d · s²) / (d0 + d), of d0 + d degrees.  Unlike cells give a small d0: each then keeps its own, as do
    fewer than three cells with freedom; cells without freedom take the others'.
    """
    own = [(max(s2, SMALLEST_VARIANCE), d) for s2, d in zip(variances, freedoms, strict=True)]
    known = [(s2, d) for s2, d in own if d > 0]
    if len(known) < LEAST_CELLS:
        return own
    scale, freedom = _prior(np.array([s2 for s2, _ in known]), np.array([d for _, d in known]))
    most = sum(d for _, d in known)
    if math.isinf(freedom):
        return [(scale, most)] * len(own)
    return [((freedom * scale + d * s2) / (freedom + d), min(freedom + d, most)) for s2, d in own]


def _prior(s2: NDArray[np.float64], d: NDArray[np.float64]) -> tuple[float, float]:
    """Return (s0², d0); d0 is infinite where the variances differ no more than chance makes them.

    The logarithms vary by trigamma(d0 / 2) more than chance makes them; trigamma(y) > 1 / y.
    """
    logs = np.log(s2) - special.digamma(d / 2) + np.log(d / 2)
    mean, excess = float(logs.mean()), float(logs.var(ddof=1) - special.polygamma(1, d / 2).mean())
    if excess <= special.polygamma(1, MOST_FREEDOM / 2):
        return math.exp(mean), math.inf
    half = float(optimize.brentq(lambda y: special.polygamma(1, y) - excess, 1 / excess, MOST_FREEDOM / 2))
    return math.exp(mean + float(special.digamma(half)) - math.log(half)), 2 * half
