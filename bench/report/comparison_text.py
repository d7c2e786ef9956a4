"""How a comparison of two rows is written."""

from __future__ import annotations

from bench.report.figures import between, ratio
from bench.summary.comparisons import Comparison


def comparison_text(found: Comparison) -> str:
    """Write `1.23× (1.10× – 1.38×), faster`."""
    if found.interval is None:
        return f"{ratio(found.value)} (one process, no interval), {found.verdict}"
    return f"{ratio(found.value)} ({between(ratio, found.interval.low, found.interval.high)}), {found.verdict}"


def verdict_text(found: Comparison) -> str:
    """Return the verdict, with the number of processes that would settle it where that helps."""
    if found.verdict != "inconclusive" or found.enough_processes is None:
        return found.verdict
    return f"inconclusive, about {found.enough_processes} processes would settle it"
