"""Time rows of one device together: which ones, in which groups, and each one's report."""

import math
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from statistics import geometric_mean

from rich.console import Console
from rich.live import Live
from rich.table import Table

from bench.core.errors import BenchError, WorkerError
from bench.core.interrupt import CUT_SHORT
from bench.core.params import Params, Variant
from bench.core.partners import partners
from bench.core.paths import ENGINES, SAMPLES
from bench.core.progress import log
from bench.core.reports import AA_ROW, BlockTimes, Report, TimingSession
from bench.core.schemas import read_machine_id
from bench.timing import passes
from bench.timing.blocks import TimedRows
from bench.timing.coordinator import report_without_runs, without_runs
from bench.timing.passes import Passes, Plan
from bench.timing.repro import Request, read_report, timed_place
from bench.timing.resident import Fault, Group, Row, in_groups
from bench.timing.results import Block, ProcessResult, block_times, combine
from bench.workers.engines import read_record


def time_together(asked: str, params: Params, request: Request) -> None:
    """Time `asked` and all that goes with it; leave each variant's report where its stage takes it."""
    rows = _choose_rows(asked, params, request)
    for group, row in in_groups(TimedGroup, rows, params):
        if row.is_reported:
            timed_place(row.key, row.variant).leave(group.outcome(row), request)


def _choose_rows(asked: str, params: Params, request: Request) -> list[Row]:
    """Return the rows to time together with `asked`: what this `dvc repro` times anyway, the A/A row, and anchors.

    The A/A row is the device's baseline once more.  Where the baseline itself, or rows that are not timed now, stay as
    they are, the baseline and the fastest of these at each batch size are timed beside: through them the others can be
    compared.
    """
    device = params.variant(asked).device
    runnable = {
        key: variant
        for key, variant in params.all_variants().items()
        if variant.device == device and (key == asked or _can_run(key, variant, params))
    }
    chosen = [key for key, variant in runnable.items() if key == asked or timed_place(key, variant).is_due(request)]
    baseline = params.baselines.get(device)
    others = {key: variant for key, variant in runnable.items() if key not in chosen}
    anchors = {key for key in (baseline, *_fastest(others)) if key in others}
    rows = [_anchor(key, runnable[key]) for key in sorted(anchors)]
    if baseline in runnable:
        rows.append(Row(AA_ROW, baseline, runnable[baseline], is_reported=False))
    own = sorted((Row(key, key, runnable[key]) for key in chosen), key=lambda row: row.key != baseline)
    return [*own[:1], *rows, *own[1:]] if own[0].key == baseline else [*rows, *own]


def _anchor(key: str, variant: Variant) -> Row:
    return Row(f"anchor/{key}", key, variant, is_reported=False)


def _can_run(key: str, variant: Variant, params: Params) -> bool:
    """Tell whether a row can be timed beside the one that was asked for; its own stage says what is wrong with it."""
    with suppress(BenchError):
        return report_without_runs(key, variant, params) is None
    return False


def _fastest(variants: dict[str, Variant]) -> set[str]:
    """Return the variants with the lowest recorded p50 at a batch size."""
    best: dict[str, tuple[float, str]] = {}
    for key in variants:
        report = read_report(SAMPLES / f"{key}.json", Report)
        for size, cell in (report.measured() if report else {}).items():
            best[size] = min(best.get(size, (math.inf, "")), (cell.p50_ms, key))
    return {key for _, key in best.values()}


