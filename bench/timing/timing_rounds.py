"""The measuring processes of one set of rounds, and what comes of each row."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from scipy import stats

from bench.core.errors import WorkerError
from bench.core.paths import ENGINES
from bench.core.progress import log
from bench.core.reports import ProcessTimes, Report, TimingSession
from bench.timing.participants import AA_ROW, Participant, failed, without_runs
from bench.timing.results import ProcessResult, combine
from bench.timing.rounds import Plan, Rounds, WorkerRounds, run_in_rounds
from bench.workers.engines import read_record
from bench.workers.protocol import Job, make_job


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
            widest = max(widest, _student_half_width(logs) if len(logs) > 1 else math.inf)
    return widest


def _student_half_width(logs: list[float]) -> float:
    return float(stats.t.ppf(0.975, len(logs) - 1)) * float(np.std(logs, ddof=1)) / math.sqrt(len(logs))
