"""The rows of both sides under load in the same passes: how many requests/s does each sustain within the SLO?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from bench.core.errors import WorkerError
from bench.core.files import in_one_line
from bench.core.interrupt import CUT_SHORT
from bench.core.progress import log
from bench.core.reports import Report, rate_text
from bench.runtimes.base.session import SessionSpec
from bench.serving.coordinator import why_too_slow
from bench.serving.group import combine
from bench.serving.passes import LoadPasses, LoadPlan
from bench.serving.rows import CLOCK_SET, ServedRows, ServedVariant
from bench.serving.search import Search, expected_rate, place_of
from bench.statistics.rate_curve import by_process, sustained_per_s
from bench.workers.protocol import Job
from compare.timed import AGAIN, UNTRIED, Group, Outcome, Timed

OF_A_PROCESS = {"engine", "in_flight", "batch_sizes"}
"""Fields of a session's description that are not its side's alone; all batch sizes of params.yaml are served."""


class ServedSides(ServedRows):
    """Serving workers of both sides: what a session is made of is its side's own."""

    jobs: Mapping[str, Job]

    def job(self, row: ServedVariant, process: int, engine: Path | None) -> Job:
        own, names = self.jobs[row.name], {field.name for field in fields(SessionSpec)} - OF_A_PROCESS
        return replace(super().job(row, process, engine), **{name: getattr(own, name) for name in names})


@dataclass
class Loaded(Timed):
    """Sends loads to the rows of one device; `expected_per_s`: what each should sustain, by `SIDE/ROW`."""

    expected_per_s: Mapping[str, float]
    bench = ServedSides
    processes = 2

    def _minutes(self) -> float:
        return self.params.serving.minutes

    def _row(self, name: str) -> ServedVariant:
        per_s = self.expected_per_s[name.replace(f"{AGAIN}/", "/")]
        return ServedVariant(**vars(super()._row(name)), expected_per_s=per_s, closed_loop_per_s=per_s)

    def _measure(self, keys: list[str], bench: Any, seconds: float) -> Group:
        names, pairs = [name for key in keys for name in self._names(key)], self._pairs(keys)
        rows = {name: bench.by_name[name] for name in names if name in bench.workers}
        expected = {name: row.expected_per_s for name, row in rows.items()}
        passes = LoadPasses(
            LoadPlan.of(expected, self.params, self.device, seconds),
            bench,
            is_cut=self.interrupt.is_cut,
            on_pass=lambda number, left: log(f"  pass {number} under load: {max(0.0, left):.0f} s left"),
        )
        for name, beside in pairs:
            if name in rows and beside in rows:
                passes.join(name, Search(place_of(rows[name].expected_per_s)), beside)
        passes.run()
        bench.hand_over(passes.rows)
        outcomes: dict[str, dict[int | None, Outcome]] = {name: {None: self._outcome(bench, name)} for name in names}
        return Group(keys, pairs, {None: passes.levels()}, outcomes)

    def _outcome(self, bench: ServedSides, name: str) -> Outcome:
        fault, results = bench.faults.get(name), bench.results.get(name)
        if fault:
            return Outcome(fault.status, in_one_line(WorkerError(fault.reason).last_words()))
        if not results:
            return Outcome("skipped", CUT_SHORT) if self.interrupt.is_cut() else Outcome(UNTRIED, CLOCK_SET)
        found = combine(bench.by_name[name].variant, self.params, results, self._side(name).described.is_real)
        trials = by_process(found.processes)
        per_s, reason = sustained_per_s(trials, found.budget_ms), found.reason
        if found.status == "measured" and per_s is None:
            lowest = min(trial.rate for own in trials.values() for trial in own)
            reason = f"no rate from {rate_text(lowest)}/s on met the SLO"
        return Outcome(found.status, reason, per_s)


def to_be_loaded(timed: Timed, groups: Sequence[Group]) -> tuple[Loaded, dict[str, list[Outcome]]]:
    """Return what sends loads to the rows that both sides should be able to serve, and what is known of the others."""
    reports = {name: report for group in groups for name, report in group.reports.items()}
    expected, others = dict[str, float](), dict[str, list[Outcome]]()
    for key in timed.keys:
        names = [f"{side}/{key}" for side in timed.sides]
        found = [_expected(reports.get(name), timed) for name in names]
        rates = [each for each in found if isinstance(each, float)]
        if len(rates) == len(names):
            expected |= dict(zip(names, rates, strict=True))
        else:
            others[key] = [Outcome("measured") if isinstance(each, float) else each for each in found]
    keys = [key for key in timed.keys if key not in others]
    control = timed.control if timed.control in keys else next(iter(keys), "")
    own = {**vars(timed), "keys": keys, "control": control, "scratch": timed.scratch / "load"}
    return Loaded(**own, expected_per_s=expected), others


def _expected(report: Report | None, timed: Timed) -> float | Outcome:
    """Return the requests/s that a row should sustain by what was timed of it, or why it is not tried."""
    mean_ms = {int(size): cell.mean_ms for size, cell in report.measured().items()} if report else {}
    if not mean_ms:
        return Outcome("skipped", "not timed" if report else CUT_SHORT)
    device, serving = timed.device, timed.params.serving
    rate = expected_rate(mean_ms, timed.params.max_batch(device), serving.p99_ms[device])
    if not rate:
        return Outcome("over_budget", f"holds no rate within {serving.p99_ms[device]:g} ms")
    reason = why_too_slow(rate, serving.minutes)
    return Outcome(UNTRIED, reason) if reason else rate
