"""Serve rows of one device together: which ones, in which groups, and each one's report."""

from dataclasses import astuple
from functools import partial

from bench.core.interrupt import CUT_SHORT
from bench.core.params import Params, Variant
from bench.core.progress import log
from bench.core.reports import NoopProcess, Served, ServingProcess, ServingSearch, ServingSession, rate_text
from bench.core.schemas import read_machine_id
from bench.serving.coordinator import Expected, expected_of, without_load
from bench.serving.exploration import Exploration, search_seconds
from bench.serving.jobs import NOOP, ServingResult, queries
from bench.serving.passes import LoadPasses, LoadPlan
from bench.serving.rows import CLOCK_SET, ServedRows, ServedVariant
from bench.statistics.rate_curve import crossing, curve_of
from bench.timing.evidence import contradiction
from bench.timing.quality import gate_verdict, tolerances
from bench.timing.repro import Request, served_place
from bench.timing.resident import Fault, Group, in_groups


def serve_together(asked: str, params: Params, request: Request) -> None:
    """Serve `asked` and all rows of its device that this `dvc repro` serves anyway; leave each one's report."""
    rows = _rows(asked, params, request)
    for group, row in in_groups(ServedGroup, rows, params):
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
    """Rows that are served in the same passes."""

    kind = ServedRows
    bench: ServedRows
    exploration: Exploration | None = None
    noop: NoopProcess | None = None

    def run(self) -> list[ServedVariant]:
        """Serve the rows; return those that found no memory beside the others."""
        names = [row.name for row in self.rows]
        log(f"  serving {len(names)} rows together: {', '.join(names)}")
        late = self.start([*names, NOOP, *names], "served")
        self.passes = self._passes()
        if self.params.serving.search:
            self.exploration = Exploration(self.passes, self.bench, self._search_seconds())
            self.passes.explore = partial(self._explore, self.exploration)
        self.passes.run()
        if not self.interrupt.is_cut():
            log("  the no-op backend at the rates of these rows")
            self.noop = self.bench.run_noop(self._held(), self.params.serving.seed)
        self.bench.hand_over(self.passes.rows)
        return [] if self.interrupt.is_cut() else late

    def _passes(self) -> LoadPasses:
        running, seconds = self.bench.running(), 60 * self.params.serving.minutes * self.share
        expected = {row.name: row.expected_per_s for row in self.rows if row.name in running}
        plan = LoadPlan.of(expected, self.params, self.rows[0].variant.device, seconds)
        return LoadPasses(plan, self.bench, is_cut=self.interrupt.is_cut, on_pass=self._tell)

    def _search_seconds(self) -> float:
        plan, least = self.passes.plan, self.params.serving.seconds
        planned = (queries(rate, least, plan.budget_ms) / rate for rate in plan.expected_per_s.values())
        return search_seconds(plan.seconds, sum(planned))

    def _explore(self, exploration: Exploration) -> None:
        log("  searching for better settings")
        exploration.run()
        for name, found in exploration.searches.items():
            told = f"perhaps better: {found.settings.text()}" if found.settings else "none better found"
            log(f"  {name}: {'; '.join([told] * bool(found.trials) + [found.ended] * bool(found.ended))}")

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
        if results and not fault:
            return combine(row.variant, self.params, results, self.is_real)
        unserved = Fault("skipped", CUT_SHORT) if self.interrupt.is_cut() else Fault("failed", CLOCK_SET)
        return without_load(row.variant.device, self.params, *astuple(fault or unserved))


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
