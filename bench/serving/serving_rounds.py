"""The serving processes of one device: one of each row in every round, and what comes of each row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bench.core.errors import EngineError, WorkerError
from bench.core.files import shortened
from bench.core.model_inputs import Task
from bench.core.params import Params, Variant
from bench.core.paths import ENGINES, EVALUATION
from bench.core.progress import Steps, log
from bench.core.reports import NoopProcess, Served, rate_text
from bench.core.schemas import ServingStatus
from bench.inputs.encoded import load_reference
from bench.machine.cores import physical_cores
from bench.serving.jobs import NOOP, Check, ServingResult, make_serve_job
from bench.serving.search import LOWEST, STEP, Grid
from bench.timing.evidence import contradiction
from bench.timing.participants import REASON
from bench.timing.quality import gate_verdict, reference_spread, tolerances
from bench.timing.rounds import Plan, Rounds, run_in_rounds
from bench.timing.timing_rounds import LEAST_TOGETHER
from bench.workers.engines import check_unchanged, copy_engine, read_record
from bench.workers.launcher import WorkerProcess, run_workers

MODULE = "bench.serving.worker"
ABOVE_ALL = 1.25
"""Of the most that a row does, with and without load: a no-op backend that sustains this much is no row's limit."""


@dataclass(frozen=True)
class ServedVariant:
    """A variant that is served: the rates that it may be tried at, and the most that it did in the closed loop."""

    key: str
    variant: Variant
    grid: Grid
    closed_loop_per_s: float


