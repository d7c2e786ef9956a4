"""A variance from few values, steadied by the variances of its neighbours.

Three processes say little about their own spread, and the cells of one panel are alike.  With s² the variances of many
cells, each of d degrees of freedom, taken as draws from one distribution with scale s0² and d0 degrees of freedom:

    steadied variance   (d0 · s0² + d · s²) / (d0 + d)   with d0 + d degrees of freedom

d0 and s0² come from the mean and the variance of log s² (Smyth 2004, sections 4 and 6.2).  Cells that are unlike give a
small d0: each then keeps its own variance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

SMALLEST_VARIANCE = 1e-12
"""Of logarithms: processes that differ by less than a millionth count as this far apart."""
LEAST_CELLS = 3
MOST_FREEDOM = 1e4


def steadied(variances: Sequence[float], freedoms: Sequence[float]) -> list[tuple[float, float]]:
    """Return (variance, degrees of freedom) of each cell; cells without freedom take what the others say.

    Fewer than three cells with freedom are too few to learn from: each keeps its own.
    """
    known = [(max(s2, SMALLEST_VARIANCE), d) for s2, d in zip(variances, freedoms, strict=True) if d > 0]
    own = [(max(s2, SMALLEST_VARIANCE), d) for s2, d in zip(variances, freedoms, strict=True)]
    if len(known) < LEAST_CELLS:
        return own
    scale, freedom = _prior(np.array([s2 for s2, _ in known]), np.array([d for _, d in known]))
    most = sum(d for _, d in known)
    if math.isinf(freedom):
        return [(scale, most)] * len(own)
    return [((freedom * scale + d * s2) / (freedom + d), min(freedom + d, most)) for s2, d in own]


def _prior(s2: NDArray[np.float64], d: NDArray[np.float64]) -> tuple[float, float]:
    """Return (s0², d0); d0 is infinite where the variances differ no more than chance makes them."""
    half = d / 2
    logs = np.log(s2) - special.digamma(half) + np.log(half)
    excess = float(logs.var(ddof=1) - special.polygamma(1, half).mean())
    if excess <= 0:
        return math.exp(float(logs.mean())), math.inf
    freedom = 2 * _inverse_trigamma(excess)
    if freedom > MOST_FREEDOM:
        return math.exp(float(logs.mean())), math.inf
    return math.exp(float(logs.mean()) + float(special.digamma(freedom / 2)) - math.log(freedom / 2)), freedom


def _inverse_trigamma(value: float) -> float:
    """Solve trigamma(y) = value by Newton's method (Smyth 2004, appendix)."""
    y = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(special.polygamma(1, y))
        step = trigamma * (1 - trigamma / value) / float(special.polygamma(2, y))
        y += step
        if abs(step / y) < 1e-8:
            break
    return y
