"""Is at most one request in a hundred late?  Exactly, not by a percentile of few requests."""

from __future__ import annotations

from scipy import stats

CONFIDENCE = 0.99
ALLOWED_SHARE = 0.01


def shows_p99(late: int, queries: int) -> bool:
    """Tell whether so few late requests show, with 99% confidence, that their share is below 1%.

    If 1% were late, so few of them would be seen with a probability of at most 1% (exact binomial; the rule by which
    MLPerf's LoadGen stops early, loadgen/early_stopping.cc).  The fewest requests that can show it are 459, none late.
    """
    return queries > 0 and float(stats.binom.cdf(late, queries, ALLOWED_SHARE)) <= 1 - CONFIDENCE
