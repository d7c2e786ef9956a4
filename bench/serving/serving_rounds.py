"""The serving processes of one device: one of each row in every round, and what comes of each row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

from bench.core.files import shortened
from bench.core.params import Params, Variant
from bench.core.paths import EVALUATION
from bench.core.progress import log
from bench.core.reports import NoopProcess, Served, ServingProcess
from bench.core.schemas import ServingStatus
from bench.inputs.encoded import load_reference
from bench.serving.jobs import NOOP, ServeJob, ServingResult, make_serve_job
from bench.serving.search import LOWEST, STEP, Grid
from bench.timing.evidence import contradiction
from bench.timing.participants import REASON
from bench.timing.quality import gate_verdict, reference_spread, tolerances
from bench.timing.rounds import Plan, Row, WorkerRounds, run_in_rounds
from bench.workers.launcher import WorkerProcess

ABOVE_ALL = 1.25
"""Of the most that a row does, with and without load: a no-op backend that sustains this much is no row's limit."""


@dataclass(frozen=True)
class ServedVariant(Row):
    """A variant that is served: the rates that it may be tried at, and the most that it did in the closed loop."""

    grid: Grid
    closed_loop_per_s: float


class ServingRounds(WorkerRounds[ServedVariant, ServingResult]):
    """The processes of rows that are served together."""

    module = "bench.serving.worker"
    kind = ServingResult

    def __post_init__(self) -> None:
        super().__post_init__()
        self.results: dict[str, list[ServingResult]] = {name: [] for name in self.by_name}

    def run(self) -> NoopProcess:
        """Serve every row in every round, then the no-op backend; return what that did."""
        count, names = self.params.serving.processes, list(self.by_name)
        log(f"  serving {len(names)} rows together in {count} rounds: {', '.join(names)}")
        with self.new_steps(count * len(names) + 1):
            run_in_rounds(names, self.run_round, lambda _results: [], Plan(count, count, 0.0, self.seed))
            return self._run_noop()

    def run_round(self, number: int, order: list[str]) -> Iterator[tuple[str, ServingResult]]:
        """Run one process of each named row in this order; keep each result, whatever becomes of the others."""
        for name, found in super().run_round(number, order):
            self.results[name].append(found)
            self.steps.done()
            yield name, found

    def job(self, row: ServedVariant, number: int, is_alone: bool) -> ServeJob:  # noqa: ARG002
        """Return the job of a row's process in a round."""
        start, engine = start_of(row.grid, self.results[row.name]), self.engines.get(row.name)
        return make_serve_job(
            row.key, row.variant, self.params, process=number, grid=row.grid, start=start, task=self.task, engine=engine
        )

    def _run_noop(self) -> NoopProcess:
        """Return what the no-op backend sustains, tried at the rates that the rows sustained and above all of them."""
        rates = [row.grid.rate(start_of(row.grid, self.results[row.name])) for row in self.rows]
        grid = Grid(ABOVE_ALL * STEP * max(*rates, *(row.closed_loop_per_s for row in self.rows)))
        job = replace(
            make_serve_job(NOOP, self.rows[0].variant, self.params, process=0, grid=grid, start=0, task=self.task),
            runtime=NOOP,
            padding="fixed",
            instances=1,
            highest=0,
            rates=sorted(rates),
        )
        worker = partial(WorkerProcess, job, self.folder(NOOP), self.module)
        found = ServingResult.model_validate(next(self.run_workers([[worker]], [NOOP])))
        return NoopProcess(status=found.status, reason=found.reason, points=found.points, first_rate=grid.first)

    def outcome(self, row: ServedVariant) -> Served:
        """Return the report of a row; `failed` if a process of it died, or an engine was built."""
        results = self.results[row.name]
        last = results[-1]
        if last.status in ("skipped", "rejected", "out_of_memory"):
            return without_load(row.variant, self.params, last.status, last.reason)
        failure = last.reason if last.status == "failed" else self.changed_engine(row)
        if failure:
            reason = shortened(" ".join(failure.split()), REASON)
            return without_load(row.variant, self.params, "failed", reason).model_copy(update={"failure": failure})
        return combine(row.variant, self.params, results, self.is_real)


def start_of(grid: Grid, results: list[ServingResult]) -> int:
    """Return where on its grid a row's next process begins: the highest place that its earlier ones kept, in the
    middle of them."""
    kept = sorted(kept_place(grid, result) for result in results if result.is_measured())
    return kept[len(kept) // 2] if kept else 0


def kept_place(grid: Grid, result: ServingResult) -> int:
    """Return the highest place below the first missed one at which a process met the SLO."""
    places = {grid.place(point.rate): point.keeps for point in result.points}
    first_missed = min((place for place, keeps in places.items() if not keeps), default=max(places) + 1)
    kept = [place for place, keeps in places.items() if keeps and place < first_missed]
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
    processes = [ServingProcess.model_validate(result.model_dump()) for result in results]
    loads = [load for each in processes for load in (each.single_stream, each.offline, *each.points)]
    spread = reference_spread(load_reference(EVALUATION))
    limits = tolerances(params.quality[variant.precision], is_real)
    figures, reason = gate_verdict([check.comparison for check in checks], spread, limits)
    mixed_up = next((fault for check in checks if (fault := check.unanswered or check.replayed.fault)), "")
    reason = contradiction(variant, results[0].evidence) or reason or mixed_up
    found = {
        **figures,
        "requests": sum(load.queries for load in loads),
        "replayed_batches": sum(check.replayed.batches for check in checks),
        "processes": processes,
    }
    return without_load(variant, params, "rejected" if reason else "measured", reason).model_copy(update=found)
