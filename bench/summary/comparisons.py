"""Compare two rows of the summary: the one place where a ratio becomes a verdict.

Every pair of a device's rows may be looked at, so the interval of each ratio is one of all of them together: the error
of 5% is shared out over all pairs (Bonferroni).  What a reader picks out afterwards, the fastest row say, is covered.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import pandas as pd

from bench.statistics.intervals import Interval, ratio_of, verdict
from bench.statistics.rounds import Level, ratio
from bench.summary.panels import level_of, values
from bench.summary.table_file import is_missing

DEFAULT_MARGIN = 0.02
Quantity = Literal["latency", "throughput"]


@dataclass(frozen=True)
class Comparison:
    """How many times as fast the first of two rows is, and how sure that is."""

    value: float
    interval: Interval | None
    verdict: str
    is_within_noise: bool = False
    """A tie only because the noise floor is wider than the configured margin: it shows no equality."""
    is_apart: bool = False
    """The two were not timed in the same rounds: the interval is wider by how far the machine moved in between."""
    reason: str = ""
    """Why an inconclusive verdict could be nothing else."""


def process_medians(row: Any) -> list[float]:
    """Return the p50 of each process of a row, in ms."""
    return list(values(row, "p50").values())


def compare(first: Any, second: Any, quantity: Quantity = "latency") -> Comparison:
    """Return how many times as fast `first` is as `second`: the ratio of p50, or of throughput (made of means)."""
    ours, theirs = (_level(row, quantity) for row in (first, second))
    margin = max(_number(row, "margin", DEFAULT_MARGIN) for row in (first, second))
    comparisons = int(max(_number(row, "comparisons", 1) for row in (first, second)))
    is_apart = _session(first) != _session(second)
    moved = sum(_number(row, "moved", 0.0) for row in (first, second)) if is_apart else 0.0
    found = ratio(theirs, ours, comparisons, moved) if math.isfinite(moved) else None
    reason = _reason(first, second, found, moved)
    said = "inconclusive" if reason else verdict(found, margin)
    is_noise = said == "tie" and max(_number(row, "noise_floor", 0.0) for row in (first, second)) >= margin
    return Comparison(ratio_of(theirs.log_level, ours.log_level), found, said, is_noise, is_apart, reason)


def _level(row: Any, quantity: Quantity) -> Level:
    if quantity == "latency":
        return level_of(row, "p50")
    level = level_of(row, "mean")
    return replace(level, log_level=level.log_level - math.log(row.batch_size))


def _reason(first: Any, second: Any, found: Interval | None, moved: float) -> str:
    if any(_number(row, "voided", 0.0) for row in (first, second)):
        return "the A/A row came out as different from itself"
    if not math.isfinite(moved):
        return "timed apart, with nothing timed in both"
    return "one process" if found is None else ""


def _session(row: Any) -> str | None:
    session = getattr(row, "session", None)
    return None if is_missing(session) else str(session)


def _number(row: Any, name: str, default: float) -> float:
    value: Any = getattr(row, name, None)
    return default if is_missing(value) else float(value)


def fastest(rows: pd.DataFrame) -> Any:
    """Return the row with the lowest p50, None where there is none."""
    return next(rows.sort_values("p50_ms").itertuples(), None)


def fastest_and_ties(rows: pd.DataFrame) -> list[Any]:
    """Return the row with the lowest p50, then those not significantly different; empty where there is none."""
    ordered = list(rows.sort_values("p50_ms").itertuples())
    return [ordered[0], *not_significantly_different(ordered[0], ordered[1:])] if ordered else []


def not_significantly_different(first: Any, others: Iterable[Any], quantity: Quantity = "latency") -> list[Any]:
    """Return those of the other rows that are neither surely faster nor surely slower than the first."""
    return [row for row in others if compare(first, row, quantity).verdict not in ("faster", "slower")]
