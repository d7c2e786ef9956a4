"""How large is a difference that means nothing?  From the control, and from processes that did the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from statistics import median


def noise_floor(control_ratios: Sequence[float], cells: Sequence[Sequence[float]]) -> float:
    """Return the difference (0.02: 2%) that two measurements of one thing show on this machine.

    `control_ratios`: p50 of the baseline measured once more at the end, over its first p50, a ratio a batch size.
    `cells`: the processes' medians of every cell.  Two processes of a cell differ by their pairwise ratio; means of k
    of them by about 1/√k of that.  The larger of the two medians counts.
    """
    again = median(abs(math.log(value)) for value in control_ratios) if control_ratios else 0.0
    spreads = [_spread(medians) / math.sqrt(len(medians)) for medians in cells if len(medians) > 1]
    return math.expm1(max(again, median(spreads) if spreads else 0.0))


def _spread(medians: Sequence[float]) -> float:
    """Return the median over pairs of processes of |log of their ratio|."""
    return median(abs(math.log(first / second)) for first, second in combinations(medians, 2))
