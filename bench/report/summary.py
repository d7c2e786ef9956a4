"""Put everything known about every cell in one tidy table: a row a variant and batch size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from bench.errors import DataError
from bench.files import read_json, replacing_file
from bench.intervals import Interval, interval, quantile_interval, ratio_interval, verdict
from bench.kernels import arithmetic_shares
from bench.params import Params, Variant
from bench.paths import SAMPLES, SUMMARY_CSV

Row = dict[str, Any]
CELL_FIGURES = (
    "status",
    "reason",
    "runs",
    "p50_ms",
    "p95_ms",
    "mean_ms",
    "samples_per_s",
    "max_abs_diff",
    "relative_error",
    "agreement",
    "checked_sentences",
    "proof",
)
FIRST_PROCESS = ("cold_start_seconds", "load_seconds", "first_run_ms")
LARGEST_OF_PROCESSES = ("peak_host_mib", "peak_gpu_mib", "other_load_cores")
GPU_FIGURES = ("sm_clock_mhz", "temperature_c", "power_w")


def build_summary(params: Params, samples: Path = SAMPLES) -> pd.DataFrame:
    """Return the table in the configured order; it walks params.yaml, never the files that happen to be there."""
    rows: list[Row] = []
    for key, variant in params.all_variants().items():
        report = read_json(samples / f"{key}.json", mend=f"`dvc repro` measures {key} again")
        runs = read_runs(samples / f"{key}.csv")
        rows += [
            _row(key, variant, size, report) | _run_intervals(runs[runs["batch"] == size])
            for size in params.batch_sizes
        ]
    table = pd.DataFrame(rows)
    for column in (*CELL_FIGURES, "peak_gpu_mib", "accuracy", "throttling", "other_gpu_processes"):
        if column not in table:
            table[column] = None
    return _with_speedup(table, params)


def _row(key: str, variant: Variant, batch_size: int, report: dict[str, Any]) -> Row:
    try:
        cell = report["cells"][str(batch_size)]
    except KeyError:
        raise DataError(f"{key}: no figures for batch size {batch_size}: `dvc repro` measures it again") from None
    return {
        "variant": key,
        "runtime": variant.runtime,
        "device": variant.device,
        "precision": variant.precision,
        "graph": variant.graph,
        "options": " ".join(f"{name}={value}" for name, value in variant.options.items()),
        "batch_size": batch_size,
        **{name: cell[name] for name in CELL_FIGURES if name in cell},
        "process_p50_ms": " ".join(f"{value:.6g}" for value in cell.get("process_p50_ms", [])),
        "accuracy": report.get("accuracy"),
        **_process_figures(report["processes"]),
        **_gpu_figures(cell.get("gpu", [])),
        **_profile(cell.get("profile")),
        **_evidence(report.get("evidence", {})),
        **_engine(report.get("engine", {})),
    }


def read_runs(path: Path) -> pd.DataFrame:
    """Read a variant's single runs: process, batch, run, latency_ms; DataError if the file is missing or damaged."""
    try:
        runs = pd.read_csv(path)
        return runs[["process", "batch", "run", "latency_ms"]]
    except (OSError, KeyError, ValueError) as problem:
        raise DataError(f"{path.as_posix()} is missing or damaged ({problem}): `dvc repro` measures it again") from None


def _run_intervals(runs: pd.DataFrame) -> Row:
    """Return the intervals of the mean (between processes) and of p95 (over all runs), where the runs support them."""
    found: Row = {}
    mean = interval(runs.groupby("process")["latency_ms"].mean().tolist())
    if mean:
        found |= {"mean_low_ms": mean.low, "mean_high_ms": mean.high}
    p95 = quantile_interval(runs["latency_ms"].tolist(), 0.95) if len(runs) else None
    if p95:
        found |= {"p95_low_ms": p95.low, "p95_high_ms": p95.high}
    return found


