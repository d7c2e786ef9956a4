"""What `dvc metrics` shows: a file a variant in metrics/variants, with its status, its p50 and its rate under load."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from bench.core.files import replacing_folder, write_json
from bench.core.paths import VARIANT_METRICS
from bench.summary.table_file import Row, is_missing

DIGITS = 4
"""Of each figure; results/summary.csv has them in full."""


def write_metrics(table: pd.DataFrame, serving: pd.DataFrame, folder: Path = VARIANT_METRICS) -> None:
    """Write a file for each variant of the summary; of its batch sizes only those that were measured have a p50."""
    rates = dict(zip(serving["variant"], serving["requests_per_s"], strict=True))
    rates = {variant: rate for variant, rate in rates.items() if not is_missing(rate)}
    with replacing_folder(folder) as new:
        for variant, cells in table.groupby("variant", sort=False):
            write_json(new / f"{variant}.json", metrics_of(cells, rates.get(variant)))


def metrics_of(cells: pd.DataFrame, requests_per_s: float | None) -> Row:
    """Return a variant's status (each that one of its batch sizes has), p50 in ms by batch size, and requests/s."""
    measured = cells[cells["status"] == "measured"]
    p50_ms = {
        f"b{size:03d}": _rounded(p50) for size, p50 in zip(measured["batch_size"], measured["p50_ms"], strict=True)
    }
    return {
        "status": ", ".join(dict.fromkeys(cells["status"])),
        **({"p50_ms": p50_ms} if p50_ms else {}),
        **({} if requests_per_s is None else {"requests_per_s": _rounded(requests_per_s)}),
    }


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
