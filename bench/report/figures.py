"""The one place that knows how each figure of a report is written."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from bench.core.reports import rate_text
from bench.summary.table_file import is_missing

MISSING = "–"


def milliseconds(value: Any) -> str:
    """Write a latency with four significant digits, three decimals from 0.1 ms on: 0.0123, 0.456, 12.35, 345.7."""
    if is_missing(value):
        return MISSING
    if 0 < value < 0.1:
        return f"{value:.{2 - math.floor(math.log10(value))}f}"
    decimals = max(0, 3 - math.floor(math.log10(value))) if value > 0 else 3
    return f"{value:.{min(decimals, 3)}f}"


def between(write: Callable[[Any], str], low: Any, high: Any) -> str:
    """Write the limits of an interval: 0.451 – 0.462."""
    return MISSING if is_missing(low) or is_missing(high) else f"{write(low)} – {write(high)}"


def with_interval(write: Callable[[Any], str], value: Any, low: Any, high: Any) -> str:
    """Write a figure with the limits of its interval where they are known: 0.456 (0.451 – 0.462)."""
    limits = between(write, low, high)
    return write(value) + ("" if limits == MISSING else f" ({limits})")


def per_second(value: Any) -> str:
    """Write a throughput in samples per second: 0.042, 38.2, 1205."""
    return MISSING if is_missing(value) else rate_text(value)


def ratio(value: Any) -> str:
    """Write a speed-up: 0.034×, 2.05×, 143×."""
    if is_missing(value):
        return MISSING
    if value < 0.1:
        return f"{value:.2g}×"
    return f"{value:.2f}×" if value < 100 else f"{value:,.0f}×"


def percent(value: Any) -> str:
    """Write a share; 100% only where it is exact."""
    if is_missing(value):
        return MISSING
    return "100%" if value == 1 else f"{min(value * 100, 99.9):.1f}%"


def seconds(value: Any) -> str:
    """Write a duration in seconds: 0.03 s, 12.4 s."""
    if is_missing(value):
        return MISSING
    return f"{value:.1f} s" if value >= 0.1 or value <= 0 else f"{value:.1g} s"


def share(value: Any) -> str:
    """Write a share of a limit: 43%, 0.4%."""
    if is_missing(value):
        return MISSING
    return f"{value:.0%}" if value >= 0.1 else f"{value:.1%}"


def three_digits(value: Any) -> str:
    """Write an energy in mJ, or what something costs: 4.21, 38.2, 512, 48,600."""
    if is_missing(value):
        return MISSING
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def watts(value: Any) -> str:
    """Write a power."""
    return MISSING if is_missing(value) else f"{value:.0f} W"


def calls(value: Any) -> str:
    """Write a number of calls: 940, 12,400."""
    return MISSING if is_missing(value) else f"{value:,.0f}"


def mebibytes(value: Any) -> str:
    """Write a size of memory: 512 MiB, 3.2 GiB."""
    if is_missing(value):
        return MISSING
    return f"{value:.0f} MiB" if value < 1024 else f"{value / 1024:.1f} GiB"
