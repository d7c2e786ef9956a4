"""Put everything known about every cell in one tidy table: a row a variant and batch size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from bench.core.files import read_model
from bench.core.params import Params, Variant
from bench.core.paths import SAMPLES
from bench.core.reports import Report
from bench.summary.cells import CELL_FIGURES, cell_row
from bench.summary.costs import amounts, raised_peaks
from bench.summary.panels import Sessions, with_levels
from bench.summary.recorded import Recorded
from bench.summary.table_file import Row
from bench.summary.verdicts import with_comparisons

OPTIONAL = (
    "peak_gpu_mib",
    "accuracy",
    "throttling",
    "other_gpu_processes",
    "gpu_busy_ms",
    "bound",
    "matrix_share",
    "limit_ms",
    "limited_by",
    "limit_share",
    "limit_without_padding_share",
    "tokens_given",
    "tokens_computed",
    "energy_mj_per_sample",
    "gross_energy_mj_per_sample",
    "gross_energy_low",
    "gross_energy_high",
    "idle_w",
    "one_off_seconds",
    "peak_host_mib",
    "cold_start_seconds",
    "warm_start_seconds",
    "process_p50_ms",
    "process_p95_ms",
    "process_mean_ms",
    "host_loop_min_ms",
    "host_loop_max_ms",
)
"""Columns that reports read and that this run may not have."""


def build_summary(params: Params, samples: Path = SAMPLES) -> pd.DataFrame:
    """Return the table in the configured order; it walks params.yaml, never the files that happen to be there."""
    variants = params.all_variants()
    reports = {
        key: read_model(samples / variant.device / f"{key}.json", f"`dvc repro` measures {key} again", Report)
        for key, variant in variants.items()
    }
    recorded = _with_raised_peaks(Recorded.read(), variants, reports)
    sessions = Sessions()
    rows: list[Row] = []
    for key, variant in variants.items():
        sessions.add(reports[key])
        rows += [cell_row(key, variant, size, reports[key], recorded) for size in params.sizes(variant.device)]
    table = pd.DataFrame(rows)
    for column in (*CELL_FIGURES, *OPTIONAL):
        if column not in table:
            table[column] = None
    return with_comparisons(with_levels(table, sessions, params), params)


def _with_raised_peaks(recorded: Recorded, variants: dict[str, Variant], reports: dict[str, Report]) -> Recorded:
    """Return the records with each peak at least what a measured row reached."""
    workload = recorded.workload()
    if workload is None:
        return recorded
    reached = [
        (
            variants[key],
            {"p50_ms": cell.p50_ms, **amounts(workload, variants[key], int(size), cell.work, "computed")},
        )
        for key, report in reports.items()
        for size, cell in report.measured().items()
    ]
    return replace(recorded, peaks=raised_peaks(recorded.peaks, reached))
