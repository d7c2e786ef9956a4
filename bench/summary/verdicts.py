"""Add to the table what comes of comparing its rows: intervals, noise floor, margin, speed-up, verdict, break-even."""

from __future__ import annotations

from statistics import geometric_mean
from typing import Any

import pandas as pd

from bench.core.params import Params
from bench.statistics.intervals import interval
from bench.statistics.noise import noise_floor
from bench.summary.comparisons import compare, process_medians
from bench.summary.costs import break_even_calls
from bench.summary.recorded import Row


def with_noise_floor(table: pd.DataFrame, params: Params, controls: dict[str, Row]) -> pd.DataFrame:
    """Add, for each device, the control's ratio at each batch size, the noise floor, and the margin of verdicts."""
    ratios: dict[tuple[str, int], float] = {}
    floors: dict[str, float] = {}
    for device, control in controls.items():
        rows = table[(table["device"] == device) & (table["status"] == "measured")]
        again = control["cells"]
        for row in rows[rows["variant"] == control["variant"]].itertuples():
            medians = again.get(str(row.batch_size), {}).get("process_p50_ms")
            if medians:
                ratios[device, row.batch_size] = geometric_mean(medians) / geometric_mean(process_medians(row))
        cells = [process_medians(row) for row in rows.itertuples()]
        if cells:
            floors[device] = noise_floor([value for key, value in ratios.items() if key[0] == device], cells)
    keys = list(zip(table["device"], table["batch_size"], strict=True))
    table["control_ratio"] = [ratios.get(key) for key in keys]
    table["noise_floor"] = [floors.get(device) for device, _ in keys]
    table["margin"] = [max(params.report.margin, floors.get(device, 0.0)) for device, _ in keys]
    return table


def with_comparisons(table: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Add the interval of p50, and what comes of comparing each row with the baseline of its device and batch."""
    rows = list(table.itertuples())
    baselines = {
        (row.device, row.batch_size): row
        for row in rows
        if row.status == "measured" and params.baselines.get(row.device) == row.variant
    }
    table["baseline"] = [params.baselines.get(device) for device in table["device"]]
    intervals = [interval(process_medians(row)) for row in rows]
    table["p50_low_ms"] = [found.low if found else None for found in intervals]
    table["p50_high_ms"] = [found.high if found else None for found in intervals]
    columns = [_against(baselines.get((row.device, row.batch_size)), row) for row in rows]
    for name in ("speedup", "speedup_low", "speedup_high", "verdict", "break_even_calls"):
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
    return {"speedup": found.value, **limits_of_it, "verdict": found.verdict, "break_even_calls": calls}
