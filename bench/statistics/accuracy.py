"""How sure an accuracy is, and whether two classifiers that saw the same sentences differ in it."""

from __future__ import annotations

import math

from scipy import stats


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """Return the 95% interval of a share (Wilson's score interval, 1927); ValueError without any trial."""
    if total < 1:
        raise ValueError("no trials")
    z = float(stats.norm.ppf(0.975))
    share = right / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return max(0.0, middle - half), min(1.0, middle + half)


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Return the p-value of McNemar's exact test (1947): the sentences that one of two classifiers alone gets right.

    If both are equally good, each such sentence is either's with probability ½; 1.0 where there is none.
    """
    differing = only_first + only_second
    return float(stats.binomtest(only_first, differing, 0.5).pvalue) if differing else 1.0
