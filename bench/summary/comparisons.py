"""Compare two rows of the summary: the one place where a ratio becomes a verdict.

Every pair of a device's rows may be looked at, so the interval of each ratio is one of all of them together: the error
of 5% is shared out over all pairs (Bonferroni).  What a reader picks out afterwards, the fastest row say, is covered.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

from bench.statistics.intervals import Interval, Verdict, ratio_of, verdict
from bench.statistics.rounds import Level, ratio
from bench.summary.table_file import is_missing

Quantity = Literal["latency", "throughput"]


@dataclass(frozen=True)
class Comparison:
    """How many times as fast the first of two rows is (or as many requests/s it sustains), and how sure that is."""

    value: float
    interval: Interval | None
    verdict: Verdict
    is_within_noise: bool = False
    """A tie only because the noise floor is wider than the configured margin: it shows no equality."""
    is_apart: bool = False
    """The two were not timed in the same rounds: the interval is wider by the drift in between."""
    reason: str = ""
    """Why an inconclusive verdict could be nothing else."""


def compare(first: Any, second: Any, quantity: Quantity = "latency") -> Comparison:
    """Return how many times as fast `first` is as `second`: the ratio of p50, or of throughput (made of means)."""
    ours, theirs = (_level(row, quantity) for row in (first, second))
    margin, comparisons = (max(_number(row, name) for row in (first, second)) for name in ("margin", "comparisons"))
    is_apart = _session(first) != _session(second)
    moved = sum(_number(row, "moved") for row in (first, second)) if is_apart else 0.0
    found = ratio(theirs, ours, int(comparisons), moved) if math.isfinite(moved) else None
    reason = _reason(first, second, found, moved)
    said: Verdict = "inconclusive" if reason else verdict(found, margin)
    is_noise = said == "tie" and max(_number(row, "noise_floor") for row in (first, second)) >= margin
    return Comparison(ratio_of(theirs.log_level, ours.log_level), found, said, is_noise, is_apart, reason)


def _level(row: Any, quantity: Quantity) -> Level:
    level: Level = row.p50_level if quantity == "latency" else row.mean_level
    return level if quantity == "latency" else replace(level, log_level=level.log_level - math.log(row.batch_size))


def _reason(first: Any, second: Any, found: Interval | None, moved: float) -> str:
    if any(_number(row, "voided") for row in (first, second)):
        return "the A/A row came out as different from itself"
    if not math.isfinite(moved):
        return "different sessions, with nothing timed in both"
    return "one process" if found is None else ""


def _session(row: Any) -> str | None:
    session = getattr(row, "session", None)
    return None if is_missing(session) else str(session)


def _number(row: Any, name: str) -> float:
    value = getattr(row, name)
    return 0.0 if is_missing(value) else float(value)


def fastest(rows: Iterable[Any]) -> Any:
    """Return the row with the lowest p50, None where there is none."""
    return min(rows, key=lambda row: row.p50_ms, default=None)


def fastest_and_ties(rows: Iterable[Any]) -> list[Any]:
    """Return the row with the lowest p50, then those that it is not surely faster than; empty where there is none."""
    ordered = sorted(rows, key=lambda row: row.p50_ms)
    return [ordered[0], *not_surely_slower(ordered[0], ordered[1:])] if ordered else []


def not_surely_slower(first: Any, others: Iterable[Any], quantity: Quantity = "latency") -> list[Any]:
    """Return those of the other rows that the first is not surely faster than."""
    return [row for row in others if compare(first, row, quantity).verdict != "faster"]
