"""How a comparison of two rows is written."""

from __future__ import annotations

from bench.report.figures import between, ratio
from bench.summary.comparisons import Comparison


def comparison_text(found: Comparison) -> str:
    """Write `1.23× (1.10× – 1.38×), faster`."""
    if found.interval is None:
        return f"{ratio(found.value)}, {verdict_text(found)}"
    return f"{ratio(found.value)} ({between(ratio, found.interval.low, found.interval.high)}), {verdict_text(found)}"


def verdict_text(found: Comparison) -> str:
    """Return the verdict, with why it could be nothing else, or that the two were not timed together."""
    apart = ", timed apart" if found.is_apart and not found.reason else ""
    return f"{found.verdict}{apart}{f': {found.reason}' if found.reason else ''}"
