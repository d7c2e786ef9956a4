"""Put everything known about every cell in one tidy table: a row a variant and batch size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from bench.core.files import read_model
from bench.core.params import Params, Variant
from bench.core.paths import SAMPLES
from bench.core.reports import Report, Served
from bench.summary.budgets import Tables, curves_of
from bench.summary.cells import CELL_FIGURES, EACH_PROCESS, cell_row
from bench.summary.comparisons import with_comparisons
from bench.summary.costs import Recorded, amounts, raised_peaks
from bench.summary.panels import sessions_of, with_controls, with_levels
from bench.summary.serving import build_serving, read_served

OPTIONAL = (
    *("peak_gpu_mib", "accuracy", "throttling", "other_gpu_processes", "gpu_busy_ms", "bound", "matrix_share"),
    *("limit_ms", "limited_by", "limit_share", "limit_without_padding_share", "tokens_given", "tokens_computed"),
    *("energy_mj_per_sample", "gross_energy_mj_per_sample", "gross_energy_low", "gross_energy_high", "idle_w"),
    *("one_off_seconds", "peak_host_mib", "cold_start_seconds", "warm_start_seconds", *EACH_PROCESS),
    *("host_loop_min_ms", "host_loop_max_ms"),
)
"""Columns that reports read and that this run may not have."""


def read_tables(params: Params) -> Tables:
    """Return the tables of what the stages before wrote; it walks params.yaml, never the files that are there."""
    reports = {
        key: read_model(SAMPLES / f"{key}.json", f"`dvc repro` measures {key} again", Report)
        for key in params.all_variants()
    }
    return build_tables(params, reports, read_served(params.serving.variants), Recorded.read())


def build_tables(
    params: Params, reports: Mapping[str, Report], served: Mapping[str, Served], recorded: Recorded
) -> Tables:
    """Return the tables of variants' reports, timed and under load, by the variant's name."""
    summary = build_summary(params, reports, recorded)
    return Tables(summary, build_serving(params, summary, served), curves_of(served))


def build_summary(params: Params, reports: Mapping[str, Report], recorded: Recorded) -> pd.DataFrame:
    """Return a row a variant and batch size, in the configured order."""
    variants = params.all_variants()
    recorded = _with_raised_peaks(recorded, variants, reports)
    table = pd.DataFrame(
        cell_row(key, variant, size, reports[key], recorded)
        for key, variant in variants.items()
        for size in params.sizes(variant.device)
    )
    for column in (*CELL_FIGURES, *OPTIONAL):
        if column not in table:
            table[column] = None
    sessions = sessions_of(report.session for report in reports.values())
    leveled = with_levels(table, sessions)
    return with_comparisons(with_controls(leveled, sessions, params.baselines, params.report.margin), params)


def _with_raised_peaks(recorded: Recorded, variants: Mapping[str, Variant], reports: Mapping[str, Report]) -> Recorded:
    """Return the records with each peak at least what a measured row reached."""
    workload = recorded.workload()
    if workload is None:
        return recorded
    reached = [
        (variants[key], {"p50_ms": cell.p50_ms, **amounts(workload, variants[key], int(size), cell.work)})
        for key, report in reports.items()
        for size, cell in report.measured().items()
    ]
    return replace(recorded, peaks=raised_peaks(recorded.peaks, reached))
