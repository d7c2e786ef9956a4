"""Serve rows of one device together: which ones, in which groups, and each one's report."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bench.core.files import in_one_line
from bench.core.interrupt import CUT_SHORT, Interrupt
from bench.core.params import Params, Variant
from bench.core.progress import log
from bench.core.reports import NoopProcess, Served, ServingProcess, ServingSearch, ServingSession, rate_text
from bench.core.schemas import read_machine_id
from bench.serving.coordinator import Expected, expected_of, without_load
from bench.serving.exploration import SHARE, Exploration
from bench.serving.jobs import NOOP, ServingResult
from bench.serving.passes import LoadPasses, LoadPlan
from bench.serving.rows import CLOCK_SET, ServedRows, ServedVariant
from bench.statistics.rate_curve import crossing, curve_of
from bench.timing.evidence import contradiction
from bench.timing.quality import gate_verdict, tolerances
from bench.timing.repro import Request, served_place
from bench.timing.resident import Group, in_groups


def serve_together(asked: str, params: Params, request: Request) -> None:
    """Serve `asked` and all rows of its device that this `dvc repro` serves anyway; leave each one's report."""
    rows = _rows(asked, params, request)
    for group, row in in_groups(rows, partial(ServedGroup, params=params)):
        served_place(row.key, row.variant).leave(group.outcome(row), request)


def _rows(asked: str, params: Params, request: Request) -> list[ServedVariant]:
    variants = {key: params.variant(key) for key in params.serving.variants}
    device = params.variant(asked).device
    return [
        ServedVariant(key, key, variant, *expected)
        for key, variant in variants.items()
        if variant.device == device
        and (key == asked or served_place(key, variant).is_due(request))
        and isinstance(expected := expected_of(key, params), Expected)
    ]


