"""Time rows together: the first timing stage of a `dvc repro` runs the rounds, the later ones take their report."""

import math
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from bench.core.errors import BenchError, WorkerError
from bench.core.files import shortened
from bench.core.params import Params, Variant
from bench.core.paths import ARTIFACTS, ENGINES, SAMPLES
from bench.core.progress import Steps, log
from bench.core.reports import Cell, ProcessTimes, Report, TimingSession
from bench.core.schemas import Status, read_environment, read_machine_id, read_provenance
from bench.core.staleness import reason_not_made
from bench.machine.can_run import reason_to_skip
from bench.machine.lock import timing_lock
from bench.timing.repro import Request, current_request, read_report, timed_place
from bench.timing.results import ProcessResult, announce, combine, write_report
from bench.timing.rounds import Plan, Row, WorkerRounds, run_in_rounds
from bench.workers.engines import misfit, read_record
from bench.workers.protocol import Job, make_job

AA_ROW = "a/a"
"""The name of the A/A row, the baseline's second one in the rounds: no variant's key can hold a slash."""
REASON = 300
"""Characters of a failure that its row repeats; all of it is told at the end."""


def time_variant(key: str, params: Params) -> None:
    """Time a variant and write its samples and its report: measured in rounds, `off`, or `skipped` with the reason.

    `failed`, with the reason, if a worker of this variant dies or hangs, an engine is not this machine's, or a TensorRT
    session built one anew.  WorkerError if what it is timed with was edited meanwhile.
    """
    variant, request = params.variant(key), current_request()
    known = report_without_runs(key, variant, params)
    report = timed_place(key, variant).take(known, request, lambda: _run(key, params, request))
    write_report(key, report)
    announce(key, report)


def without_runs(variant: Variant, params: Params, status: Status, reason: str = "") -> Report:
    """Return the report of a variant that was not run: every batch size has this status."""
    cell = Cell(status=status, reason=reason)
    return Report(cells={str(size): cell for size in params.sizes(variant.device)}, processes=[])


def failed(variant: Variant, params: Params, failure: str) -> Report:
    """Return the report of a variant that could not be timed; the reason in its cells is one line."""
    report = without_runs(variant, params, "failed", shortened(" ".join(failure.split()), REASON))
    return report.model_copy(update={"failure": failure})


def report_without_runs(key: str, variant: Variant, params: Params) -> Report | None:
    """Return the report of a variant of which it is known before any run what becomes of it; None if it can be tried.

    It is `off`, `skipped` or `rejected`, or `failed` if its engine was not built or is not this machine's.
    """
    environment = read_environment()
    if not params.is_on(variant.precision):
        return without_runs(variant, params, "off")
    if reason := reason_to_skip(variant, environment):
        return without_runs(variant, params, "skipped", reason)
    if not_made := reason_not_made(ARTIFACTS / variant.graph):
        return without_runs(variant, params, "rejected", not_made)
    return _report_of_engine(key, variant, params, environment) if variant.runtime == "tensorrt" else None


def _report_of_engine(key: str, variant: Variant, params: Params, environment: dict[str, Any]) -> Report | None:
    record = read_record(ENGINES / key)
    if record.status == "failed":
        return failed(variant, params, record.reason)
    if record.status != "built":
        return without_runs(variant, params, record.status, record.reason)
    failure = misfit(key, record, environment)
    return failed(variant, params, failure) if failure else None


def _run(asked: str, params: Params, request: Request) -> None:
    """Time `asked` and all that goes with it; leave each variant's report where its stage takes it."""
    rows = _choose_rows(asked, params, request)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch, timing_lock():
        began = time.time()
        rounds = TimingRounds(rows, params, read_provenance(), Path(scratch), seed=int(began))
        session = rounds.record(rounds.run(), began)
        for row in rows:
            if row.is_reported:
                report = rounds.outcome(row).model_copy(update={"session": session})
                timed_place(row.key, row.variant).leave(report, request)


def _choose_rows(asked: str, params: Params, request: Request) -> list[Row]:
    """Return the rows to time together with `asked`: what this `dvc repro` times anyway, the A/A row, and anchors.

    The A/A row is the device's baseline once more.  Where the baseline itself, or rows that are not timed now, stay as
    they are, the baseline and the fastest of these are timed beside: through them the others can be compared.
    """
    device = params.variant(asked).device
    runnable = {
        key: variant
        for key, variant in params.all_variants().items()
        if variant.device == device and (key == asked or _can_run(key, variant, params))
    }
    chosen = [key for key, variant in runnable.items() if key == asked or timed_place(key, variant).is_due(request)]
    rows = [Row(key, key, runnable[key]) for key in chosen]
    baseline = params.baselines.get(device)
    others = {key: variant for key, variant in runnable.items() if key not in chosen}
    anchors = {key for key in (baseline, _fastest(others, params)) if key in others}
    rows += [Row(f"anchor/{key}", key, runnable[key], is_reported=False) for key in sorted(anchors)]
    if baseline in runnable:
        rows.append(Row(AA_ROW, baseline, runnable[baseline], is_reported=False))
    return rows


