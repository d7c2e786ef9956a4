"""Add to the table what comes of comparing each row with the baseline of its device: speed-up, verdict, break-even."""

from __future__ import annotations

from typing import Any

import pandas as pd

from bench.core.params import Params
from bench.summary.comparisons import compare
from bench.summary.costs import break_even_calls
from bench.summary.table_file import Row, is_missing


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
    for name in ("speedup", "speedup_low", "speedup_high", "verdict", "verdict_reason", "break_even_calls"):
        table[name] = [found.get(name) for found in columns]
    table["break_even_cuda_calls"] = [_engine_pays_after(row, rows) for row in rows]
    return table


def _engine_pays_after(row: Any, rows: list[Any]) -> int | None:
    """Return after how many calls an engine has paid for what it takes once more than ONNX Runtime's fastest CUDA row.

    None for rows without an engine, and where the engine saves nothing.
    """
    others = [
        other
        for other in rows
        if (other.runtime, other.device, other.status) == ("onnxruntime", "cuda", "measured")
        and other.batch_size == row.batch_size
    ]
    if row.runtime != "tensorrt" or row.status != "measured" or not others:
        return None
    fastest = min(others, key=lambda other: other.mean_ms)
    if is_missing(row.one_off_seconds) or is_missing(fastest.one_off_seconds):
        return None
    more_seconds = max(0.0, row.one_off_seconds - fastest.one_off_seconds)
    return break_even_calls(more_seconds, fastest.mean_ms, row.mean_ms)


def _against(baseline: Any, row: Any) -> Row:
    if baseline is None or row.status != "measured":
        return {}
    if baseline.variant == row.variant:
        return {"speedup": 1.0}
    found = compare(row, baseline)
    limits_of_it = {"speedup_low": found.interval.low, "speedup_high": found.interval.high} if found.interval else {}
    calls = break_even_calls(row.one_off_seconds, baseline.mean_ms, row.mean_ms)
    said = {"verdict": found.verdict, "verdict_reason": found.reason or None}
    return {"speedup": found.value, **limits_of_it, **said, "break_even_calls": calls}