@dataclass
class ServingRounds:
    """The processes of rows that are served together."""

    rows: list[ServedVariant]
    params: Params
    task: Task
    is_real: bool
    scratch: Path
    seed: int
    results: dict[str, list[ServingResult]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.by_key = {row.key: row for row in self.rows}
        self.engines = {row.key: self._engine(row) for row in self.rows if row.variant.runtime == "tensorrt"}
        self.results = {row.key: [] for row in self.rows}

    def _engine(self, row: ServedVariant) -> tuple[Path, dict[str, str]]:
        copy = self._folder(row.key) / "engine"
        return copy, copy_engine(ENGINES / row.key / read_record(ENGINES / row.key).folder, copy)

    def _folder(self, key: str) -> Path:
        folder = self.scratch / key
        folder.mkdir(exist_ok=True)
        return folder

    def run(self) -> Rounds[ServingResult]:
        """Serve every row in every round, then the no-op backend."""
        count = self.params.serving.processes
        names = [row.key for row in self.rows]
        log(f"  serving {len(names)} rows together in {count} rounds: {', '.join(names)}")
        self.steps = Steps("round 1", total=count * len(names) + 1)
        with self.steps:
            rounds = run_in_rounds(names, self._run_round, lambda _results: [], Plan(count, count, 0.0, self.seed))
            self.noop = self._run_noop()
        return rounds

    def _run_round(self, number: int, order: list[str]) -> Iterable[tuple[str, ServingResult]]:
        self.steps.title = f"round {number + 1}"
        together = max(LEAST_TOGETHER, physical_cores() // 2)
        groups = (
            [partial(self._start, key, number) for key in order[place : place + together]]
            for place in range(0, len(order), together)
        )
        current = iter(order)
        results = run_workers(groups, self.params.timing.worker_limit_seconds, partial(self._tell, current, [""]))
        for key, result in zip(order, results, strict=True):
            found = _result(result)
            self.results[key].append(found)
            self.steps.done()
            yield key, found

    def _tell(self, waiting: Iterator[str], current: list[str], event: dict[str, Any]) -> None:
        if event["event"] == "load":
            current[0] = next(waiting, current[0])
        if event["event"] != "ready":
            rate = f" {rate_text(event['per_s'])}/s" if "per_s" in event else ""
            self.steps.start(f"{current[0]}: {event['event']}{rate}")

    def _start(self, key: str, number: int) -> WorkerProcess:
        row = self.by_key[key]
        engine = self.engines[key][0] if key in self.engines else None
        start = start_of(row, self.results[key])
        job = make_serve_job(
            key,
            row.variant,
            self.params,
            process=number,
            grid=row.grid,
            start=start,
            task=self.task,
            engine=engine,
        )
        return WorkerProcess(job, self._folder(key), MODULE)

    def _run_noop(self) -> NoopProcess:
        """Return what the no-op backend sustains, tried at the rates that the rows sustained and above all of them."""
        held = [row.grid.rate(start_of(row, self.results[row.key])) for row in self.rows]
        most = ABOVE_ALL * STEP * max(*held, *(row.closed_loop_per_s for row in self.rows))
        job = make_serve_job(
            NOOP,
            self.rows[0].variant,
            self.params,
            process=0,
            grid=Grid(most),
            start=0,
            task=self.task,
            is_noop=True,
            rates=sorted(held),
        )
        limit = self.params.timing.worker_limit_seconds
        tell = partial(self._tell, iter([NOOP]), [""])
        worker = [[partial(WorkerProcess, job, self._folder(NOOP), MODULE)]]
        return _result(next(iter(run_workers(worker, limit, tell)))).as_noop(most)

    def outcome(self, row: ServedVariant) -> Served:
        """Return the report of a row; `failed` if a process of it died, or an engine was built."""
        results = self.results[row.key]
        last = results[-1]
        if last.status in ("skipped", "rejected", "out_of_memory"):
            return without_load(row.variant, self.params, last.status, last.reason)
        try:
            if last.status == "failed":
                raise WorkerError(last.reason)
            if row.key in self.engines:
                check_unchanged(row.key, *self.engines[row.key])
        except (EngineError, WorkerError) as problem:
            failure = str(problem)
            reason = shortened(" ".join(failure.split()), REASON)
            return without_load(row.variant, self.params, "failed", reason).model_copy(update={"failure": failure})
        return combine(row.variant, self.params, results, self.is_real)


def _result(found: dict[str, Any] | WorkerError) -> ServingResult:
    if isinstance(found, WorkerError):
        return ServingResult(status="failed", reason=str(found))
    return ServingResult(**found)


def start_of(row: ServedVariant, results: list[ServingResult]) -> int:
    """Return where on its grid a row's next process begins: the highest place that its earlier ones kept, in the
    middle of them."""
    kept = sorted(kept_place(row.grid, result) for result in results if result.is_measured())
    return kept[len(kept) // 2] if kept else 0


def kept_place(grid: Grid, result: ServingResult) -> int:
    """Return the highest place below the first missed one at which a process kept the budget."""
    places = {grid.place(point.rate): point.keeps for point in result.points}
    missed = [place for place, keeps in places.items() if not keeps]
    kept = [place for place, keeps in places.items() if keeps and place < min(missed, default=place + 1)]
    return max(kept, default=max(LOWEST, min(places) - 1))


def without_load(variant: Variant, params: Params, status: ServingStatus, reason: str = "") -> Served:
    """Return the report of a row that was not served."""
    serving, device = params.serving, variant.device
    return Served(
        status=status,
        reason=reason,
        processes=[],
        budget_ms=serving.p99_ms[device],
        max_batch=serving.max_batch[device],
        max_delay_ms=serving.max_delay_ms,
        instances=serving.instances,
    )


def combine(variant: Variant, params: Params, results: list[ServingResult], is_real: bool) -> Served:
    """Put the processes' results together; `rejected` if an answer under load was wrong, missing or another's."""
    checks = [check for result in results for check in result.checks]
    processes = [result.as_process() for result in results]
    loads = [load for each in processes for load in (each.single_stream, each.offline, *each.points)]
    spread = reference_spread(load_reference(EVALUATION))
    limits = tolerances(params.quality[variant.precision], is_real)
    figures, reason = gate_verdict([check.comparison for check in checks], spread, limits)
    reason = contradiction(variant, results[0].evidence) or reason or _mixed_up(checks)
    found = {
        **figures,
        "requests": sum(load.queries for load in loads),
        "replayed_batches": sum(check.replayed.batches for check in checks),
        "processes": processes,
    }
    return without_load(variant, params, "rejected" if reason else "measured", reason).model_copy(update=found)


def _mixed_up(checks: list[Check]) -> str:
    """Return what is wrong with who got which answer; empty if nothing is."""
    return next((fault for check in checks if (fault := check.unanswered or check.replayed.fault)), "")
