"""How sure a share of sentences is, and the difference of two shares.

Apart from the intervals of times: `scipy.stats` takes half a second to import, in every process that measures.
"""

from scipy import stats

from bench.statistics.intervals import CONFIDENCE


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """Return the 95% interval of a share (Wilson's score interval, 1927); ValueError without any trial."""
    if total < 1:
        raise ValueError("no trials")
    found = stats.binomtest(right, total).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)


def fewer_p(right: int, total: int, share: float) -> float:
    """Return the p-value of so few right ones, or fewer, where each is right with a probability (exact binomial)."""
    return float(stats.binomtest(right, total, share, alternative="less").pvalue)


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Return the p-value of McNemar's exact test (1947): what one of two classifiers alone gets right; 1.0 for none."""
    differing = only_first + only_second
    return float(stats.binomtest(only_first, differing, 0.5).pvalue) if differing else 1.0
