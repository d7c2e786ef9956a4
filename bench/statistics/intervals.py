"""Intervals from the values of a few processes, and verdicts from them.

Runs of one process share its memory layout, its threads' places and the state that it was born into; so the process,
not the run, is the unit that repeats.  All of it is in logarithms: latencies are positive, their spread grows with
their size, and a ratio is a difference.
"""

import math
from dataclasses import dataclass
from typing import Literal

from scipy import special

CONFIDENCE = 0.95
WIDEST = math.log(1000.0)
"""Of an interval's half: a thousandfold either way says nothing."""
Verdict = Literal["faster", "slower", "tie", "inconclusive"]


@dataclass(frozen=True)
class Interval:
    """An estimate with its limits, all in the unit of the values or as a ratio."""

    value: float
    low: float
    high: float


def around(log_value: float, half: float) -> Interval | None:
    """Return the interval of ± `half` around a logarithm, as numbers; None beyond `WIDEST`."""
    if half > WIDEST:
        return None
    return Interval(math.exp(log_value), math.exp(log_value - half), math.exp(log_value + half))


def t_quantile(freedom: float, comparisons: int = 1) -> float:
    """Return the two-sided 95% quantile of Student's t; with `comparisons`, each at 1/n of the error (Bonferroni)."""
    return float(special.stdtrit(freedom, 1 - (1 - CONFIDENCE) / comparisons / 2))


def verdict(speedup: Interval | None, margin: float) -> Verdict:
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


def smallest_difference(found: Interval, margin: float) -> float:
    """Return the smallest ratio that an interval this wide could have shown to be beyond the margin."""
    return found.high / found.value * (1 + margin)
