"""What the launcher and a worker process say to each other.

The launcher writes a job file; the worker prints events, a line each with a mark in
front (anything else on its output is the libraries' talk), and writes a result file.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import TypeAdapter

from bench.core.files import write_text
from bench.core.model_inputs import Task
from bench.core.params import Params, Variant
from bench.core.paths import ARTIFACTS, EVALUATION
from bench.core.staleness import batches_of
from bench.machine.cores import thread_count
from bench.machine.gpus import gpu_to_time
from bench.runtimes.base.session import SessionSpec
from bench.workers.unsupported import status_of

MARK = "@bench "
ACCURACY = ("accuracy_sentences", "accuracy_seconds")
MEASURED = "measured"
"""The event of a process that has written what it measured: what may fail, or take long, comes after it."""
TURN = "t"
"""What the launcher writes into a worker's standard input when it may begin."""


@dataclass(frozen=True, kw_only=True)
class Job(SessionSpec):
    """All that one worker process does; what the runtime needs for it is inherited."""

    shortened_by: ClassVar[str] = "timing.max_seconds"
    """The parameter that makes such a process shorter."""
    key: str
    runtime: str
    gpu: str | None
    inputs: str
    warmup_runs: int
    min_runs: int
    min_seconds: float
    max_seconds: float
    started_ns: int
    """When the launcher made the job, by `time.perf_counter_ns`, which is system-wide (Python's docs)."""
    process: int = 0
    """Which of its variant's processes it is."""
    starts_alone: bool = True
    """Nothing else is started beside it, so that its start-up is a user's."""
    measure_accuracy: bool = False
    accuracy_sentences: int = 5000
    accuracy_seconds: float = 600.0
    task: Task = "single_label"
    profile: bool = False

    def write(self, path: Path) -> None:
        """Write the job as JSON."""
        path.write_bytes(TypeAdapter(type(self)).dump_json(self))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote."""
        return TypeAdapter(cls).validate_json(path.read_bytes())


def do_job(import_libraries: Callable[[], None], work: Callable[[], dict[str, Any]]) -> None:
    """Wait for this process's turn, do its work and write the result, or what a problem makes of the row."""
    missing: ImportError | None = None
    try:
        import_libraries()
    except ImportError as problem:
        missing = problem
    emit("ready")
    wait_for_turn()
    try:
        if missing:
            raise missing
        result = work()
    except Exception as problem:
        status = status_of(problem)
        if status is None or Path(sys.argv[2]).exists():
            raise
        result = status
    write_text(Path(sys.argv[2]), json.dumps(result))


def keep_measured(result: dict[str, Any]) -> None:
    """Write what was measured, which stays whatever becomes of this process, and tell the launcher."""
    write_text(Path(sys.argv[2]), json.dumps(result))
    emit(MEASURED)


def wait_for_turn() -> None:
    """Sleep until the launcher gives this process its turn; from then on, end when the launcher is gone.

    So an orphan never disturbs the next timing.  The launcher holds our standard input open; a thread sleeps in `read`
    until it closes.
    """
    if not os.read(0, 1):
        os._exit(1)

    def wait() -> None:
        while os.read(0, 1):  # not sys.stdin: its lock would be held when Python ends
            continue
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


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
        **timing.model_dump(include={"warmup_runs", "min_runs", "min_seconds", "max_seconds", *ACCURACY}),
        key=key,
        graph=ARTIFACTS / variant.graph,
        batch_sizes=params.sizes(variant.device),
        sequence_length=params.sequence_length,
        multiple_of=params.lengths.multiple_of,
        cpu_threads=thread_count(timing.cpu_threads),
        gpu=gpu_to_time(timing.gpu_index) if variant.device == "cuda" else None,
        engine=engine,
        engine_options=engine_options(variant, params),
        inputs=str(EVALUATION),
        started_ns=time.perf_counter_ns(),
    )
