"""Put everything known about every cell in one tidy table: a row a variant and batch size."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from bench.core.files import read_json
from bench.core.params import Params
from bench.core.paths import SAMPLES
from bench.summary.cells import CELL_FIGURES, cell_row, run_intervals
from bench.summary.recorded import Recorded, Row
from bench.summary.table_file import read_samples
from bench.summary.verdicts import with_comparisons, with_noise_floor

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
    "energy_mj_per_sample",
    "gross_energy_mj_per_sample",
    "one_off_seconds",
    "mean_low_ms",
    "mean_high_ms",
    "p95_low_ms",
    "p95_high_ms",
    "peak_host_mib",
    "host_loop_min_ms",
    "host_loop_max_ms",
)
"""Columns that reports read and that this run may not have."""


def build_summary(params: Params, samples: Path = SAMPLES) -> pd.DataFrame:
    """Return the table in the configured order; it walks params.yaml, never the files that happen to be there."""
    recorded = Recorded.read(params.baselines)
    rows: list[Row] = []
    for key, variant in params.all_variants().items():
        folder = samples / variant.device
        report = read_json(folder / f"{key}.json", mend=f"`dvc repro` measures {key} again")
        runs = read_samples(folder / f"{key}.csv")
        rows += [
            cell_row(key, variant, size, report, recorded) | run_intervals(runs[runs["batch"] == size])
            for size in params.batch_sizes
        ]
    table = pd.DataFrame(rows)
    for column in (*CELL_FIGURES, *OPTIONAL):
        if column not in table:
            table[column] = None
    return with_comparisons(with_noise_floor(table, params, recorded.controls), params)
