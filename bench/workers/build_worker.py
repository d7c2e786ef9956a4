"""The building process: open a TensorRT session on an empty engine folder, which fills it.

    python -m bench.workers.build_worker JOB_FILE RESULT_FILE

A process of its own, because strict float32 is set by the environment at its start.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from bench.core.errors import BenchError
from bench.runtimes.base.registry import import_runtime
from bench.runtimes.base.session import Session, Unavailable
from bench.workers.protocol import Job, wait_for_turn

ONNX_RUNTIME = "onnxruntime."
"""How the modules of its errors begin."""


def main() -> None:
    job = Job.read(Path(sys.argv[1]))
    wait_for_turn()
    Path(sys.argv[2]).write_text(json.dumps(build(job)), encoding="utf-8")


def build(job: Job) -> dict[str, Any]:
    """Return `built` with the time that the first session took, or `skipped` or `failed` with the reason."""
    import_runtime(job.runtime).import_libraries()
    began = time.perf_counter()
    try:
        session = import_runtime(job.runtime).open_session(job)
        seconds = {size: _seconds_to_prepare(session, size) for size in job.batch_sizes}
    except Unavailable as problem:
        return {"status": "skipped", "reason": str(problem)}
    except BenchError as problem:
        return {"status": "failed", "reason": str(problem)}
    except Exception as problem:
        if not type(problem).__module__.startswith(ONNX_RUNTIME):
            raise
        sys.exit(f"{type(problem).__name__}: {problem}")  # a traceback would push TensorRT's own words out of sight
    built = {"status": "built", "session_without_cache_seconds": time.perf_counter() - began}
    return built | ({"seconds_by_batch_size": seconds} if session.is_for_one_batch_size else {})


def _seconds_to_prepare(session: Session, batch_size: int) -> float:
    began = time.perf_counter()
    session.prepare(batch_size)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
