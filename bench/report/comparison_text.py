"""How a comparison of two rows is written, and which rows another one cannot be told apart from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.report.figures import between, milliseconds, ratio
from bench.summary.comparisons import Comparison

NEAREST = 3
"""How many of the rows that cannot be told apart from the best one are named, the nearest first."""


def comparison_text(found: Comparison) -> str:
    """Write `1.23× (1.10× – 1.38×), faster`."""
    if found.interval is None:
        return f"{ratio(found.value)}, {verdict_text(found)}"
    return f"{ratio(found.value)} ({between(ratio, found.interval.low, found.interval.high)}), {verdict_text(found)}"


def verdict_text(found: Comparison) -> str:
    """Return the verdict, with why it could be nothing else, or that the two were not timed together."""
    apart = ", timed apart" if found.is_apart and not found.reason else ""
    return f"{found.verdict}{apart}{f': {found.reason}' if found.reason else ''}"


def nearest_text(rows: Sequence[Any]) -> str:
    """Name the nearest of some rows with their p50, and count the others: `a` (0.210 ms) and 4 more."""
    names = ", ".join(f"`{row.variant}` ({milliseconds(row.p50_ms)} ms)" for row in rows[:NEAREST])
    return names + (f" and {len(rows) - NEAREST} more" if len(rows) > NEAREST else "")