def _can_run(key: str, variant: Variant, params: Params) -> bool:
    """Tell whether a row can be timed beside the one that was asked for; its own stage says what is wrong with it."""
    try:
        return report_without_runs(key, variant, params) is None
    except BenchError:
        return False


def _fastest(variants: dict[str, Variant], params: Params) -> str | None:
    """Return the variant with the lowest recorded p50 at the largest batch size, None where none is recorded."""
    p50_ms: dict[str, float] = {}
    for key, variant in variants.items():
        report = read_report(SAMPLES / f"{key}.json", Report)
        cell = report.measured().get(str(max(params.sizes(variant.device)))) if report else None
        if cell:
            p50_ms[key] = cell.p50_ms
    return min(p50_ms, key=lambda key: p50_ms[key], default=None)


class TimingRounds(WorkerRounds[Row, ProcessResult]):
    """The processes of one set of rounds, on one device."""

    module = "bench.timing.worker"
    kind = ProcessResult

    def run(self) -> list[list[str]]:
        """Run the rounds; return the order of the rows within each."""
        timing, names = self.params.timing, list(self.by_name)
        plan = Plan(timing.processes, timing.max_processes, timing.more_rounds_seconds, self.seed)
        log(f"  timing {len(names)} rows together in at least {plan.least} rounds: {', '.join(names)}")
        with Steps("round 1", plan.least * len(names) * self._cells()) as self.steps:
            return run_in_rounds(names, self.run_round, self._still_wide, plan).order

    def _cells(self) -> int:
        return len(self.params.sizes(self.rows[0].variant.device))

    def run_round(self, number: int, order: list[str]) -> Iterator[tuple[str, ProcessResult]]:
        """Run one process of each named row; a round beside those of the plan adds to the steps."""
        if number >= self.params.timing.processes:
            self.steps.add(len(order) * self._cells())
        yield from super().run_round(number, order)

    def starts_alone(self, row: Row, number: int) -> bool:
        """Tell whether a row's process starts with no other beside it, so that its start-up is a user's.

        In the first round each does, with cold caches of compiled code, and in the second those that compile, with warm
        ones.
        """
        return number == 0 or (number == 1 and "compile" in row.variant.options)

    def job(self, row: Row, number: int, is_alone: bool) -> Job:
        """Return the job of a row's process in a round."""
        is_first = number == 0 and row.is_reported
        return replace(
            make_job(row.key, row.variant, self.params, self.engines.get(row.name)),
            process=number,
            measure_accuracy=self.is_real and is_first,
            task=self.task,
            starts_alone=is_alone,
            profile=is_first,
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

    def outcome(self, row: Row) -> Report:
        """Return the report of a variant; `failed` if a process of it died or built an engine."""
        last = self.results[row.name][-1]
        if last.status in ("skipped", "rejected"):
            return without_runs(row.variant, self.params, last.status, last.reason)
        engine = read_record(ENGINES / row.key) if row.name in self.engines else None
        if last.status == "failed" and engine and row.variant.precision == "int8":
            reason = f"its INT8 engine does not run: {WorkerError(last.reason).last_words()}"
            report = without_runs(row.variant, self.params, "rejected", reason)
        elif failure := self.failure(row):
            return failed(row.variant, self.params, failure)
        else:
            report = self._combined(row)
        return report.model_copy(update={"engine": engine})

    def _combined(self, row: Row) -> Report:
        return combine(row.variant, self.params, self.results[row.name], self.is_real)

    def record(self, order: list[list[str]], began: float) -> TimingSession:
        """Return what all reports of these rounds share: their id, order and seed, the A/A row and the anchors."""
        kept: dict[str, dict[str, ProcessTimes]] = {
            row.name: {**self._combined(row).measured()}
            for row in self.rows
            if not row.is_reported and all(result.is_measured() for result in self.results[row.name])
        }
        twin = kept.pop(AA_ROW, {})
        anchors = {self.by_name[name].key: cells for name, cells in kept.items()}
        return TimingSession(
            id=f"{began:.3f}", machine=read_machine_id(), seed=self.seed, order=order, twin=twin, anchors=anchors
        )


def _half_width(results: list[ProcessResult]) -> float:
    """Return half of a row's 95% interval at the batch size where it is widest; 0.0 for a row that was not measured.

    The interval is Student's, of the processes' median latencies, on logarithms; without end for one process.
    """
    if not all(result.is_measured() for result in results):
        return 0.0
    widest = 0.0
    for size in results[0].cells:
        cells = [result.cells[size] for result in results]
        if all(cell.status == "measured" for cell in cells):
            logs = [math.log(float(np.median(cell.latencies_ns))) for cell in cells]
            if len(logs) < 2:
                return math.inf
            widest = max(widest, float(stats.t.ppf(0.975, len(logs) - 1) * stats.sem(logs)))
    return widest
