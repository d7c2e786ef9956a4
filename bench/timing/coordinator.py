"""Time a variant: the first timing stage of a `dvc repro` runs the passes, the later ones take their report."""

from typing import Any

from bench.core.files import in_one_line
from bench.core.params import Params, Variant
from bench.core.paths import ARTIFACTS, ENGINES
from bench.core.reports import Cell, Report
from bench.core.schemas import Status, read_environment
from bench.core.staleness import reason_not_made
from bench.machine.can_run import reason_to_skip
from bench.timing.repro import current_request, timed_place
from bench.timing.results import announce, write_report
from bench.workers.engines import misfit, read_record


def time_variant(key: str, params: Params) -> None:
    """Time a variant and write its samples and report; WorkerError if what it is timed with was edited meanwhile."""
    variant, request = params.variant(key), current_request()

    def run() -> None:
        from bench.timing.group import time_together  # what statistics cost to import, no stage pays that only takes

        time_together(key, params, request)

    report = timed_place(key, variant).take(report_without_runs(key, variant, params), request, run)
    write_report(key, report)
    announce(key, report)


def without_runs(variant: Variant, params: Params, status: Status, reason: str = "") -> Report:
    """Return the report of a variant that was not run: every batch size has this status, `failed` in one line."""
    cell, failure = Cell(status=status, reason=reason), reason if status == "failed" else ""
    if failure:
        cell = Cell(status=status, reason=in_one_line(failure))
    return Report(cells={str(size): cell for size in params.sizes(variant.device)}, processes=[], failure=failure)


def report_without_runs(key: str, variant: Variant, params: Params) -> Report | None:
    """Return the report of a variant that, as is known before any run, cannot be timed; None if it can be tried."""
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
    if record.status != "built":
        return without_runs(variant, params, record.status, record.reason)
    failure = misfit(key, record, environment)
    return without_runs(variant, params, "failed", failure) if failure else None
