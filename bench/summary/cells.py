"""Everything known about one cell (a variant at a batch size), as one row of the table."""

from __future__ import annotations

from typing import Any

import pandas as pd

from bench.classifier.workload import Workload
from bench.core.errors import DataError
from bench.core.params import Variant
from bench.proof.kernels import arithmetic_shares
from bench.proof.operators import matrix_share
from bench.statistics.intervals import interval, quantile_interval
from bench.summary.costs import bound, energy, limits, one_off_seconds
from bench.summary.recorded import Recorded, Row

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
ENGINE_FIGURES = ("build_seconds", "engine_bytes", "session_without_cache_seconds")
FIRST_PROCESS = ("cold_start_seconds", "load_seconds", "first_run_ms")
LARGEST_OF_PROCESSES = ("peak_host_mib", "peak_gpu_mib", "other_load_cores")
GPU_FIGURES = ("sm_clock_mhz", "temperature_c", "power_w")


def cell_row(key: str, variant: Variant, batch_size: int, report: Row, recorded: Recorded) -> Row:
    """Return the figures of one cell from its variant's report; DataError if the report has no such batch size."""
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


def run_intervals(runs: pd.DataFrame) -> Row:
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
