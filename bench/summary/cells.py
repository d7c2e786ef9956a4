"""Everything known about one cell (a variant at a batch size), as one row of the table."""

from __future__ import annotations

from typing import Any

import pandas as pd

from bench.core.errors import DataError
from bench.core.params import Variant
from bench.proof.kernels import arithmetic_shares
from bench.proof.operators import matrix_share
from bench.statistics.accuracy import mcnemar_p, wilson_interval
from bench.summary.costs import bound, energy, limits, one_off_seconds, tokens
from bench.summary.recorded import Recorded, of_this_machine
from bench.summary.table_file import Row

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
    "other_load_cores",
    "quota_throttled_seconds",
)
ENGINE_FIGURES = ("build_seconds", "engine_bytes", "session_without_cache_seconds")
EACH_PROCESS = ("process_p50_ms", "process_p95_ms", "process_mean_ms")
FIRST_PROCESS = ("load_seconds", "first_run_ms")
LARGEST_OF_PROCESSES = ("peak_host_mib", "peak_gpu_mib", "warm_up_gpu_mib")
START_UPS = {"cold_start_seconds": 0, "warm_start_seconds": 1}
"""The rounds whose processes start alone: in the first nothing compiled is cached, in the second it is."""
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
        "padding": variant.padding,
        "options": " ".join(f"{name}={value}" for name, value in variant.options.items()),
        "batch_size": batch_size,
        "cell": f"{key} batch {batch_size:03d}",
        **{name: cell[name] for name in CELL_FIGURES if name in cell},
        "session": report.get("session", {}).get("id"),
        "rounds": " ".join(map(str, cell.get("rounds", []))),
        **{name: " ".join(f"{value:.6g}" for value in cell[name]) for name in EACH_PROCESS if name in cell},
        **accuracy(report.get("accuracy")),
        **_process_figures(report["processes"]),
        **({"peak_gpu_mib": cell["gpu_mib"]} if "gpu_mib" in cell else {}),
        **_gpu_figures(cell.get("gpu", [])),
        **_host_figures(cell.get("host_loop_ms", [])),
        **_profile(cell),
        **_evidence(report.get("evidence", {})),
        **_costs(variant, batch_size, cell, report, recorded),
    }


def accuracy(counts: dict[str, int] | None) -> Row:
    """Return the accuracy over all labelled sentences with its 95% interval, and its loss against fp32 with a test."""
    if not counts:
        return {"accuracy": None}
    total = counts["labelled"]
    low, high = wilson_interval(counts["right"], total)
    return {
        "accuracy": counts["right"] / total,
        "accuracy_low": low,
        "accuracy_high": high,
        "labelled_sentences": total,
        "accuracy_loss": (counts["reference_right"] - counts["right"]) / total,
        "accuracy_loss_p": mcnemar_p(counts["only_reference"], counts["only_row"]),
    }


def _costs(variant: Variant, batch_size: int, cell: Row, report: Row, recorded: Recorded) -> Row:
    """Return limits, energy and what was spent once; empty for a cell without times."""
    if "p50_ms" not in cell:
        return {}
    workload = recorded.workload()
    built = of_this_machine(report.get("engine", {}), recorded.machine)
    idle_w = (recorded.peaks.get(variant.device) or {}).get("idle_w")
    return {
        **tokens(batch_size, cell["work"]),
        **limits(workload, variant, batch_size, cell, recorded.peaks),
        **energy(cell.get("gpu", []), [runs * batch_size for runs in cell["process_runs"]], idle_w),
        **{name: built[name] for name in ENGINE_FIGURES if name in built},
        "one_off_seconds": one_off_seconds(variant, batch_size, recorded.export, recorded.conversions, built),
    }


def _process_figures(processes: list[dict[str, Any]]) -> Row:
    """Return what loading took in the first process, both start-ups, and the largest memory of all processes."""
    if not processes:
        return {}
    first = {name: processes[0][name] for name in FIRST_PROCESS if name in processes[0]}
    started = {process["round"]: process["start_seconds"] for process in processes if "start_seconds" in process}
    first |= {name: started[number] for name, number in START_UPS.items() if number in started}
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
    for name in ("matmul_precision", "attention", "compile", "nodes", "captures", "captures_mib"):
        if name in evidence:
            observed[name] = evidence[name]
    for name in ("nodes_placed", "operators", "provider_options"):
        if evidence.get(name):
            observed[name] = " ".join(f"{key}={value}" for key, value in evidence[name].items())
    return observed
