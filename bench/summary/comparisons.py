"""Compare two rows of the summary: the one place where a ratio becomes a verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.statistics.intervals import Interval, processes_that_would_settle, ratio_interval, verdict
from bench.summary.table_file import is_missing

DEFAULT_MARGIN = 0.02
Per = Callable[[Any], float]


@dataclass(frozen=True)
class Comparison:
    """How many times as fast the first of two rows is, how sure that is, and what would make it sure."""

    value: float
    interval: Interval | None
    verdict: str
    enough_processes: int | None
    is_within_noise: bool = False
    """A tie only because the noise floor is wider than the configured margin: it shows no equality."""


def process_medians(row: Any) -> list[float]:
    """Return the p50 of each process of a row, in ms."""
    text = row.process_p50_ms
    return [float(value) for value in text.split()] if isinstance(text, str) else []


def per_sample(row: Any) -> float:
    """Return what a row's latencies are divided by when throughput is compared: its batch size."""
    return float(row.batch_size)


def compare(first: Any, second: Any, per: Per = lambda _row: 1.0) -> Comparison:
    """Return how many times as fast `first` is as `second`; `per` divides latencies (by the batch, for throughput).

    The ratio is that of the geometric means of the processes' medians, or of p50 where there is but one process.
    """
    ours, theirs = ([value / per(row) for value in process_medians(row)] for row in (first, second))
    margin = max(_margin(first), _margin(second))
    found = ratio_interval(theirs, ours)
    value = found.value if found else (second.p50_ms / per(second)) / (first.p50_ms / per(first))
    said = verdict(found, margin)
    is_noise = said == "tie" and max(_noise_floor(first), _noise_floor(second)) >= margin
    return Comparison(value, found, said, processes_that_would_settle(theirs, ours, margin), is_noise)


def fastest(rows: pd.DataFrame) -> Any:
    """Return the row with the lowest p50, None where there is none."""
    return next(rows.sort_values("p50_ms").itertuples(), None)


def fastest_and_ties(rows: pd.DataFrame) -> list[Any]:
    """Return the row with the lowest p50, then those not significantly different; empty where there is none."""
    ordered = list(rows.sort_values("p50_ms").itertuples())
    return [ordered[0], *not_significantly_different(ordered[0], ordered[1:])] if ordered else []


def not_significantly_different(first: Any, others: Iterable[Any], per: Per = lambda _row: 1.0) -> list[Any]:
    """Return those of the other rows that are neither surely faster nor surely slower than the first."""
    return [row for row in others if compare(first, row, per).verdict not in ("faster", "slower")]


def _noise_floor(row: Any) -> float:
    return 0.0 if is_missing(getattr(row, "noise_floor", None)) else float(row.noise_floor)


def _margin(row: Any) -> float:
    return DEFAULT_MARGIN if is_missing(getattr(row, "margin", None)) else float(row.margin)