class TimedGroup(Group[Row]):
    kind = TimedRows
    bench: TimedRows

    def run(self) -> list[Row]:
        """Time the rows; return those that need another group, with the rows that others are compared through."""
        self.baseline = self.params.baselines.get(self.rows[0].variant.device)
        self.alone: dict[str, ProcessResult] = {}
        self.failed_alone: dict[str, str] = {}
        names, began = [row.name for row in self.rows], time.perf_counter()
        log(f"  starting {len(names)} rows: {', '.join(names)}")
        late = self.start(names, "timed")
        self.start_seconds = time.perf_counter() - began
        self.passes = Passes(self._plan(), self.bench, is_cut=self.interrupt.is_cut)
        table, began = LiveTable(self.passes), time.perf_counter()
        self.passes.on_look = table.show
        with table.live or nullcontext():
            self.passes.run()
        self.pass_seconds = time.perf_counter() - began
        self.bench.hand_over()
        if not self.interrupt.is_cut():
            self._run_alone()
        self.session = self._session()
        return self._rest(late)

    def _plan(self) -> Plan:
        timing, running = self.params.timing, self.bench.running()
        by_key = {row.key: name for name, row in self.bench.by_name.items() if name in running and name != AA_ROW}
        variants = {key: self.bench.by_name[name].variant for key, name in by_key.items()}
        return Plan(
            sizes={name: self.bench.sizes(name) for name in running},
            baseline=by_key.get(self.baseline or ""),
            twin=AA_ROW if AA_ROW in running else None,
            partners=[(by_key[a], by_key[b]) for a, b in partners(variants)],
            seconds=60 * timing.minutes * self.share,
            margin=self.params.report.margin,
            target=timing.target_interval,
            seed=int(self.began),
        )

    def _run_alone(self) -> None:
        """Run the baseline and the rows that may be a pick once more, each alone; see `TimedRows.alone`."""
        for name in self.passes.contenders():
            row = self.bench.by_name[name]
            if not row.is_reported or name in self.bench.faults or self.interrupt.is_cut():
                continue
            log(f"  {name} alone: cold start, memory, {'energy, kernels' if self.bench.gpu else 'operators'}, accuracy")
            try:
                found = self.bench.alone(row, self.scratch / "alone" / name)
                self.alone[name] = found.model_copy(update={"is_alone": True, "process": passes.MOST_PROCESSES})
            except WorkerError as problem:
                self.failed_alone[name] = f"not taken alone: {problem.last_words()}"

    def _rest(self, late: Sequence[Row]) -> list[Row]:
        if not late or self.interrupt.is_cut():
            return []
        beside = [row for row in self.rows if not row.is_reported or row.key == self.baseline]
        anchors = [_anchor(row.key, row.variant) if row.is_reported else row for row in beside]
        return [*anchors, *late]

    def outcome(self, row: Row) -> Report:
        """Return the report of a variant: `failed` if a process of it died or built an engine."""
        remarks = filter(None, (self.bench.remarks.get(row.name), self.failed_alone.get(row.name)))
        return self._outcome(row).model_copy(update={"session": self.session, "remark": "; ".join(remarks)})

    def _outcome(self, row: Row) -> Report:
        fault = self.bench.faults.get(row.name)
        engine = read_record(ENGINES / row.key) if row.variant.runtime == "tensorrt" else None
        if fault and fault.status == "failed" and engine and row.variant.precision == "int8":
            fault = Fault("rejected", f"its INT8 engine does not run: {WorkerError(fault.reason).last_words()}")
        if fault or not self.bench.results.get(row.name):
            fault = fault or Fault("skipped", CUT_SHORT)
            report = without_runs(row.variant, self.params, fault.status, fault.reason)
        else:
            alone = [self.alone[row.name]] if row.name in self.alone else []
            every = [*self.bench.results[row.name], *alone]
            report = combine(row.variant, self.params, self._blocks(row.name), every, self.is_real)
        return report.model_copy(update={"engine": engine})

    def _session(self) -> TimingSession:
        """Return what all reports of these passes share."""
        kept = {row.name: self._times(row.name) for row in self.rows if not row.is_reported}
        twin = kept.pop(AA_ROW, {})
        anchors = {self.bench.by_name[name].key: cells for name, cells in kept.items()}
        return TimingSession(
            id=f"{self.began:.3f}",
            machine=read_machine_id(),
            seed=int(self.began),
            passes=self.bench.conditions,
            seconds={"start": self.start_seconds, "passes": self.pass_seconds, "calls": self.bench.busy_seconds},
            cut_short=CUT_SHORT if self.interrupt.is_cut() else "",
            twin=twin,
            anchors=anchors,
        )

    def _blocks(self, name: str) -> dict[int, list[Block]]:
        return {cell.size: blocks for cell, blocks in self.bench.blocks.items() if cell.row == name}

    def _times(self, name: str) -> dict[str, BlockTimes]:
        own = {} if name in self.bench.faults else self._blocks(name)
        return {str(size): BlockTimes(**block_times(blocks)) for size, blocks in own.items() if blocks}


class LiveTable:
    """p50 of every row and batch size, in ms, while it sharpens; `live`: draws in place on a terminal."""

    def __init__(self, passes: Passes) -> None:
        self._passes = passes
        is_terminal = Console().is_terminal and sys.stdout.isatty()
        self.live = Live(auto_refresh=False) if is_terminal else None

    def show(self, number: int, open_comparisons: int, seconds_left: float) -> None:
        """Show the table after this many passes, and how much is open."""
        decided = "p50 in ms, nothing decided yet" if number == 1 else f"{open_comparisons} comparisons open"
        title = f"pass {number}: {decided}, at most {max(0.0, seconds_left):.0f} s left"
        if self.live:
            self.live.update(self._table(title), refresh=True)
        elif number == 1:
            Console(width=120).print(self._table(title))
        else:
            log(f"  {title}")

    def _table(self, title: str) -> Table:
        blocks = self._passes.blocks
        sizes = sorted({cell.size for cell in blocks})
        table = Table(title=title, title_justify="left")
        table.add_column("variant")
        for size in sizes:
            table.add_column(f"batch {size}", justify="right")
        for row in self._passes.plan.sizes:
            own = {cell.size: found for cell, found in blocks.items() if cell.row == row}
            table.add_row(row, *(self._p50(own.get(size, {})) for size in sizes))
        return table

    @staticmethod
    def _p50(processes: dict[int, dict[int, float]]) -> str:
        every = [ms for own in processes.values() for ms in own.values()]
        return f"{geometric_mean(every):.3g}" if every else "–"
