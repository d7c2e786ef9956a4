"""Build the engines of one variant in a process of its own."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from bench.core.errors import EngineError, WorkerError
from bench.core.params import Params, Variant
from bench.core.paths import ARTIFACTS, TIMING_CACHE
from bench.core.progress import log
from bench.core.provenance import read_machine_id
from bench.core.reports import EngineRecord
from bench.workers.engines import engine_bytes, engine_folder_name, with_timing_cache
from bench.workers.jobs import engine_options, make_job
from bench.workers.launcher import run_worker

BUILDER_RESOURCE = "builder_resource"
"""In the name of the library that TensorRT loads to build for one generation of GPUs."""


def build_engines(
    key: str, variant: Variant, params: Params, environment: dict[str, Any], folder: Path
) -> EngineRecord:
    """Build into `folder` and return the record; EngineError if no engine came out."""
    options = {**engine_options(variant, params), **variant.options, "precision": variant.precision}
    tensorrt = environment["versions"]["tensorrt"]
    name = engine_folder_name(ARTIFACTS / variant.graph, options, tensorrt, environment["cuda"])
    target = folder / name
    target.mkdir()
    log(f"  {key}: building for batch sizes {params.sizes(variant.device)}; this can take minutes")
    began = time.perf_counter()
    job = make_job(key, variant, params, process=0, measure_accuracy=False, engine=target)
    try:
        with (
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
            with_timing_cache(target, TIMING_CACHE),
        ):
            limit = params.timing.worker_limit_seconds
            result = run_worker(job, Path(scratch), limit, lambda _event: None, module="bench.workers.build_worker")
    except WorkerError as problem:
        if BUILDER_RESOURCE in str(problem):
            reason = f"TensorRT {tensorrt} does not load its builder resource for this GPU: {problem.last_words()}"
            return EngineRecord(status="skipped", reason=reason)
        if variant.precision != "int8":
            raise
        reason = f"TensorRT {tensorrt} built no INT8 engine: {problem.last_words()}"
        return EngineRecord(status="rejected", reason=reason)
    if result["status"] == "skipped":
        return EngineRecord(status="skipped", reason=result["reason"])
    size = engine_bytes(target)
    if not size:
        raise EngineError(f"{key}: TensorRT wrote no engine into its cache; nothing could be timed")
    return EngineRecord(
        status="built",
        folder=name,
        build_seconds=time.perf_counter() - began,
        session_without_cache_seconds=result["session_without_cache_seconds"],
        seconds_by_batch_size=result.get("seconds_by_batch_size", {}),
        engine_bytes=size,
        tensorrt=tensorrt,
        gpu=environment["cuda"]["gpu"],
        machine=read_machine_id(),
    )
