"""The processes of one set of rounds on one device: how they are started, and what comes of each row."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from bench.core.errors import EngineError, WorkerError
from bench.core.model_inputs import Task
from bench.core.params import Params
from bench.core.paths import ENGINES
from bench.core.progress import Steps, log
from bench.core.reports import ProcessTimes, Report, TimingSession
from bench.machine.cores import physical_cores
from bench.timing.participants import AA_ROW, Participant, failed, without_runs
from bench.timing.results import ProcessResult, combine
from bench.timing.rounds import Plan, Rounds, run_in_rounds
from bench.workers.engines import check_unchanged, copy_engine, read_record
from bench.workers.launcher import OnEvent, WorkerProcess, run_workers
from bench.workers.protocol import make_job

LEAST_TOGETHER = 4
"""Workers that import side by side, at least: each holds a few hundred MiB of host memory while it waits."""


@dataclass
class TimingRounds:
    """The processes of one set of rounds, on one device."""

    participants: list[Participant]
    params: Params
    provenance: dict[str, Any]
    scratch: Path
    seed: int

    def __post_init__(self) -> None:
        self.is_real = bool(self.provenance["model_is_real"])
        self.task: Task = self.provenance.get("task", "single_label")
        self.by_name = {row.name: row for row in self.participants}
        self.engines = {row.name: self._engine(row) for row in self.participants if row.variant.runtime == "tensorrt"}

    def _engine(self, row: Participant) -> tuple[Path, dict[str, str]]:
        folder = ENGINES / row.key / read_record(ENGINES / row.key).folder
        copy = self._folder(row) / "engine"
        return copy, copy_engine(folder, copy)

    def _folder(self, row: Participant) -> Path:
        folder = self.scratch / row.name.replace("/", "_")
        folder.mkdir(exist_ok=True)
        return folder

    def _sizes(self) -> list[int]:
        return self.params.sizes(self.participants[0].variant.device)

    def run(self) -> Rounds[ProcessResult]:
        """Run the rounds."""
        timing = self.params.timing
        plan = Plan(timing.processes, timing.max_processes, timing.more_rounds_seconds, self.seed)
        names = [row.name for row in self.participants]
        log(f"  timing {len(names)} rows together in at least {plan.least} rounds: {', '.join(names)}")
        self.steps = Steps("round 1", total=plan.least * len(names) * len(self._sizes()))
        with self.steps:
            return run_in_rounds(names, self._run_round, self._still_wide, plan)

    def _run_round(self, number: int, order: list[str]) -> Iterable[tuple[str, ProcessResult]]:
        self.steps.title = f"round {number + 1}"
        if number >= self.params.timing.processes:
            self.steps.add(len(order) * len(self._sizes()))
        groups = [
            [partial(self._start, self.by_name[name], number, len(group) == 1) for name in group]
            for group in self._groups(number, order)
        ]
        results = run_workers(groups, self.params.timing.worker_limit_seconds, self._listener(order))
        for name, result in zip(order, results, strict=True):
            if isinstance(result, WorkerError):
                yield name, ProcessResult(status="failed", reason=str(result))
            else:
                yield name, ProcessResult(**result, round=number)

    def _groups(self, number: int, order: list[str]) -> Iterable[list[str]]:
        """Yield the rows that start together.

        In the first round each starts alone, with cold caches of compiled code, and in the second those that compile
        do, with warm ones: so their start-up is a user's.
        """
        together = max(LEAST_TOGETHER, physical_cores() // 2)
        group: list[str] = []
        for name in order:
            is_alone = number == 0 or (number == 1 and "compile" in self.by_name[name].variant.options)
            if group and (is_alone or len(group) == together):
                yield group
                group = []
            group.append(name)
            if is_alone:
                yield group
                group = []
        if group:
            yield group

    def _start(self, row: Participant, number: int, is_alone: bool) -> WorkerProcess:
        job = make_job(
            row.key,
            row.variant,
            self.params,
            process=number,
            measure_accuracy=self.is_real and number == 0 and row.is_reported,
            task=self.task,
            starts_alone=is_alone,
            profile=number == 0 and row.is_reported,
            engine=self.engines[row.name][0] if row.name in self.engines else None,
        )
        return WorkerProcess(job, self._folder(row))

    def _listener(self, order: list[str]) -> OnEvent:
        waiting = iter(order)
        current = [""]

        def on_event(event: dict[str, Any]) -> None:
            if event["event"] == "ready":
                return
            if event["event"] == "load":
                current[0] = next(waiting, current[0])
            batch = f" batch {event['batch_size']}" if "batch_size" in event else ""
            self.steps.start(f"{current[0]}: {event['event']}{batch}")
            if event["event"] == "time":
                self.steps.done()

        return on_event

    def _still_wide(self, results: dict[str, list[ProcessResult]]) -> list[str]:
        """Return the rows whose interval is still too wide, the widest first; none if there are none.

        The baseline and its A/A row come before them: the others are compared with these.
        """
        target = math.log1p(self.params.timing.target_interval)
        widths = {row.name: _half_width(results[row.name]) for row in self.participants if row.is_reported}
        wide = sorted((name for name, width in widths.items() if width > target), key=lambda name: -widths[name])
        pair = [row.name for row in self.participants if AA_ROW in self.by_name and row.key == self.by_name[AA_ROW].key]
        return [*pair, *(name for name in wide if name not in pair)] if wide else []

    def outcome(self, row: Participant, results: list[ProcessResult]) -> Report:
        """Return the report of a variant; `failed` if a process of it died or built an engine."""
        last = results[-1]
        if last.status in ("skipped", "rejected"):
            return without_runs(row.variant, self.params, last.status, last.reason)
        engine = read_record(ENGINES / row.key) if row.name in self.engines else None
        try:
            if last.status == "failed":
                raise WorkerError(last.reason)
            if row.name in self.engines:
                check_unchanged(row.key, *self.engines[row.name])
        except EngineError as problem:
            return failed(row.variant, self.params, str(problem))
        except WorkerError as problem:
            if row.name in self.engines and row.variant.precision == "int8":
                reason = f"its INT8 engine does not run: {problem.last_words()}"
                return without_runs(row.variant, self.params, "rejected", reason).model_copy(update={"engine": engine})
            return failed(row.variant, self.params, str(problem))
        return self._combined(row, results).model_copy(update={"engine": engine})

    def _combined(self, row: Participant, results: list[ProcessResult]) -> Report:
        return combine(row.variant, self.params, results, self.is_real)

    def record(self, rounds: Rounds[ProcessResult], began: float) -> TimingSession:
        """Return what all reports of these rounds share: their id, order and seed, the A/A row and the anchors."""
        kept: dict[str, dict[str, ProcessTimes]] = {
            row.name: {**self._combined(row, rounds.results[row.name]).measured()}
            for row in self.participants
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
