"""Variances shrunk towards those of their like: a few blocks say little about their own spread (Smyth 2004)."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import optimize, special

SMALLEST_VARIANCE = 1e-12
"""Of logarithms: values that differ by less than a millionth count as this far apart."""
LEAST_CELLS = 3
MOST_FREEDOM = 1e4


def prior(variances: Sequence[float], freedoms: Sequence[float]) -> tuple[float, float] | None:
    """Return (s0², d0) of the distribution that the variances s² of d degrees of freedom are drawn from.

    A cell's own is then (d0 · s0² + d · s²) / (d0 + d), of d0 + d degrees (Smyth 2004, sections 4 and 6.2); d0 is
    infinite where the variances differ no more than chance makes them.  None for fewer than three.

    The logarithms vary by trigamma(d0 / 2) more than chance makes them; trigamma(y) > 1 / y.
    """
    if len(variances) < LEAST_CELLS:
        return None
    d = np.asarray(freedoms, dtype=np.float64)
    logs = np.log(np.maximum(variances, SMALLEST_VARIANCE)) - special.digamma(d / 2) + np.log(d / 2)
    mean, excess = float(logs.mean()), float(logs.var(ddof=1) - special.polygamma(1, d / 2).mean())
    if excess <= special.polygamma(1, MOST_FREEDOM / 2):
        return math.exp(mean), math.inf
    half = float(optimize.brentq(lambda y: special.polygamma(1, y) - excess, 1 / excess, MOST_FREEDOM / 2))
    return math.exp(mean + float(special.digamma(half)) - math.log(half)), 2 * half
