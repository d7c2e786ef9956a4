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

from bench.core.params import Params
from bench.statistics.intervals import Interval, Verdict, verdict
from bench.statistics.rounds import Level, ratio
from bench.summary.table_file import Row, is_missing, known

Quantity = Literal["latency", "throughput"]
COMPARED = ("speedup", "speedup_low", "speedup_high", "verdict", "verdict_reason", "break_even_calls")


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


def with_comparisons(table: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Add what comes of comparing each row with the baseline of its device and batch size."""
    rows = list(table.itertuples())
    baselines = {
        (row.device, row.batch_size): row
        for row in rows
        if row.status == "measured" and params.baselines.get(row.device) == row.variant
    }
    table["baseline"] = [params.baselines.get(device) for device in table["device"]]
    columns = [_against(baselines.get((row.device, row.batch_size)), row) for row in rows]
    for name in COMPARED:
        table[name] = [found.get(name) for found in columns]
    table["break_even_cuda_calls"] = [_engine_pays_after(row, rows) for row in rows]
    return table


def _against(baseline: Any, row: Any) -> Row:
    if baseline is None or row.status != "measured":
        return {}
    if baseline.variant == row.variant:
        return {"speedup": 1.0}
    found = compare(row, baseline)
    return {
        "speedup": found.value,
        "speedup_low": found.interval and found.interval.low,
        "speedup_high": found.interval and found.interval.high,
        "verdict": found.verdict,
        "verdict_reason": found.reason or None,
        "break_even_calls": break_even_calls(row.one_off_seconds, baseline.mean_ms, row.mean_ms),
    }


def _engine_pays_after(row: Any, rows: list[Any]) -> int | None:
    """Return after how many calls an engine has paid for what it takes once more than ONNX Runtime's fastest CUDA row.

    None for rows without an engine, and where the engine saves nothing.
    """
    like = ("onnxruntime", "cuda", "measured", row.batch_size)
    others = [other for other in rows if (other.runtime, other.device, other.status, other.batch_size) == like]
    if row.runtime != "tensorrt" or row.status != "measured" or not others:
        return None
    fastest = min(others, key=lambda other: other.mean_ms)
    if is_missing(row.one_off_seconds) or is_missing(fastest.one_off_seconds):
        return None
    more_seconds = max(0.0, row.one_off_seconds - fastest.one_off_seconds)
    return break_even_calls(more_seconds, fastest.mean_ms, row.mean_ms)


def break_even_calls(one_off: float | None, baseline_mean_ms: float, mean_ms: float) -> int | None:
    """Return after how many calls the time saved is more than what was spent once.

    None if nothing is saved, or `one_off` is not known.
    """
    if one_off is None or math.isnan(one_off) or mean_ms >= baseline_mean_ms:
        return None
    return math.ceil(one_off * 1000 / (baseline_mean_ms - mean_ms))


def compare(first: Any, second: Any, quantity: Quantity = "latency") -> Comparison:
    """Return how many times as fast `first` is as `second`: the ratio of p50, or of throughput (made of means)."""
    ours, theirs = (_level(row, quantity) for row in (first, second))
    is_apart = known(first, "session") != known(second, "session")
    moved = sum(_both(first, second, "moved")) if is_apart else 0.0
    comparisons = int(max(_both(first, second, "comparisons")))
    found = ratio(theirs, ours, comparisons, moved) if math.isfinite(moved) else None
    reason = _reason(first, second, found, moved)
    margin = max(_both(first, second, "margin"))
    said: Verdict = "inconclusive" if reason else verdict(found, margin)
    is_noise = said == "tie" and max(_both(first, second, "noise_floor")) >= margin
    return Comparison(math.exp(theirs.log_level - ours.log_level), found, said, is_noise, is_apart, reason)


def _level(row: Any, quantity: Quantity) -> Level:
    level: Level = row.p50_level if quantity == "latency" else row.mean_level
    return level if quantity == "latency" else replace(level, log_level=level.log_level - math.log(row.batch_size))


def _both(first: Any, second: Any, name: str) -> tuple[float, float]:
    return float(known(first, name) or 0.0), float(known(second, name) or 0.0)


def _reason(first: Any, second: Any, found: Interval | None, moved: float) -> str:
    if any(_both(first, second, "voided")):
        return "the A/A row came out as different from itself"
    if not math.isfinite(moved):
        return "different sessions, with nothing timed in both"
    return "one process" if found is None else ""


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
