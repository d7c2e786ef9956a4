"""Serve rows together: the first serving stage of a `dvc repro` runs the rounds, the later ones take their report.

In every round each row gets one process.  A row whose processes were all run keeps its report if the rest is
interrupted.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bench.core.errors import BenchError
from bench.core.files import shortened, write_json
from bench.core.model_inputs import reference_spread
from bench.core.params import Params, Variant
from bench.core.paths import EVALUATION, SAMPLES, SERVED
from bench.core.progress import Steps, log
from bench.core.reports import NoopProcess, Report, Served, ServingProcess, ServingSession, rate_text
from bench.core.schemas import ServingStatus, Status, read_environment, read_machine_id, read_provenance
from bench.inputs.encoded import load_reference
from bench.machine.lock import timing_lock
from bench.serving.jobs import NOOP, ServeJob, ServingResult, least_queries
from bench.serving.rounds import Plan, WorkerRounds, run_in_rounds
from bench.serving.search import LOWEST, STEP, Grid, expected_rate
from bench.timing.coordinator import REASON
from bench.timing.evidence import contradiction
from bench.timing.quality import gate_verdict, tolerances
from bench.timing.repro import Request, current_request, read_report, served_place
from bench.timing.resident import Row
from bench.workers.launcher import WorkerProcess
from bench.workers.protocol import make_job

LOADGEN = "mlcommons_loadgen"
NO_LOADGEN = (
    "mlcommons-loadgen is not installed; there are wheels for Linux and Windows on x86-64 and macOS on arm64, "
    "for Python 3.11 to 3.13"
)
ABOVE_ALL = 1.25
"""Of the most that a row does, with and without load: a no-op backend that sustains this much is no row's limit."""
LOWEST_STATUS: tuple[Status, ...] = ("measured", "out_of_memory", "rejected", "failed", "skipped", "off")
"""Of the batch sizes of a row, the first of these that one has says why it is not served."""


def serve_variant(key: str, params: Params) -> None:
    """Serve a variant and write artifacts/served/KEY.json; see `served_report`."""
    report = served_report(key, params)
    write_json(SERVED / f"{key}.json", report.as_dict())
    log(f"  {key} under load: {report.status}{': ' + report.reason if report.reason else ''}")


def served_report(key: str, params: Params) -> Served:
    """Return what a variant sustained under load, or why it was not served.

    WorkerError if what it is served with was edited meanwhile.
    """
    row, request = row_of(key, params), current_request()
    known = row if isinstance(row, Served) else None
    return served_place(key, params.variant(key)).take(known, request, lambda: _run(key, params, request))


def row_of(key: str, params: Params) -> ServedVariant | Served:
    """Return a variant as it can be served, or the report of one that, as is known before any load, cannot be."""
    variant = params.variant(key)
    serving, device = params.serving, variant.device
    report = read_report(SAMPLES / f"{key}.json", Report)
    measured = {int(size): cell for size, cell in report.measured().items()} if report else {}
    if not any(size <= params.max_batch(device) for size in measured):
        return without_load(variant, params, *_why_not_timed(report))
    if read_environment()["versions"].get(LOADGEN) is None:
        return without_load(variant, params, "skipped", NO_LOADGEN)
    mean_ms = {size: cell.mean_ms for size, cell in measured.items()}
    budget_ms = serving.p99_ms[device]
    rate = expected_rate(mean_ms, params.max_batch(device), budget_ms)
    alone_ms = mean_ms[min(mean_ms)]
    if not rate:
        reason = f"holds no rate within {budget_ms:g} ms: a request alone takes {alone_ms:.2f} ms"
        return without_load(variant, params, "over_budget", reason)
    seconds = least_queries(serving) / rate
    if seconds > serving.max_seconds:
        reason = (
            f"too slow to be tried: it should hold about {rate_text(rate)} requests/s, of which a process needs "
            f"{least_queries(serving)}: {seconds:.0f} s, more than serving.max_seconds = {serving.max_seconds:g}"
        )
        return without_load(variant, params, "skipped", reason)
    most = max(cell.samples_per_s for size, cell in measured.items() if size <= params.max_batch(device))
    return ServedVariant(key, key, variant, Grid(rate), most)


