"""The one place that knows how each figure of a report is written; a figure that is not known is a dash."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

from bench.core.reports import rate_text
from bench.summary.table_file import is_missing

MISSING = "–"
Write = Callable[[Any], str]


def _or_missing(write: Write) -> Write:
    @wraps(write)
    def written(value: Any) -> str:
        return MISSING if is_missing(value) else write(value)

    return written


@_or_missing
def milliseconds(value: Any) -> str:
    """Write a latency with four significant digits, three decimals from 0.1 ms on: 0.0123, 0.456, 12.35, 345.7."""
    if 0 < value < 0.1:
        return f"{value:.{2 - math.floor(math.log10(value))}f}"
    decimals = max(0, 3 - math.floor(math.log10(value))) if value > 0 else 3
    return f"{value:.{min(decimals, 3)}f}"


@_or_missing
def per_second(value: Any) -> str:
    """Write a throughput in samples per second: 0.042, 38.2, 1205."""
    return rate_text(value)


@_or_missing
def ratio(value: Any) -> str:
    """Write a speed-up: 0.034×, 2.05×, 143×."""
    if value < 0.1:
        return f"{value:.2g}×"
    return f"{value:.2f}×" if value < 100 else f"{value:,.0f}×"


@_or_missing
def percent(value: Any) -> str:
    """Write a share; 100% only where it is exact."""
    return "100%" if value == 1 else f"{min(value * 100, 99.9):.1f}%"


@_or_missing
def seconds(value: Any) -> str:
    """Write a duration in seconds: 0.03 s, 12.4 s."""
    return f"{value:.1f} s" if value >= 0.1 or value <= 0 else f"{value:.1g} s"


@_or_missing
def share(value: Any) -> str:
    """Write a share of a limit: 43%, 0.4%."""
    return f"{value:.0%}" if value >= 0.1 else f"{value:.1%}"


@_or_missing
def three_digits(value: Any) -> str:
    """Write an energy in mJ, or what something costs: 4.21, 38.2, 512, 48,600."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


@_or_missing
def mebibytes(value: Any) -> str:
    """Write a size of memory: 512 MiB, 3.2 GiB."""
    return f"{value:.0f} MiB" if value < 1024 else f"{value / 1024:.1f} GiB"


def formatted(template: str) -> Write:
    """Return how a template such as `{:.1f}` writes a figure."""
    return _or_missing(template.format)


def between(write: Write, low: Any, high: Any) -> str:
    """Write the limits of an interval: 0.451 – 0.462."""
    return MISSING if is_missing(low) or is_missing(high) else f"{write(low)} – {write(high)}"


def with_interval(write: Write, value: Any, low: Any, high: Any) -> str:
    """Write a figure with the limits of its interval where they are known: 0.456 (0.451 – 0.462)."""
    limits = between(write, low, high)
    return write(value) + ("" if limits == MISSING else f" ({limits})")