def _process_figures(processes: list[dict[str, Any]]) -> Row:
    """Return the first process's start-up figures (the only cold one) and the largest of the others."""
    if not processes:
        return {}
    first = {name: processes[0][name] for name in FIRST_PROCESS if name in processes[0]}
    largest: Row = {"processes": len(processes)}
    for name in LARGEST_OF_PROCESSES:
        values = [process[name] for process in processes if name in process]
        if values:
            largest[name] = max(values)
    return first | largest


def _gpu_figures(readings: list[dict[str, Any]]) -> Row:
    """Return the median of NVML's readings after the cell in each process, and any throttling seen."""
    if not readings:
        return {}
    table = pd.DataFrame(readings)
    figures: Row = {name: table[name].median() for name in GPU_FIGURES if name in table}
    if "throttling" in table:
        figures["throttling"] = ", ".join(sorted({text for text in table["throttling"] if text}))
    if "other_gpu_processes" in table:
        figures["other_gpu_processes"] = int(table["other_gpu_processes"].max())
    return figures


def _profile(profile: dict[str, Any] | None) -> Row:
    """Return what the profiling pass saw of an average run, the longest kernel by name."""
    if not profile:
        return {}
    shares = arithmetic_shares(profile["kernels"])
    return {
        "observed_arithmetic": " ".join(f"{kind}={share:.3f}" for kind, share in shares.items()),
        "kernel_launches": profile["kernel_launches"],
        "gpu_busy_ms": profile["gpu_busy_ms"],
        "longest_kernel": next(iter(profile["kernels"]), None),
    }


def _evidence(evidence: dict[str, Any]) -> Row:
    """Return what the session showed of itself, as text."""
    observed: Row = {
        "observed_device": " ".join(evidence.get("providers", evidence.get("device", []))),
        "observed_weights": " ".join(f"{name}={size}" for name, size in evidence.get("weight_bytes", {}).items()),
        "cpu_threads": evidence.get("cpu_threads"),
    }
    for name in ("matmul_precision", "attention", "compile", "nodes"):
        if name in evidence:
            observed[name] = evidence[name]
    for name in ("nodes_placed", "operators", "provider_options"):
        if evidence.get(name):
            observed[name] = " ".join(f"{key}={value}" for key, value in evidence[name].items())
    return observed


def _engine(record: dict[str, Any]) -> Row:
    return {name: record[name] for name in ("build_seconds", "engine_bytes") if name in record}


def process_medians(row: Any) -> list[float]:
    """Return the p50 of each process of a row, in ms."""
    text = row.process_p50_ms
    return [float(value) for value in text.split()] if isinstance(text, str) else []


def _with_speedup(table: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Add the interval of p50, and the speed-up against the baseline of the device with interval and verdict.

    Speed-up: the baseline's latency over the row's, same batch size, both measured; of the geometric
    means of the processes' medians, or of p50 where there is but one process.
    """
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
    for name in ("speedup", "speedup_low", "speedup_high", "verdict"):
        table[name] = [found.get(name) for found in columns]
    return table


def _against(baseline: Any, row: Any) -> Row:
    if baseline is None or row.status != "measured":
        return {}
    if baseline.variant == row.variant:
        return {"speedup": 1.0}
    found: Interval | None = ratio_interval(process_medians(baseline), process_medians(row))
    if found is None:
        return {"speedup": baseline.p50_ms / row.p50_ms, "verdict": verdict(None)}
    return {"speedup": found.value, "speedup_low": found.low, "speedup_high": found.high, "verdict": verdict(found)}


def write_summary(table: pd.DataFrame, path: Path = SUMMARY_CSV) -> None:
    """Write the table as CSV, every number in full."""
    with replacing_file(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def read_summary(path: Path = SUMMARY_CSV) -> pd.DataFrame:
    """Read results/summary.csv; DataError if it is missing or damaged."""
    try:
        return pd.read_csv(path, keep_default_na=False, na_values=[""])
    except FileNotFoundError:
        raise DataError(f"{path.as_posix()} is missing: `dvc repro` writes it") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as problem:
        raise DataError(f"{path.as_posix()} is damaged ({problem}): `dvc repro -f summarize` writes it anew") from None
