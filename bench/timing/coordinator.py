"""Time rows together: the first timing stage of a `dvc repro` runs the rounds, the later ones take their report."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy import stats

from bench.core.errors import WorkerError
from bench.core.files import remove
from bench.core.params import Params
from bench.core.paths import ENGINES, ROUNDS
from bench.core.progress import log
from bench.core.reports import ProcessTimes, Report, TimingSession
from bench.core.schemas import read_provenance
from bench.machine.lock import timing_lock
from bench.timing.participants import (
    AA_ROW,
    Participant,
    choose_participants,
    failed,
    recorded_digest,
    report_without_runs,
    without_runs,
)
from bench.timing.repro import Place, Request, Waiting, current_request, stage_name
from bench.timing.results import ProcessResult, announce, combine, write_report
from bench.timing.rounds import Plan, Rounds, WorkerRounds, run_in_rounds
from bench.workers.engines import read_record
from bench.workers.protocol import Job, make_job


def time_variant(key: str, params: Params) -> None:
    """Time a variant and write its samples and its report: measured in rounds, `off`, or `skipped` with the reason.

    `failed`, with the reason, if a worker of this variant dies or hangs, an engine is not this machine's, or a TensorRT
    session built one anew.  WorkerError if what it is timed with was edited meanwhile.
    """
    place = _place(key, params)
    digest = place.digest
    report = report_without_runs(key, place.variant, params)
    if report is None:
        request = current_request()
        report = place.take(recorded_digest(key), request, lambda: _run(key, params, request))
    remove(place.path)  # taken, or out of date
    write_report(key, report.model_copy(update={"fingerprint": digest}))
    announce(key, report)


def _place(key: str, params: Params) -> Place[Report]:
    variant = params.all_variants()[key]
    path = ROUNDS / variant.device / f"{key}.json"
    return Place(key, variant, stage_name(variant), path, Waiting[Report], ("times", "timed"))


def _run(asked: str, params: Params, request: Request) -> None:
    """Time `asked` and all that goes with it; leave each variant's report where its stage takes it."""
    participants = choose_participants(asked, params, request)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch, timing_lock():
        began = time.time()
        rounds = TimingRounds(participants, params, read_provenance(), Path(scratch), seed=int(began))
        timed = rounds.run()
        outcomes = {row.key: rounds.outcome(row, timed.results[row.name]) for row in participants if row.is_reported}
        session = rounds.record(timed, began)
    for key, outcome in outcomes.items():
        _place(key, params).leave(outcome.model_copy(update={"session": session}), request)


class TimingRounds(WorkerRounds[Participant, ProcessResult]):
    """The processes of one set of rounds, on one device."""

    module = "bench.timing.worker"
    kind = ProcessResult

    def run(self) -> Rounds[ProcessResult]:
        """Run the rounds."""
        timing, names = self.params.timing, list(self.by_name)
        plan = Plan(timing.processes, timing.max_processes, timing.more_rounds_seconds, self.seed)
        log(f"  timing {len(names)} rows together in at least {plan.least} rounds: {', '.join(names)}")
        with self.new_steps(plan.least * len(names) * self._cells()):
            return run_in_rounds(names, self.run_round, self._still_wide, plan)

    def _cells(self) -> int:
        return len(self.params.sizes(self.rows[0].variant.device))

    def run_round(self, number: int, order: list[str]) -> Iterator[tuple[str, ProcessResult]]:
        """Run one process of each named row; a round beside those of the plan adds to the steps."""
        if number >= self.params.timing.processes:
            self.steps.add(len(order) * self._cells())
        yield from super().run_round(number, order)

    def starts_alone(self, row: Participant, number: int) -> bool:
        """Tell whether a row's process starts with no other beside it, so that its start-up is a user's.

        In the first round each does, with cold caches of compiled code, and in the second those that compile, with warm
        ones.
        """
        return number == 0 or (number == 1 and "compile" in row.variant.options)

    def job(self, row: Participant, number: int, is_alone: bool) -> Job:
        """Return the job of a row's process in a round."""
        is_first = number == 0 and row.is_reported
        return make_job(
            row.key,
            row.variant,
            self.params,
            process=number,
            measure_accuracy=self.is_real and is_first,
            task=self.task,
            starts_alone=is_alone,
            profile=is_first,
            engine=self.engines.get(row.name),
        )

    def _still_wide(self, results: dict[str, list[ProcessResult]]) -> list[str]:
        """Return the rows whose interval is still too wide, the widest first; none if there are none.

        The baseline and its A/A row come before them: the others are compared with these.
        """
        target = math.log1p(self.params.timing.target_interval)
        widths = {row.name: _half_width(results[row.name]) for row in self.rows if row.is_reported}
        wide = sorted((name for name, width in widths.items() if width > target), key=lambda name: -widths[name])
        pair = [row.name for row in self.rows if AA_ROW in self.by_name and row.key == self.by_name[AA_ROW].key]
        return [*pair, *(name for name in wide if name not in pair)] if wide else []

    def outcome(self, row: Participant, results: list[ProcessResult]) -> Report:
        """Return the report of a variant; `failed` if a process of it died or built an engine."""
        last = results[-1]
        if last.status in ("skipped", "rejected"):
            return without_runs(row.variant, self.params, last.status, last.reason)
        engine = read_record(ENGINES / row.key) if row.name in self.engines else None
        if last.status == "failed" and engine and row.variant.precision == "int8":
            reason = f"its INT8 engine does not run: {WorkerError(last.reason).last_words()}"
            report = without_runs(row.variant, self.params, "rejected", reason)
        elif failure := last.reason if last.status == "failed" else self.changed_engine(row):
            return failed(row.variant, self.params, failure)
        else:
            report = self._combined(row, results)
        return report.model_copy(update={"engine": engine})

    def _combined(self, row: Participant, results: list[ProcessResult]) -> Report:
        return combine(row.variant, self.params, results, self.is_real)

    def record(self, rounds: Rounds[ProcessResult], began: float) -> TimingSession:
        """Return what all reports of these rounds share: their id, order and seed, the A/A row and the anchors."""
        kept: dict[str, dict[str, ProcessTimes]] = {
            row.name: {**self._combined(row, rounds.results[row.name]).measured()}
            for row in self.rows
            if not row.is_reported and all(result.is_measured() for result in rounds.results[row.name])
        }
        twin = kept.pop(AA_ROW, {})
        anchors = {self.by_name[name].key: cells for name, cells in kept.items()}
        return TimingSession(id=f"{began:.3f}", seed=self.seed, order=rounds.order, twin=twin, anchors=anchors)


def _half_width(results: list[ProcessResult]) -> float:
    """Return half of a row's 95% interval at the batch size where it is widest; 0.0 for a row that was not measured.

    The interval is Student's, of the processes' median latencies, on logarithms; without end for one process.
    """
    if not results or any(not result.is_measured() for result in results):
        return 0.0
    widest = 0.0
    for size in results[0].cells:
        cells = [result.cells[size] for result in results]
        if all(cell.status == "measured" for cell in cells):
            logs = [math.log(float(np.median(cell.latencies_ns))) for cell in cells]
            if len(logs) < 2:
                return math.inf
            error = float(np.std(logs, ddof=1)) / math.sqrt(len(logs))
            widest = max(widest, float(stats.t.ppf(0.975, len(logs) - 1)) * error)
    return widest
