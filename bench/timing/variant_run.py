"""Measure one variant: its workers, one after another, under the machine's lock."""

from __future__ import annotations

import tempfile
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from bench.core.params import Params, Variant
from bench.core.progress import Steps
from bench.core.provenance import read_environment
from bench.machine.lock import timing_lock
from bench.timing.combine import Report, combine
from bench.workers.jobs import make_job, reason_to_skip
from bench.workers.launcher import OnEvent, run_workers


def without_runs(params: Params, status: str, reason: str = "") -> Report:
    """Return the report of a variant that was not run: every batch size has this status."""
    cell = {"status": status, **({"reason": reason} if reason else {})}
    return {"cells": {str(size): dict(cell) for size in params.batch_sizes}, "processes": []}


def report_without_runs(variant: Variant, params: Params) -> Report | None:
    """Return the report of a variant that is `off`, or `skipped` on this machine; None if it can be tried."""
    reason = reason_to_skip(variant, read_environment())
    if not params.is_on(variant):
        return without_runs(params, "off")
    return without_runs(params, "skipped", reason) if reason else None


def report_variant(
    key: str, variant: Variant, params: Params, *, is_real: bool, profile: bool = True, engine: Path | None = None
) -> Report:
    """Return a variant's report: measured on this machine, `off`, or `skipped` with the reason.

    Measuring runs `timing.processes` workers one after another under the machine's lock; `profile` adds an untimed pass
    of the first one that records kernels or operators; `engine` is the folder of a TensorRT engine.  Raises WorkerError
    if a worker dies or hangs: nothing of the variant is written then.
    """
    return report_without_runs(variant, params) or _run_processes(
        key, variant, params, is_real=is_real, profile=profile, engine=engine
    )


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
