"""What the launcher and a worker process say to each other.

The launcher writes a job file and sends requests; the worker prints events, a line each with a mark in front
(anything else on its output is the libraries' talk).
"""

import json
import math
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import TypeAdapter

from bench.core.model_inputs import Task
from bench.core.params import Params, Variant
from bench.core.paths import ARTIFACTS, CALIBRATION, EVALUATION
from bench.core.staleness import batches_of
from bench.machine.cores import thread_count
from bench.machine.gpus import gpu_to_time
from bench.runtimes.base.session import SessionSpec
from bench.workers.unsupported import status_of

MARK = "@bench "
PROTOCOL = 1
"""Raised with each change of a job's fields, a request or an answer: a checkout may drive the workers of another."""
ACCURACY = ("accuracy_sentences", "accuracy_seconds")
ANSWER = "answer"
"""The event that answers a request."""
REST_SECONDS = 0.02 if sys.platform == "win32" else 0.004
"""In which threads that still run show; Windows counts their time in ticks of 16 ms."""
AT_REST = 0.1
"""Of a core: what the waiting process takes itself is less."""
MOST_REST_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class Job(SessionSpec):
    """All that one worker process does; what the runtime needs for it is inherited."""

    shortened_by: ClassVar[str] = "batch_sizes"
    """The parameter that makes such a process shorter."""
    key: str
    runtime: str
    gpu: str | None
    inputs: str
    warmup_runs: int
    started_ns: int
    """When the launcher made the job, by `time.perf_counter_ns`, which is system-wide (Python's docs)."""
    process: int = 0
    """Which of its variant's processes it is."""
    measure_accuracy: bool = False
    accuracy_sentences: int = 5000
    accuracy_seconds: float = 600.0
    tokenizer_threads: int = 1
    task: Task = "single_label"

    def write(self, path: Path) -> None:
        path.write_bytes(TypeAdapter(type(self)).dump_json(self))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote."""
        return TypeAdapter(cls).validate_json(path.read_bytes())


def answer_requests(import_libraries: Callable[[], None], answers: Mapping[str, Callable[..., dict[str, Any]]]) -> None:
    """Import, then answer each request by the function of its name, a problem with its status, until one is `end`."""
    missing: ImportError | None = None
    try:
        import_libraries()
    except ImportError as problem:
        missing = problem
    emit("ready")
    for line in _requests():
        request = json.loads(line)
        name = request.pop("do")
        try:
            if missing:
                raise missing
            outcome = answers[name](**request)
        except Exception as problem:
            if (status := status_of(problem)) is None:
                raise
            outcome = dict(status)
        rest()
        emit(ANSWER, **{"status": "measured", **outcome})
        if name == "end":
            return


def rest() -> None:
    """Wait until this process's threads sleep: who is measured next would lose the core that they spin on.

    Those of ONNX Runtime's pool spin for 40 ms after a call (1.31 on 2 cores), OpenMP's for 3 ms.
    """
    end, used = time.perf_counter() + MOST_REST_SECONDS, math.inf
    while used > AT_REST * REST_SECONDS and time.perf_counter() < end:
        before = time.process_time()
        time.sleep(REST_SECONDS)
        used = time.process_time() - before


def _requests() -> Iterator[str]:
    """Yield the lines that the launcher sends; end with it: an orphan would disturb the next timing."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        with os.fdopen(os.dup(0), encoding="utf-8") as stream:  # sys.stdin's lock would be held when Python ends
            for line in stream:
                lines.put(line)
        os._exit(1)

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield lines.get()


def emit(event: str, **details: Any) -> None:
    """Print the line that tells the launcher of an event."""
    print(MARK + json.dumps({"event": event, **details}), flush=True)


def parse_event(line: str) -> dict[str, Any] | None:
    """Return the event of a line, None if the line is something else."""
    if not line.startswith(MARK):
        return None
    event: dict[str, Any] = json.loads(line[len(MARK) :])
    return event


def engine_options(variant: Variant, params: Params) -> dict[str, Any]:
    """Return what an engine depends on besides graph, TensorRT and GPU."""
    batches = batches_of(variant, params)
    return {
        **params.tensorrt.model_dump(),
        **batches,
        "batch_sizes": sorted(batches["batch_sizes"]),
        "sequence_length": params.sequence_length,
    }


def make_job(key: str, variant: Variant, params: Params, engine: Path | None = None) -> Job:
    """Return the job of a variant's first process, which measures its latencies alone; `engine`: where its own lies."""
    timing = params.timing
    return Job(
        **variant.model_dump(exclude={"graph"}),
        **timing.model_dump(include={"warmup_runs", *ACCURACY}),
        key=key,
        graph=ARTIFACTS / variant.graph,
        batch_sizes=params.sizes(variant.device),
        sequence_length=params.sequence_length,
        multiple_of=params.lengths.multiple_of,
        cpu_threads=thread_count(timing.cpu_threads),
        gpu=gpu_to_time(timing.gpu_index) if variant.device == "cuda" else None,
        calibration=CALIBRATION,
        calibration_sentences=params.int8.calibration_sentences,
        engine=engine,
        engine_options=engine_options(variant, params),
        inputs=str(EVALUATION),
        started_ns=time.perf_counter_ns(),
    )
