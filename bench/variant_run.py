"""Measure one variant: its workers, the gate, and the figures of each batch size."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.engines import check_fits, engine_copy, read_record
from bench.environment import read_environment
from bench.errors import WorkerError
from bench.evidence import contradiction, kernel_contradiction, proof_mark
from bench.files import replacing_folder, write_json, write_text
from bench.inputs import load_reference
from bench.jobs import make_job, reason_to_skip
from bench.launcher import OnEvent, run_workers, timing_lock
from bench.params import Params, Variant
from bench.paths import ENGINES, EVALUATION, metrics_file_name
from bench.progress import Steps, say
from bench.quality import Comparison, gate_verdict, reference_spread
from bench.statistics import summarize_latencies

Report = dict[str, Any]


def without_runs(params: Params, status: str, reason: str = "") -> Report:
    """Return the report of a variant that was not run: every batch size has this status."""
    cell = {"status": status, **({"reason": reason} if reason else {})}
    return {"cells": {str(size): dict(cell) for size in params.batch_sizes}, "processes": []}


def report_variant(key: str, variant: Variant, params: Params, is_real: bool, profile: bool = True) -> Report:
    """Return a variant's report: measured on this machine, `off`, or `skipped` with the reason.

    Measuring runs `timing.processes` workers one after another under the machine's lock; `profile` adds an untimed pass
    of the first one that records kernels or operators.  Raises WorkerError if a worker dies or hangs, and EngineError
    if an engine is not this machine's or a TensorRT session built one anew: nothing of the variant is written then.
    TensorRT's INT8 is the exception: some versions build engines that die, and such a row is `rejected`.
    """
    environment = read_environment()
    reason = reason_to_skip(variant, environment)
    if not params.is_on(variant):
        return without_runs(params, "off")
    if reason:
        return without_runs(params, "skipped", reason)
    if variant.runtime != "tensorrt":
        return _run_processes(key, variant, params, is_real=is_real, profile=profile, engine=None)
    record = read_record(ENGINES / key)
    if record["status"] in ("skipped", "rejected"):
        return without_runs(params, record["status"], record["reason"])
    check_fits(key, record, environment)
    try:
        with engine_copy(key, ENGINES / key / record["folder"]) as engine:
            report = _run_processes(key, variant, params, is_real=is_real, profile=profile, engine=engine)
    except WorkerError as problem:
        if variant.precision != "int8":
            raise
        report = without_runs(params, "rejected", f"its INT8 engine does not run: {problem.last_words()}")
    return {**report, "engine": record}


def _run_processes(
    key: str, variant: Variant, params: Params, *, is_real: bool, profile: bool, engine: Path | None
) -> Report:
    processes = params.timing.processes
    steps = Steps(key, total=processes * len(params.batch_sizes))
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch, timing_lock(), steps:
        jobs = [
            partial(
                make_job,
                key,
                variant,
                params,
                process=process,
                measure_accuracy=is_real and process == 0,
                profile=profile and process == 0,
                engine=engine,
            )
            for process in range(processes)
        ]
        listener = _listener(steps, results, processes)
        with closing(run_workers(jobs, Path(scratch), params.timing.worker_limit_seconds, listener)) as runs:
            for result in runs:
                if result["status"] == "skipped":
                    return without_runs(params, "skipped", result["reason"])
                results.append(result)
    return combine(variant, params, results)


def _listener(steps: Steps, results: list[dict[str, Any]], processes: int) -> OnEvent:
    def on_event(event: dict[str, Any]) -> None:
        batch = f" batch {event['batch_size']}" if "batch_size" in event else ""
        steps.start(f"process {len(results) + 1} of {processes}: {event['event']}{batch}")
        if event["event"] == "time":
            steps.done()

    return on_event


def combine(variant: Variant, params: Params, results: list[dict[str, Any]]) -> Report:
    """Put the processes' results together and pass every batch size through the gate."""
    spread = reference_spread(load_reference(EVALUATION))
    cells = {str(size): _combine_cell(variant, params, size, results, spread) for size in params.batch_sizes}
    first = results[0]
    return {
        "cells": cells,
        "evidence": first.get("evidence", {}),
        "accuracy": first.get("accuracy"),
        "processes": [_process_figures(result) for result in results],
    }