def _why_not_timed(report: Report | None) -> tuple[Status, str]:
    if report is None or not report.cells:
        raise BenchError("no figures of the closed loop: `dvc repro` times the row first")
    cell = min(report.cells.values(), key=lambda cell: LOWEST_STATUS.index(cell.status))
    return cell.status, f"not timed: {cell.reason}" if cell.reason else ""


def _run(asked: str, params: Params, request: Request) -> None:
    """Serve `asked` and all rows of its device that this `dvc repro` serves anyway; leave each one's report."""
    rows = _rows(asked, params, request)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch, timing_lock():
        began = time.time()
        rounds = ServingRounds(rows, params, read_provenance(), Path(scratch), int(began))
        noop: NoopProcess | None = None
        try:
            noop = rounds.run()
        finally:
            session = ServingSession(id=f"{began:.3f}", machine=read_machine_id(), seed=int(began), null=noop)
            for row in rows:
                results = rounds.results[row.name]
                if len(results) == params.serving.processes or any(not result.is_measured() for result in results):
                    closed_loop = {"closed_loop_per_s": row.closed_loop_per_s, "expected_per_s": row.grid.first}
                    report = rounds.outcome(row).model_copy(update={**closed_loop, "session": session})
                    served_place(row.key, row.variant).leave(report, request)


def _rows(asked: str, params: Params, request: Request) -> list[ServedVariant]:
    variants = {key: params.variant(key) for key in params.serving.variants}
    device = params.variant(asked).device
    found = [
        row_of(key, params)
        for key, variant in variants.items()
        if variant.device == device and (key == asked or served_place(key, variant).is_due(request))
    ]
    return [row for row in found if isinstance(row, ServedVariant)]


@dataclass(frozen=True)
class ServedVariant(Row):
    """A variant that is served: the rates that it may be tried at, and the most that it did in the closed loop."""

    grid: Grid
    closed_loop_per_s: float


class ServingRounds(WorkerRounds[ServedVariant, ServingResult]):
    """The processes of rows that are served together."""

    module = "bench.serving.worker"
    kind = ServingResult

    def run(self) -> NoopProcess:
        """Serve every row in every round, then the no-op backend; return what that did."""
        count, names = self.params.serving.processes, list(self.by_name)
        log(f"  serving {len(names)} rows together in {count} rounds: {', '.join(names)}")
        with Steps("round 1", count * len(names) + 1) as self.steps:
            run_in_rounds(names, self.run_round, lambda _results: [], Plan(count, count, 0.0, self.seed))
            return self._run_noop()

    def run_round(self, number: int, order: list[str]) -> Iterator[tuple[str, ServingResult]]:
        """Run one process of each named row in this order; each is a step."""
        for name, found in super().run_round(number, order):
            self.steps.done()
            yield name, found

    def job(self, row: ServedVariant, number: int) -> ServeJob:
        """Return the job of a row's process in a round."""
        start = start_of(row.grid, self.results[row.name])
        return replace(self._job(row.key, row.variant, row.grid), process=number, start=start)

    def _job(self, key: str, variant: Variant, grid: Grid) -> ServeJob:
        serving, device = self.params.serving, variant.device
        job = replace(make_job(key, variant, self.params, self.engines.get(key)), task=self.task)
        budget_ms, max_batch = serving.p99_ms[device], self.params.max_batch(device)
        return ServeJob(**vars(job), serving=serving, budget_ms=budget_ms, max_batch=max_batch, grid=grid)

    def _run_noop(self) -> NoopProcess:
        """Return what the no-op backend sustains, tried at the rates that the rows sustained and above all of them."""
        rates = [row.grid.rate(start_of(row.grid, self.results[row.name])) for row in self.rows]
        grid = Grid(ABOVE_ALL * STEP * max(*rates, *(row.closed_loop_per_s for row in self.rows)))
        job = replace(
            self._job(NOOP, self.rows[0].variant, grid),
            runtime=NOOP,
            padding="fixed",
            serving=self.params.serving.model_copy(update={"instances": 1}),
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
        if failure := self.failure(row):
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
        max_batch=params.max_batch(device),
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
