"""What the launcher and a worker process say to each other.

The launcher writes a job file; the worker prints events, a line each with a mark in
front (anything else on its output is the libraries' talk), and writes a result file.
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from bench.core.model_inputs import Task
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
    """Sleep until the launcher gives this process its turn; end if the launcher is gone."""
    if not os.read(0, 1):
        os._exit(1)


def end_with_the_launcher() -> None:
    """End this process when the launcher is gone, so that an orphan never disturbs the next timing.

    The launcher holds our standard input open; a thread sleeps in `read` until it closes.
    """

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
