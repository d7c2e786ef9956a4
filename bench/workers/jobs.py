"""What a worker process is asked to do for a variant, and when there is nothing to ask."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from bench.core.model_inputs import Task
from bench.core.params import Params, Variant
from bench.core.paths import ARTIFACTS, EVALUATION
from bench.core.staleness import batches_of
from bench.machine.cores import thread_count
from bench.machine.gpus import gpu_to_time
from bench.workers.protocol import Job


def engine_options(variant: Variant, params: Params) -> dict[str, Any]:
    """Return what an engine depends on besides graph, TensorRT and GPU."""
    batches = batches_of(variant, params)
    return {
        **params.tensorrt.model_dump(),
        **batches,
        "batch_sizes": sorted(batches["batch_sizes"]),
        "sequence_length": params.sequence_length,
    }


def make_job(
    key: str,
    variant: Variant,
    params: Params,
    *,
    process: int,
    measure_accuracy: bool,
    task: Task = "single_label",
    starts_alone: bool = True,
    profile: bool = False,
    engine: Path | None = None,
) -> Job:
    """Return the job of one worker process, the `process`-th of its variant.

    `starts_alone`: nothing else is started beside it, so that its start-up is a user's.
    """
    return Job(
        key=key,
        runtime=variant.runtime,
        device=variant.device,
        precision=variant.precision,
        graph=ARTIFACTS / variant.graph,
        options=variant.options,
        batch_sizes=params.sizes(variant.device),
        sequence_length=params.sequence_length,
        padding=variant.padding,
        multiple_of=params.lengths.multiple_of,
        cpu_threads=thread_count(params.timing.cpu_threads),
        gpu=gpu_to_time(params.timing.gpu_index) if variant.device == "cuda" else None,
        engine=engine,
        engine_options=engine_options(variant, params),
        inputs=str(EVALUATION),
        process=process,
        starts_alone=starts_alone,
        warmup_runs=params.timing.warmup_runs,
        min_runs=params.timing.min_runs,
        min_seconds=params.timing.min_seconds,
        max_seconds=params.timing.max_seconds,
        measure_accuracy=measure_accuracy,
        task=task,
        profile=profile,
        started_unix_ns=time.time_ns(),
    )