class ServedGroup(Group[ServedVariant]):
    """Rows of one device that are served in the same passes; as many of those that wait as fit into memory."""

    def __init__(
        self, rows: Sequence[ServedVariant], params: Params, scratch: Path, interrupt: Interrupt, share: float
    ) -> None:
        super().__init__(rows, params, scratch, interrupt, share)
        self.bench = ServedRows(rows, params, self.task, self.scratch, interrupt.is_cut)
        self.exploration: Exploration | None = None
        self.noop: NoopProcess | None = None

    def run(self) -> list[ServedVariant]:
        """Serve the rows; return those that found no memory beside the others."""
        names = [row.name for row in self.rows]
        log(f"  serving {len(names)} rows together: {', '.join(names)}")
        try:
            late = self.bench.start([*names, NOOP, *names])
            waiting = [row for row in self.rows if row.name in late]
            if waiting:
                log(f"  no memory for {len(waiting)} of them beside the others: they are served after these")
                self.share *= 1 - len(waiting) / len(self.rows)
            self.passes = self._passes()
            if self.params.serving.search:
                self.exploration = Exploration(self.passes, self.bench, SHARE * self.passes.plan.seconds)
                self.passes.explore = partial(self._explore, self.exploration)
            self.passes.run()
            if not self.interrupt.is_cut():
                log("  the no-op backend at the rates of these rows")
                self.noop = self.bench.run_noop(self._held(), self.params.serving.seed)
            self.bench.hand_over(self.passes.rows)
        finally:
            self.bench.close()
        return [] if self.interrupt.is_cut() else waiting

    def _passes(self) -> LoadPasses:
        return LoadPasses(self._plan(), self.bench, is_cut=self.interrupt.is_cut, on_pass=self._tell)

    def _explore(self, exploration: Exploration) -> None:
        log("  searching for better settings")
        exploration.run()
        for name, found in exploration.searches.items():
            told = f"perhaps better: {found.settings.text()}" if found.settings else "none better found"
            log(f"  {name}: {'; '.join([told] * bool(found.trials) + [found.ended] * bool(found.ended))}")

    def _plan(self) -> LoadPlan:
        serving, device = self.params.serving, self.rows[0].variant.device
        running = self.bench.running()
        return LoadPlan(
            expected_per_s={row.name: row.expected_per_s for row in self.rows if row.name in running},
            budget_ms=serving.p99_ms[device],
            seconds=60 * serving.minutes * self.share,
            margin=self.params.report.margin,
            target=self.params.timing.target_interval,
            seed=serving.seed,
        )

    def _tell(self, number: int, left_seconds: float) -> None:
        last = {name: row.points[-1] for name, row in self.passes.rows.items() if row.points}
        own = {name: point for name, point in last.items() if point.number == number}
        said = [f"{name} {rate_text(point.rate)}/s {'met' if point.keeps else 'missed'}" for name, point in own.items()]
        log(f"  pass {number}: {', '.join(said)} ({max(0.0, left_seconds):.0f} s left)")

    def _held(self) -> list[float]:
        """Return about what the rows hold."""
        budget_ms = self.params.serving.p99_ms[self.rows[0].variant.device]
        curves = [curve_of(row.points) for row in self.passes.rows.values()]
        return [found.rate for curve in curves if (found := crossing(curve, budget_ms))]

    def outcome(self, row: ServedVariant) -> Served:
        """Return the report of a row: `failed` if a process of it died or built an engine."""
        session = ServingSession(
            id=f"{self.began:.3f}",
            machine=read_machine_id(),
            seed=self.params.serving.seed,
            null=self.noop,
            passes=self.bench.conditions,
            cut_short=CUT_SHORT if self.interrupt.is_cut() else "",
        )
        more = {"closed_loop_per_s": row.closed_loop_per_s, "expected_per_s": row.expected_per_s}
        return self._outcome(row).model_copy(update={**more, "session": session, "search": self._search(row)})

    def _search(self, row: ServedVariant) -> ServingSearch | None:
        """Return what a search for better settings gave, with what the best ones did in the passes."""
        if self.exploration is None:
            return None
        found, best = self.exploration.searches.get(row.name), self.exploration.best.get(row.name)
        if found is None or best is None:
            return found
        results, fault = self.bench.results.get(best), self.bench.faults.get(best)
        if results:
            checked = combine(row.variant, self.params, results, self.is_real)
            processes = checked.processes if checked.status == "measured" else []
            return found.model_copy(update={"processes": processes, "reason": checked.reason})
        trials = {} if fault else self.passes.rows[best].trials
        processes = [ServingProcess(process=each, points=own, late_captures=0) for each, own in trials.items()]
        return found.model_copy(update={"processes": processes, "reason": fault.reason if fault else ""})

    def _outcome(self, row: ServedVariant) -> Served:
        fault, results = self.bench.faults.get(row.name), self.bench.results.get(row.name)
        if fault and fault.status == "failed":
            return self._failed(row, fault.reason)
        if fault:
            return without_load(row.variant.device, self.params, fault.status, fault.reason)
        if results:
            return combine(row.variant, self.params, results, self.is_real)
        if self.interrupt.is_cut():
            return without_load(row.variant.device, self.params, "skipped", CUT_SHORT)
        return self._failed(row, CLOCK_SET)

    def _failed(self, row: ServedVariant, failure: str) -> Served:
        reason = in_one_line(failure)
        return without_load(row.variant.device, self.params, "failed", reason).model_copy(update={"failure": failure})


def combine(variant: Variant, params: Params, results: list[ServingResult], is_real: bool) -> Served:
    """Put the processes' results together; `rejected` if an answer under load was wrong, missing or another's."""
    checks = [check for result in results for check in result.checks]
    processes = [ServingProcess.model_validate(result.model_dump()) for result in results]
    loads = [load for each in processes for load in (each.single_stream, each.offline, *each.points) if load]
    limits = tolerances(params.quality[variant.precision], is_real)
    figures, reason = gate_verdict([check.comparison for check in checks], limits)
    mixed_up = next((fault for check in checks if (fault := check.unanswered or check.replayed.fault)), "")
    reason = contradiction(variant, results[0].evidence) or reason or mixed_up
    found = {
        **figures,
        "requests": sum(load.queries for load in loads),
        "replayed_batches": sum(check.replayed.batches for check in checks),
        "processes": processes,
    }
    return without_load(variant.device, params, "rejected" if reason else "measured", reason).model_copy(update=found)
