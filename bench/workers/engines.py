"""Build TensorRT engines once, and make sure that a timed session uses them as built.

    python -m bench.workers.engines JOB_FILE

opens a session on an empty engine folder, which fills it: a process of its own, because strict float32 is set by the
environment at its start.

The provider names its cache files by graph and flags, not by weights, TensorRT
version or GPU: the folder's name holds a hash of all of these, so that an engine
of other weights or another GPU is never found, let alone used.
"""

import hashlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from bench.core.errors import EngineError, WorkerError
from bench.core.files import file_sha256, read_model
from bench.core.params import Params, Variant
from bench.core.paths import ARTIFACTS, TIMING_CACHE
from bench.core.progress import log
from bench.core.reports import EngineRecord
from bench.core.schemas import read_machine_id
from bench.runtimes.base.registry import import_runtime
from bench.workers.launcher import WorkerProcess
from bench.workers.protocol import Job, answer_requests, engine_options, make_job

RECORD = "build.json"
TIMING_CACHES = "*.timing"
BUILDER_RESOURCE = "builder_resource"
"""In the name of the library that TensorRT loads to build for one generation of GPUs."""
ONNX_RUNTIME = "onnxruntime."
"""How the modules of its errors begin."""


def engine_folder_name(graph: Path, options: dict[str, Any], tensorrt: str, gpu: dict[str, Any]) -> str:
    """Return the name of the folder for an engine of this graph, these options, TensorRT version and GPU."""
    digest = hashlib.sha256(file_sha256(graph).encode())
    for part in (options, tensorrt, {"gpu": gpu["gpu"], "compute_capability": gpu["compute_capability"]}):
        digest.update(json.dumps(part, sort_keys=True).encode())
    return f"engine-{digest.hexdigest()[:16]}"


def read_record(variant_folder: Path) -> EngineRecord:
    """Read what `build_engine` wrote about a variant: status, reason, folder, build seconds, bytes."""
    return read_model(variant_folder / RECORD, "`dvc repro -f build_engine` writes it anew", EngineRecord)


def folder_state(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of an engine folder; the timing cache, which may grow, left out."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".timing")
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}


def copy_engine(source: Path, copy: Path) -> dict[str, str]:
    """Copy an engine folder to where a session may work on it; return the copy's state."""
    shutil.copytree(source, copy)
    return folder_state(copy)


def changed_engine(key: str, copy: Path, before: dict[str, str]) -> str:
    """Return how a session changed or added an engine: the cache missed, and a build was timed; empty if none did."""
    after = folder_state(copy)
    changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    if not changed:
        return ""
    return (
        f"{key}: the run built an engine instead of using the built one ({', '.join(changed)}); "
        f"its figures are thrown away: `dvc repro -f build_engine@{key}` builds it for this machine"
    )


def misfit(key: str, record: EngineRecord, environment: dict[str, Any]) -> str:
    """Return how an engine, from a cache or put here by hand, is of another TensorRT or GPU; empty if it is not."""
    here = {
        "tensorrt": (record.tensorrt, environment["versions"]["tensorrt"]),
        "gpu": (record.gpu, (environment["cuda"] or {}).get("gpu")),
    }
    for what, (built_for, value) in here.items():
        if built_for != value:
            return (
                f"{key}: its engine was built for {what} {built_for}, this machine has {value or 'none'}: "
                f"`dvc repro build_engine@{key}` builds it for this one"
            )
    return ""


@contextmanager
def with_timing_cache(folder: Path, shared: Path) -> Iterator[None]:
    """Give `folder` the layer timings of earlier builds, and keep those of this one: later builds are faster.

    Builds on other GPUs may do the same at the same time: each finds a whole file, and the last one's stays.
    """
    shared.mkdir(parents=True, exist_ok=True)
    for cache in shared.glob(TIMING_CACHES):
        shutil.copyfile(cache, folder / cache.name)
    yield
    for cache in sorted(folder.rglob(TIMING_CACHES)):
        new = shared / f"{cache.name}.{folder.name}"
        shutil.copyfile(cache, new)
        with suppress(PermissionError):  # on Windows, while another build reads it
            new.replace(shared / cache.name)
        new.unlink(missing_ok=True)


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
    job = make_job(key, variant, params, engine=target)
    try:
        with (
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
            with_timing_cache(target, TIMING_CACHE),
            WorkerProcess(job, Path(scratch), "bench.workers.engines") as worker,
        ):
            worker.wait_until_ready(params.timing.worker_limit_seconds)
            result = worker.ask("build", params.timing.worker_limit_seconds)
            if result["status"] in ("failed", "out_of_memory"):
                raise WorkerError(f"{key}: {result['reason']}")
    except WorkerError as problem:
        if BUILDER_RESOURCE in str(problem):
            reason = f"TensorRT {tensorrt} does not load its builder resource for this GPU: {problem.last_words()}"
            return EngineRecord(status="skipped", reason=reason)
        if variant.precision != "int8":
            raise
        reason = f"TensorRT {tensorrt} built no INT8 engine: {problem.last_words()}"
        return EngineRecord(status="rejected", reason=reason)
    if result["status"] != "built":
        return EngineRecord(status=result["status"], reason=result["reason"])
    size = sum(path.stat().st_size for path in target.rglob("*.engine"))
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


def build(job: Job) -> dict[str, Any]:
    """Return `built` with the time that the first session took."""
    began = time.perf_counter()
    try:
        session = import_runtime(job.runtime).open_session(job)
        seconds = dict[int, float]()
        for size in job.batch_sizes:
            before = time.perf_counter()
            session.prepare(size)
            seconds[size] = time.perf_counter() - before
    except Exception as problem:
        if not type(problem).__module__.startswith(ONNX_RUNTIME):
            raise
        sys.exit(f"{type(problem).__name__}: {problem}")  # a traceback would push TensorRT's own words out of sight
    built = {"status": "built", "session_without_cache_seconds": time.perf_counter() - began}
    return built | ({"seconds_by_batch_size": seconds} if session.is_for_one_batch_size else {})


if __name__ == "__main__":
    own_job = Job.read(Path(sys.argv[1]))
    answer_requests(import_runtime(own_job.runtime).import_libraries, {"build": partial(build, own_job)})
