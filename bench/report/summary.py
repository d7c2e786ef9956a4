"""Put everything known about every cell in one tidy table: a row a variant and batch size."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import pandas as pd

from bench.errors import DataError
from bench.files import read_json, replacing_file
from bench.intervals import interval, quantile_interval
from bench.kernels import arithmetic_shares
from bench.noise import noise_floor
from bench.operators import matrix_share
from bench.params import Params, Variant
from bench.paths import CONTROL, CONVERSIONS, EXPORT, PEAKS, SAMPLES, SUMMARY_CSV
from bench.report.comparisons import compare, process_medians
from bench.report.costs import bound, break_even_calls, energy, limits, one_off_seconds
from bench.workload import Workload

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
ENGINE_FIGURES = ("build_seconds", "engine_bytes", "session_without_cache_seconds")
FIRST_PROCESS = ("cold_start_seconds", "load_seconds", "first_run_ms")
LARGEST_OF_PROCESSES = ("peak_host_mib", "peak_gpu_mib", "other_load_cores")
GPU_FIGURES = ("sm_clock_mhz", "temperature_c", "power_w")


@dataclass(frozen=True)
class Recorded:
    """What the stages before wrote, beside the samples."""

    export: Row
    conversions: dict[str, Row]
    peaks: Row
    controls: dict[str, Row]

    @classmethod
    def read(cls, devices: Iterable[str]) -> Recorded:
        """Read metrics/export.json, convert/, peaks.json and artifacts/control/; DataError if one is missing."""
        mend = "`dvc repro` writes it anew"
        conversions = {file.stem: read_json(file, mend) for file in sorted(CONVERSIONS.glob("*.json"))}
        controls = {device: read_json(CONTROL / f"{device}.json", mend) for device in devices}
        return cls(read_json(EXPORT, mend), conversions, read_json(PEAKS, mend), controls)


def build_summary(params: Params, samples: Path = SAMPLES) -> pd.DataFrame:
    """Return the table in the configured order; it walks params.yaml, never the files that happen to be there."""
    recorded = Recorded.read(params.baselines)
    rows: list[Row] = []
    for key, variant in params.all_variants().items():
        folder = samples / variant.device
        report = read_json(folder / f"{key}.json", mend=f"`dvc repro` measures {key} again")
        runs = read_runs(folder / f"{key}.csv")
        rows += [
            _row(key, variant, size, report, recorded) | _run_intervals(runs[runs["batch"] == size])
            for size in params.batch_sizes
        ]
    table = pd.DataFrame(rows)
    for column in (*CELL_FIGURES, *OPTIONAL):
        if column not in table:
            table[column] = None
    return _with_comparisons(_with_noise_floor(table, params, recorded.controls), params)


def _row(key: str, variant: Variant, batch_size: int, report: Row, recorded: Recorded) -> Row:
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
        "cell": f"{key} batch {batch_size:03d}",
        **{name: cell[name] for name in CELL_FIGURES if name in cell},
        "process_p50_ms": " ".join(f"{value:.6g}" for value in cell.get("process_p50_ms", [])),
        "accuracy": report.get("accuracy"),
        **_process_figures(report["processes"]),
        **_gpu_figures(cell.get("gpu", [])),
        **_host_figures(cell.get("host_loop_ms", [])),
        **_profile(cell),
        **_evidence(report.get("evidence", {})),
        **_costs(variant, batch_size, cell, report, recorded),
    }


def _costs(variant: Variant, batch_size: int, cell: Row, report: Row, recorded: Recorded) -> Row:
    """Return limits, energy and what was spent once; empty for a cell without times."""
    if "p50_ms" not in cell:
        return {}
    workload = Workload(**recorded.export["workload"])
    built = report.get("engine", {})
    idle_w = (recorded.peaks.get(variant.device) or {}).get("idle_w")
    return {
        **limits(workload, variant, batch_size, cell["p50_ms"], recorded.peaks),
        **energy(cell.get("gpu", []), cell["runs"] * batch_size, idle_w),
        **{name: built[name] for name in ENGINE_FIGURES if name in built},
        "one_off_seconds": one_off_seconds(variant, recorded.export, recorded.conversions, built),
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


def _host_figures(loops_ms: list[float]) -> Row:
    """Return the fastest and the slowest time of the fixed loop that is run before and after a cell."""
    return {"host_loop_min_ms": min(loops_ms), "host_loop_max_ms": max(loops_ms)} if loops_ms else {}


def _profile(cell: Row) -> Row:
    """Return what the profiling pass saw of an average run: kernels on the GPU, operators on the CPU."""
    if cell.get("operators"):
        operators = cell["operators"]
        return {"matrix_share": matrix_share(operators), "longest_operator": next(iter(operators))}
    profile = cell.get("profile")
    if not profile:
        return {}
    shares = arithmetic_shares(profile["kernels"])
    return {
        "observed_arithmetic": " ".join(f"{kind}={share:.3f}" for kind, share in shares.items()),
        "kernel_launches": profile["kernel_launches"],
        "gpu_busy_ms": profile["gpu_busy_ms"],
        **bound(cell["p50_ms"], profile["gpu_busy_ms"]),
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


def _with_noise_floor(table: pd.DataFrame, params: Params, controls: dict[str, Row]) -> pd.DataFrame:
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


def _with_comparisons(table: pd.DataFrame, params: Params) -> pd.DataFrame:
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