PROCESS_FIGURES = (
    "load_seconds",
    "cold_start_seconds",
    "first_run_ms",
    "peak_host_mib",
    "peak_gpu_mib",
    "other_load_cores",
    "turn_unix_ns",
)


def _process_figures(result: dict[str, Any]) -> dict[str, Any]:
    return {name: result[name] for name in PROCESS_FIGURES if name in result}


def _combine_cell(variant: Variant, params: Params, size: int, results: list[dict[str, Any]], spread: float) -> Report:
    cells = [result["cells"][str(size)] for result in results]
    for cell in cells:
        if cell["status"] != "measured":
            return {"status": cell["status"], "reason": cell["reason"]}
    latencies_ms = [[ns / 1e6 for ns in cell["latencies_ns"]] for cell in cells]
    comparisons = [_comparison(cell["comparison"]) for cell in cells]
    figures, reason = gate_verdict(comparisons, spread, params.quality[variant.precision])
    evidence, profile = results[0].get("evidence", {}), cells[0].get("profile")
    reason = contradiction(variant, evidence) or kernel_contradiction(variant, profile) or reason
    return {
        "status": "rejected" if reason else "measured",
        **({"reason": reason} if reason else {}),
        **summarize_latencies([latency for process in latencies_ms for latency in process], size),
        "runs": sum(map(len, latencies_ms)),
        "process_p50_ms": [float(np.median(process)) for process in latencies_ms],
        **figures,
        "proof": proof_mark(variant, evidence, profile),
        **({"profile": profile} if profile else {}),
        **({"operators": cells[0]["operators"]} if "operators" in cells[0] else {}),
        "host_loop_ms": [value for cell in cells for value in cell.get("host_loop_ms", [])],
        "latencies_ms": latencies_ms,
        "gpu": [cell["gpu"] for cell in cells if "gpu" in cell],
    }


def _comparison(recorded: dict[str, Any]) -> Comparison:
    diff = recorded["max_abs_diff"]
    return Comparison(**{**recorded, "max_abs_diff": float("inf") if diff is None else diff})


def write_report(
    report: Report, samples_csv: Path, report_json: Path, metrics: Path, batch_sizes: Iterable[int]
) -> None:
    """Write raw runs, everything known, and one small metrics file a batch size."""
    lines = ["process,batch,run,latency_ms"]
    for size in batch_sizes:
        for process, latencies in enumerate(report["cells"][str(size)].pop("latencies_ms", [])):
            lines += [f"{process},{size},{run},{latency:.6f}" for run, latency in enumerate(latencies)]
    write_text(samples_csv, "\n".join(lines) + "\n")
    write_json(report_json, report)
    with replacing_folder(metrics) as folder:
        for size in batch_sizes:
            write_json(folder / metrics_file_name(size), _metrics(report["cells"][str(size)]))


METRICS = ("status", "p50_ms", "p95_ms", "mean_ms", "samples_per_s")


def _metrics(cell: Report) -> Report:
    """Return the few figures that `dvc metrics show` puts in its table."""
    return {name: cell[name] for name in METRICS if name in cell}


def announce(key: str, report: Report) -> None:
    """Print one line a batch size."""
    for size, cell in report["cells"].items():
        if "p50_ms" in cell:
            figures = f"p50 {cell['p50_ms']:.3f} ms, {cell['samples_per_s']:.1f} samples/s"
            say(f"  {key} batch {size}: {figures}, {cell['status']}")
        else:
            say(f"  {key} batch {size}: {cell['status']}{': ' + cell['reason'] if 'reason' in cell else ''}")
