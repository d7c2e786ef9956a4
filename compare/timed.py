"""The rows of both sides in the same passes: as many as find memory, a row and its twin always in the same group."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.core.errors import WorkerError
from bench.core.interrupt import CUT_SHORT, Interrupt
from bench.core.params import Params
from bench.core.progress import log
from bench.core.reports import Report
from bench.timing.blocks import TimedRows
from bench.timing.coordinator import failed, without_runs
from bench.timing.passes import Cell, Passes, Plan
from bench.timing.resident import Fault, Row
from bench.timing.results import ProcessResult, combine
from bench.workers.protocol import Job
from compare.describe import Description
from compare.sides import Side

BEFORE, AFTER = "before", "after"
AGAIN = "_again"
"""Behind a side: its control, one of its rows once more."""
NARROW_ENOUGH = 0.5
"""Of the margin: half of an interval with which equal rows are called equal."""
ACCURACY_SHARE = 0.25
"""Of the minutes, for labels that no block gave."""


@dataclass(frozen=True)
class Group:
    """Rows that were timed together, by `SIDE/ROW`."""

    keys: list[str]
    passes: Passes
    reports: dict[str, Report]
    results: dict[str, list[ProcessResult]]
    labels: dict[str, list[int]]


class Sided(TimedRows):
    """Workers of both sides."""

    def __init__(
        self,
        rows: Sequence[Row],
        jobs: Mapping[str, Job],
        params: Params,
        scratch: Path,
        is_cut: Callable[[], bool],
    ) -> None:
        super().__init__(rows, params, jobs[rows[0].name].task, scratch, is_cut)
        self.jobs = jobs

    def job(self, row: Row, process: int, engine: Path | None) -> Job:
        return replace(self.jobs[row.name], process=process, engine=engine, started_ns=time.perf_counter_ns())

    def sizes(self, name: str) -> list[int]:
        return [size for size in self.jobs[name].batch_sizes if Cell(name, size) not in self.no_memory]


@dataclass
class Timed:
    """Times the rows of one device; `keys`: those that both sides can try, `control`: the one of these twice a side."""

    keys: Sequence[str]
    control: str
    sides: Mapping[str, Side]
    described: Mapping[str, Description]
    params: Params
    sizes: Sequence[int]
    scratch: Path
    interrupt: Interrupt

    def groups(self) -> Iterator[Group]:
        """Time them, a group after another."""
        waiting, number = list(self.keys), 0
        while waiting and not self.interrupt.is_cut():
            scratch = self.scratch / str(number)
            scratch.mkdir(parents=True)
            group = self._time(waiting, len(waiting) / len(self.keys), scratch)
            yield group
            waiting, number = [key for key in waiting if key not in group.keys], number + 1

    def _names(self, key: str) -> list[str]:
        sides = [BEFORE, AFTER, *([BEFORE + AGAIN, AFTER + AGAIN] if key == self.control else [])]
        return [f"{side}/{key}" for side in sides]

    def _row(self, name: str) -> Row:
        label, key = name.split("/")
        side = self.sides[label.removesuffix(AGAIN)]
        variant = self.described[side.label].rows[key].variant
        return Row(name, key, variant, is_reported=label == side.label, home=side.place, python=side.python)

    def _job(self, row: Row) -> Job:
        job = self.described[row.name.split("/")[0].removesuffix(AGAIN)].rows[row.key].job
        assert job
        seconds = 60 * ACCURACY_SHARE * self.params.timing.minutes / (2 * len(self.keys))
        sizes = [size for size in job.batch_sizes if size in self.sizes]
        return replace(job, batch_sizes=sizes, accuracy_seconds=seconds)

    def _time(self, keys: Sequence[str], share: float, scratch: Path) -> Group:
        rows = [self._row(name) for key in keys for name in self._names(key)]
        bench = Sided(rows, {row.name: self._job(row) for row in rows}, self.params, scratch, self.interrupt.is_cut)
        try:
            log(f"  starting {len(rows)} rows of both sides")
            late = bench.start([row.name for row in rows])
            here = self._whole(keys, bench, late)
            names = [name for key in here for name in self._names(key) if name in bench.workers]
            bench.add_processes(names)
            names = [name for name in names if name in bench.workers]
            share *= len(here) / len(keys)
            passes = Passes(
                self._plan(here, names, bench, share),
                bench,
                is_cut=self.interrupt.is_cut,
                on_look=lambda number, left, seconds: log(
                    f"  pass {number}: {left} comparisons open, at most {max(0.0, seconds):.0f} s left"
                ),
                processes={name: len(bench.workers[name]) for name in names},
            )
            passes.run()
            labels = dict(self._labels(bench, names))
            bench.hand_over()
        finally:
            bench.close()
        reports = {name: self._report(bench, bench.by_name[name]) for key in here for name in self._names(key)}
        return Group(here, passes, reports, bench.results, labels)

    def _whole(self, keys: Sequence[str], bench: Sided, late: Sequence[str]) -> list[str]:
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

    def _plan(self, keys: Sequence[str], names: Sequence[str], bench: Sided, share: float) -> Plan:
        pairs = [(f"{AFTER}/{key}", f"{BEFORE}/{key}") for key in keys]
        pairs += [(f"{side}{AGAIN}/{self.control}", f"{side}/{self.control}") for side in (BEFORE, AFTER)]
        return Plan(
            sizes={name: bench.sizes(name) for name in names},
            baseline=None,
            twin=None,
            partners=pairs,
            seconds=60 * self.params.timing.minutes * share,
            margin=self.params.report.margin,
            target=NARROW_ENOUGH * self.params.report.margin,
            seed=int(time.time()),
            is_only_partners=True,
        )

    def _labels(self, bench: Sided, names: Sequence[str]) -> Iterator[tuple[str, list[int]]]:
        if self.interrupt.is_cut():
            return
        log("  labels of the sentences that no block met")
        for name in (name for name in names if AGAIN not in name):
            if answer := bench.ask(name, 0, self.params.timing.worker_limit_seconds, "labels"):
                yield name, answer["labels"]

    def _report(self, bench: Sided, row: Row) -> Report:
        side = self.described[row.name.split("/")[0].removesuffix(AGAIN)]
        sizes = bench.jobs[row.name].batch_sizes
        params = self.params.model_copy(update={"batch_sizes": sizes})
        fault = bench.faults.get(row.name)
        if fault and fault.status == "failed":
            return failed(row.variant, params, WorkerError(fault.reason).last_words())
        if fault or row.name not in bench.results:
            fault = fault or Fault("skipped", CUT_SHORT)
            return without_runs(row.variant, params, fault.status, fault.reason)
        blocks = {cell.size: own for cell, own in bench.blocks.items() if cell.row == row.name}
        return combine(row.variant, params, blocks, bench.results[row.name], side.is_real)
