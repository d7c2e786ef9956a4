"""The order in which processes are timed: rounds, in each of which every row gets one process, in random order.

Timed one variant after another, a machine that changes speed in between makes equal rows differ, and nothing within a
row shows it.  In rounds such a change falls on all rows alike (Abedi and Brecht 2017: randomized multiple interleaved
trials).
"""

import itertools
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from bench.core.model_inputs import Task
from bench.core.params import Params
from bench.core.paths import ENGINES
from bench.core.progress import Steps
from bench.core.reports import rate_text
from bench.machine.cores import physical_cores
from bench.timing.resident import Row
from bench.workers.engines import changed_engine, copy_engine, read_record
from bench.workers.launcher import Group, OnEvent, WorkerProcess, run_workers
from bench.workers.protocol import Job

LEAST_TOGETHER = 4
"""Workers that import side by side, at least: each holds a few hundred MiB of host memory while it waits."""


class Result(Protocol):
    """What a process gave."""

    def is_measured(self) -> bool: ...


R = TypeVar("R", bound=Result)


@dataclass(frozen=True)
class Plan:
    """How many rounds there are: at least `least`; more, up to `most`, while they fit into `more_seconds`."""

    least: int
    most: int
    more_seconds: float
    seed: int


@dataclass
class Rounds(Generic[R]):
    """What was timed: each row's results, and the order within each round."""

    results: dict[str, list[R]] = field(default_factory=dict)
    order: list[list[str]] = field(default_factory=list)


def run_in_rounds(
    names: Sequence[str],
    run_round: Callable[[int, list[str]], Iterable[tuple[str, R]]],
    still_wide: Callable[[dict[str, list[R]]], list[str]],
    plan: Plan,
    clock: Callable[[], float] = time.monotonic,
) -> Rounds[R]:
    """Run the rounds of a plan; a row whose process was not `measured` gets no further one.

    `run_round` runs one process of each named row in this order and yields its result.  A further round holds as many
    of the rows that `still_wide` returns, the widest first, as fit into what is left of the time, by what each one's
    last process took.
    """
    rounds: Rounds[R] = Rounds({name: [] for name in names})
    took: dict[str, float] = {}
    left = plan.more_seconds
    for number in range(plan.most):
        waiting = list(names) if number < plan.least else _that_fit(still_wide(rounds.results), took, left)
        active = [name for name in waiting if all(result.is_measured() for result in rounds.results[name])]
        if not active:
            break
        order = random.Random(f"{plan.seed} {number}").sample(active, len(active))
        rounds.order.append(order)
        began = clock()
        for name, result in run_round(number, order):
            rounds.results[name].append(result)
            took[name], began = clock() - began, clock()
        if number >= plan.least:
            left -= sum(took[name] for name in order)
    return rounds


def _that_fit(names: Sequence[str], took: dict[str, float], seconds: float) -> list[str]:
    total = itertools.accumulate(took[name] for name in names)
    return [name for name, until in zip(names, total, strict=True) if until <= seconds]


AnyRow = TypeVar("AnyRow", bound=Row)


@dataclass
class WorkerRounds(ABC, Generic[AnyRow, R]):
    """The worker processes of one set of rounds on one device."""

    rows: list[AnyRow]
    params: Params
    provenance: dict[str, Any]
    scratch: Path
    seed: int
    module: ClassVar[str]
    """What the workers run."""
    kind: ClassVar[Callable[..., Any]]
    """What their result files hold."""
    steps: Steps = field(init=False)

    def __post_init__(self) -> None:
        self.results: dict[str, list[R]] = {row.name: [] for row in self.rows}
        self.is_real = bool(self.provenance["model_is_real"])
        self.task: Task = self.provenance.get("task", "single_label")
        self.by_name = {row.name: row for row in self.rows}
        self.engines: dict[str, Path] = {}
        self.engine_states: dict[str, dict[str, str]] = {}
        for row in self.rows:
            if row.variant.runtime == "tensorrt":
                built, copy = ENGINES / row.key, self.folder(row.name) / "engine"
                self.engines[row.name] = copy
                self.engine_states[row.name] = copy_engine(built / read_record(built).folder, copy)

    def folder(self, name: str) -> Path:
        """Return the scratch folder of a row's workers."""
        folder = self.scratch / name.replace("/", "_")
        folder.mkdir(exist_ok=True)
        return folder

    @abstractmethod
    def job(self, row: AnyRow, number: int) -> Job:
        """Return the job of a row's process in a round."""

    def run_round(self, number: int, order: list[str]) -> Iterator[tuple[str, R]]:
        """Run one process of each named row in this order; keep each result, whatever becomes of the others."""
        self.steps.title = f"round {number + 1}"
        groups = ([partial(self._start, self.by_name[name], number) for name in group] for group in self._groups(order))
        for name, found in zip(order, self.run_workers(groups, order), strict=True):
            result = self.kind(**{**found, "round": number})
            self.results[name].append(result)
            yield name, result

    def run_workers(self, groups: Iterable[Group], names: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Run workers one after another, and show how far they are; yield each result, `failed` with the error."""
        return run_workers(groups, self.params.timing.worker_limit_seconds, self._listener(names))

    @staticmethod
    def _groups(order: list[str]) -> Iterator[list[str]]:
        together = max(LEAST_TOGETHER, physical_cores() // 2)
        for place in range(0, len(order), together):
            yield order[place : place + together]

    def _start(self, row: AnyRow, number: int) -> WorkerProcess:
        return WorkerProcess(self.job(row, number), self.folder(row.name), self.module)

    def _listener(self, names: Sequence[str]) -> OnEvent:
        waiting, current = iter(names), [""]

        def on_event(event: dict[str, Any]) -> None:
            if event["event"] == "ready":
                return
            if event["event"] == "load":
                current[0] = next(waiting, current[0])
            batch = f" batch {event['batch_size']}" if "batch_size" in event else ""
            rate = f" {rate_text(event['per_s'])}/s" if "per_s" in event else ""
            self.steps.start(f"{current[0]}: {event['event']}{batch}{rate}")

        return on_event

    def failure(self, row: AnyRow) -> str:
        """Return why the row's last process failed, or how one changed its engine; empty if neither is so."""
        last: Any = self.results[row.name][-1]
        if last.status == "failed":
            return str(last.reason)
        if row.name not in self.engines:
            return ""
        return changed_engine(row.key, self.engines[row.name], self.engine_states[row.name])
