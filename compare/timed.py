"""The rows of both sides in the same passes: as many as find memory, a row and its twin always in the same group."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from bench.core.errors import WorkerError
from bench.core.interrupt import CUT_SHORT, Interrupt
from bench.core.params import Device, Params
from bench.core.progress import log
from bench.core.reports import Report, TimedCell
from bench.statistics.blocks import Level
from bench.timing.blocks import TimedRows
from bench.timing.coordinator import without_runs
from bench.timing.passes import Cell, Passes, Plan
from bench.timing.resident import Fault, Resident, Row
from bench.timing.results import ProcessResult, combine
from bench.workers.protocol import Job
from compare.sides import Side

BEFORE, AFTER = "before", "after"
AGAIN = "_again"
"""Behind a side: its control, one of its rows once more."""
NARROW_ENOUGH = 0.5
"""Of the margin: half of an interval with which equal rows are called equal."""
FURTHER_PROCESSES = 12
"""So many are dealt out to the rows that start quickest.  What two processes of one row differ by is taken from these
for all rows: with twelve degrees of freedom it needs no prior, as it would with two (Student's 95% quantile: 4.3; 2.2).
"""
UNTRIED = "not tried"
"""Status of a row under load that says nothing of it: too little time, or a clock that was set."""
ACCURACY_SHARE = 0.25
"""Of the minutes, for labels that no block gave."""


@dataclass(frozen=True)
class Outcome:
    """What became of a row at a batch size, or under load; `value`: p50 in ms, or requests/s."""

    status: str
    reason: str = ""
    value: float | None = None


@dataclass(frozen=True)
class Group:
    """Rows that were measured together, by `SIDE/ROW` and batch size, None: under load.

    `pairs`: which are compared; `levels`: where they stand.
    """

    keys: list[str]
    pairs: Sequence[tuple[str, str]]
    levels: Mapping[int | None, Mapping[str, Level]]
    outcomes: Mapping[str, Mapping[int | None, Outcome]]
    reports: Mapping[str, Report] = field(default_factory=dict)
    results: Mapping[str, list[ProcessResult]] = field(default_factory=dict)
    labels: Mapping[str, list[int]] = field(default_factory=dict)


class Sided(TimedRows):
    """Workers of both sides; blocks of one row follow each other, one of each side in turns, in random order.

    Passes ask for one at a time: of those that they asked for in the last pass, the others of its row run with it.
    """

    jobs: Mapping[str, Job]

    def job(self, row: Row, process: int, engine: Path | None) -> Job:
        return replace(self.jobs[row.name], process=process, engine=engine, started_ns=time.perf_counter_ns())

    def sizes(self, name: str) -> list[int]:
        return [size for size in self.jobs[name].batch_sizes if Cell(name, size) not in self.no_memory]

    def begin_pass(self) -> None:
        super().begin_pass()
        self._last, self._asked = getattr(self, "_asked", []), list[tuple[Cell, int]]()
        self._given: dict[tuple[Cell, int], float | None] = {}

    def block(self, cell: Cell, process: int, number: int) -> float | None:
        self._asked.append((cell, process))
        if (cell, process) not in self._given:
            key = self.by_name[cell.row].key
            beside = [each for each in self._last if self.by_name[each[0].row].key == key and each[0].size == cell.size]
            turn = sorted({(cell, process), *beside})
            random = Random(f"{number} {key} {cell.size}")
            for each in sorted(turn, key=lambda each: (each[1], random.random())):
                self._given[each] = super().block(each[0], each[1], number)
        return self._given[cell, process]


@dataclass
class Timed:
    """Times the rows of one device; `keys`: those that both sides can try, `control`: the one of these twice a side."""

    keys: Sequence[str]
    control: str
    sides: Mapping[str, Side]
    params: Params
    sizes: Sequence[int]
    scratch: Path
    interrupt: Interrupt
    bench: ClassVar[Any] = Sided
    processes: ClassVar[int] = 1
    """Of each row, to begin with."""

    def groups(self) -> Iterator[Group]:
        """Measure them, a group after another."""
        waiting, number = list(self.keys), 0
        while waiting and not self.interrupt.is_cut():
            scratch = self.scratch / str(number)
            scratch.mkdir(parents=True)
            group = self._in_a_group(waiting, scratch)
            yield group
            waiting, number = [key for key in waiting if key not in group.keys], number + 1

    @property
    def device(self) -> Device:
        return self.sides[AFTER].described.rows[self.keys[0]].variant.device

    def _minutes(self) -> float:
        return self.params.timing.minutes

    def _names(self, key: str) -> list[str]:
        sides = [BEFORE, AFTER, *([BEFORE + AGAIN, AFTER + AGAIN] if key == self.control else [])]
        return [f"{side}/{key}" for side in sides]

    def _pairs(self, keys: Sequence[str]) -> list[tuple[str, str]]:
        pairs = [(f"{AFTER}/{key}", f"{BEFORE}/{key}") for key in keys]
        twins = [(f"{side}{AGAIN}/{self.control}", f"{side}/{self.control}") for side in (BEFORE, AFTER)]
        return pairs + twins * (self.control in keys)

    def _side(self, name: str) -> Side:
        return self.sides[name.split("/", maxsplit=1)[0].removesuffix(AGAIN)]

    def _row(self, name: str) -> Row:
        side, key = self._side(name), name.split("/")[1]
        variant = side.described.rows[key].variant
        return Row(name, key, variant, is_reported=AGAIN not in name, home=side.place, python=side.python)

    def _job(self, name: str) -> Job:
        job = self._side(name).described.rows[name.split("/")[1]].job
        assert job
        seconds = 60 * ACCURACY_SHARE * self.params.timing.minutes / (2 * len(self.keys))
        sizes = [size for size in job.batch_sizes if size in self.sizes]
        return replace(job, batch_sizes=sizes, accuracy_seconds=seconds)

    def _in_a_group(self, keys: Sequence[str], scratch: Path) -> Group:
        names = [name for key in keys for name in self._names(key)]
        bench = self._bench(names, scratch)
        try:
            log(f"  starting {len(names)} rows of both sides")
            here = self._whole(keys, bench, bench.start(names * self.processes))
            return self._measure(here, bench, 60 * self._minutes() * len(here) / len(self.keys))
        finally:
            bench.close()

    def _whole(self, keys: Sequence[str], bench: Resident[Any], late: Sequence[str]) -> list[str]:
        """Return the rows of which every worker found memory, or failed; end those of the others.

        Where no row did, the first is out of memory.
        """
        here = [key for key in keys if not set(self._names(key)) & set(late)]
        for name in (name for key in keys if key not in here for name in self._names(key)):
            bench.end_workers(name)
        if not here:
            here = [keys[0]]
            reason = "no memory for the rows of both sides side by side"
            bench.faults |= {name: Fault("out_of_memory", reason) for name in self._names(keys[0])}
        return here

    def _bench(self, names: Sequence[str], scratch: Path) -> Any:
        jobs = {name: self._job(name) for name in names}
        rows, task = [self._row(name) for name in names], jobs[names[0]].task
        bench = self.bench(rows, self.params, task, scratch, self.interrupt.is_cut)
        bench.jobs = jobs
        return bench

    def _measure(self, keys: list[str], bench: Sided, seconds: float) -> Group:
        self._add_processes(bench)
        running, pairs = bench.running(), self._pairs(keys)
        plan = Plan(
            sizes={name: bench.sizes(name) for name in running},
            baseline=None,
            twin=None,
            partners=pairs,
            seconds=seconds,
            margin=self.params.report.margin,
            target=NARROW_ENOUGH * self.params.report.margin,
            seed=int(time.time()),
            is_only_partners=True,
        )
        passes = Passes(
            plan,
            bench,
            is_cut=self.interrupt.is_cut,
            on_look=lambda number, left, seconds: log(
                f"  pass {number}: {left} comparisons open, at most {max(0.0, seconds):.0f} s left"
            ),
            processes={name: len(bench.workers[name]) for name in running},
        )
        passes.run()
        labels = dict(self._labels(bench, running))
        bench.hand_over()
        reports = {name: self._report(bench, bench.by_name[name]) for key in keys for name in self._names(key)}
        outcomes = {name: _outcomes(report) for name, report in reports.items()}
        levels: dict[int | None, dict[str, Level]] = dict(passes.levels().items())
        return Group(keys, pairs, levels, outcomes, reports, bench.results, labels)

    def _add_processes(self, bench: Sided) -> None:
        """Start further processes, equally many of both sides of a row."""
        names = bench.running()
        slowest = {row.key: 0.0 for row in bench.by_name.values()}
        for name in names:
            key = bench.by_name[name].key
            slowest[key] = max(slowest[key], bench.start_seconds[name])
        names.sort(key=lambda name: slowest[bench.by_name[name].key])
        bench.start([*islice(cycle(names), FURTHER_PROCESSES if names else 0)])

    def _labels(self, bench: Sided, names: Sequence[str]) -> Iterator[tuple[str, list[int]]]:
        if self.interrupt.is_cut():
            return
        log("  labels of the sentences that no block met")
        for name in (name for name in names if AGAIN not in name):
            if answer := bench.ask(name, 0, self.params.timing.worker_limit_seconds, "labels"):
                yield name, answer["labels"]

    def _report(self, bench: Sided, row: Row) -> Report:
        params = self.params.model_copy(update={"batch_sizes": bench.jobs[row.name].batch_sizes})
        fault = bench.faults.get(row.name)
        if fault and fault.status == "failed":
            return without_runs(row.variant, params, "failed", WorkerError(fault.reason).last_words())
        if fault or row.name not in bench.results:
            fault = fault or Fault("skipped", CUT_SHORT)
            return without_runs(row.variant, params, fault.status, fault.reason)
        blocks = {cell.size: own for cell, own in bench.blocks.items() if cell.row == row.name}
        return combine(row.variant, params, blocks, bench.results[row.name], self._side(row.name).described.is_real)


def _outcomes(report: Report) -> dict[int | None, Outcome]:
    return {
        int(size): Outcome(cell.status, cell.reason, cell.p50_ms if isinstance(cell, TimedCell) else None)
        for size, cell in report.cells.items()
    }
