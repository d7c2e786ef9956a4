"""Build the TensorRT engines of one variant: artifacts/engines/KEY with build.json."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import _project  # noqa: F401

from bench.engines import RECORD, engine_bytes, engine_folder_name, with_timing_cache
from bench.environment import read_environment
from bench.errors import EngineError, ParameterError, WorkerError, run_stage
from bench.files import replacing_folder, write_json
from bench.jobs import engine_options, make_job, reason_to_skip
from bench.launcher import run_worker
from bench.params import Params, Variant, load_params
from bench.paths import ARTIFACTS, ENGINES, TIMING_CACHE
from bench.progress import say

BUILDER_RESOURCE = "builder_resource"
"""In the name of the library that TensorRT loads to build for one generation of GPUs."""


def main() -> None:
    key = sys.argv[1]
    params = load_params()
    if key not in params.tensorrt_variants:
        allowed = ", ".join(params.tensorrt_variants)
        raise ParameterError(f"params.yaml: no variant {key!r} in tensorrt_variants, allowed: {allowed}")
    variant = params.tensorrt_variants[key]
    environment = read_environment()
    reason = reason_to_skip(variant, environment) or ("" if params.is_on(variant) else "its precision is off")
    with replacing_folder(ENGINES / key) as folder:
        record = {"status": "skipped", "reason": reason} if reason else build(key, variant, params, environment, folder)
        write_json(folder / RECORD, record)
    say(f"  {key}: {record['status']}{': ' + record['reason'] if 'reason' in record else ''}")


def build(key: str, variant: Variant, params: Params, environment: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Build into `folder` and return the record; EngineError if no engine came out."""
    options = {**engine_options(params), **variant.options, "precision": variant.precision}
    tensorrt = environment["versions"]["tensorrt"]
    name = engine_folder_name(ARTIFACTS / variant.graph, options, tensorrt, environment["cuda"])
    target = folder / name
    target.mkdir()
    say(f"  {key}: building for batch sizes {params.batch_sizes}; this can take minutes")
    began = time.perf_counter()
    job = make_job(key, variant, params, process=0, measure_accuracy=False, engine=target)
    try:
        with (
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
            with_timing_cache(target, TIMING_CACHE),
        ):
            limit = params.timing.worker_limit_seconds
            result = run_worker(job, Path(scratch), limit, lambda _event: None, module="bench.engine_worker")
    except WorkerError as problem:
        if BUILDER_RESOURCE in str(problem):
            reason = f"TensorRT {tensorrt} does not load its builder resource for this GPU: {problem.last_words()}"
            return {"status": "skipped", "reason": reason}
        if variant.precision != "int8":
            raise
        return {"status": "rejected", "reason": f"TensorRT {tensorrt} built no INT8 engine: {problem.last_words()}"}
    if result["status"] == "skipped":
        return {"status": "skipped", "reason": result["reason"]}
    size = engine_bytes(target)
    if not size:
        raise EngineError(f"{key}: TensorRT wrote no engine into its cache; nothing could be timed")
    return {
        "status": "built",
        "folder": name,
        "build_seconds": time.perf_counter() - began,
        "session_without_cache_seconds": result["session_without_cache_seconds"],
        "engine_bytes": size,
        "tensorrt": tensorrt,
        "gpu": environment["cuda"]["gpu"],
    }


if __name__ == "__main__":
    run_stage(main)
