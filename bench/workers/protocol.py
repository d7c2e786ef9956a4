"""What the launcher and a worker process say to each other.

The launcher writes a job file; the worker prints events, a line each with a mark in
front (anything else on its output is the libraries' talk), and writes a result file.
"""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from bench.core.model_inputs import Task
from bench.core.params import Params, Variant
from bench.core.paths import ARTIFACTS, EVALUATION
from bench.core.staleness import batches_of
from bench.machine.cores import thread_count
from bench.machine.gpus import gpu_to_time
from bench.runtimes.base.session import SessionSpec

MARK = "@bench "
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
    process: int
    starts_alone: bool
    warmup_runs: int
    min_runs: int
    min_seconds: float
    max_seconds: float
    measure_accuracy: bool
    task: Task
    profile: bool
    started_unix_ns: int

    def write(self, path: Path) -> None:
        """Write the job as JSON."""
        path.write_text(json.dumps(asdict(self), default=str), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote."""
        content = json.loads(path.read_text(encoding="utf-8"))
        paths = {name: Path(content[name]) for name in ("graph", "engine") if content[name]}
        return cls(**{**content, **paths})


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
