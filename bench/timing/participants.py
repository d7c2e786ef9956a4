"""The rows that one set of rounds times: those that were asked for, and what they are compared through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bench.core.errors import BenchError, DataError
from bench.core.files import read_model, shortened
from bench.core.params import Params, Variant
from bench.core.paths import ARTIFACTS, ENGINES, SAMPLES
from bench.core.reports import Cell, Report
from bench.core.schemas import Status, read_environment
from bench.core.staleness import reason_not_made
from bench.machine.can_run import reason_to_skip
from bench.timing.repro import Request, is_due, stage_name
from bench.timing.rounds import Row
from bench.workers.engines import misfit, read_record

AA_ROW = "a/a"
"""The name of the A/A row, the baseline's second one in the rounds: no variant's key can hold a slash."""
REASON = 300
"""Characters of a failure that its row repeats; all of it is told at the end."""


@dataclass(frozen=True)
class Participant(Row):
    """One row of the rounds: a variant that is reported, or an anchor or the A/A row, to compare others through."""

    is_reported: bool


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
    if not params.precisions[variant.precision]:
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


def choose_participants(asked: str, params: Params, request: Request) -> list[Participant]:
    """Return the rows to time together with `asked`: what this `dvc repro` times anyway, the A/A row, and anchors.

    The A/A row is the device's baseline once more.  Where the baseline itself, or rows that are not timed now, stay as
    they are, the baseline and the fastest of these are timed beside: through them the others can be compared.
    """
    device = params.all_variants()[asked].device
    runnable = {
        key: variant
        for key, variant in params.all_variants().items()
        if variant.device == device and (key == asked or _can_run(key, variant, params))
    }
    chosen = [
        key
        for key, variant in runnable.items()
        if key == asked or is_due(key, variant, stage_name(variant), recorded_digest, request)
    ]
    participants = [Participant(key, key, runnable[key], is_reported=True) for key in chosen]
    baseline = params.baselines.get(device)
    others = {key: variant for key, variant in runnable.items() if key not in chosen}
    anchors = {key for key in (baseline, _fastest(others, params)) if key in others}
    participants += [Participant(f"anchor/{key}", key, runnable[key], is_reported=False) for key in sorted(anchors)]
    if baseline in runnable:
        participants.append(Participant(AA_ROW, baseline, runnable[baseline], is_reported=False))
    return participants


def _can_run(key: str, variant: Variant, params: Params) -> bool:
    """Tell whether a row can be timed beside the one that was asked for; its own stage says what is wrong with it."""
    try:
        return report_without_runs(key, variant, params) is None
    except BenchError:
        return False


def read_report(key: str) -> Report | None:
    """Return a variant's last report, None where there is none that can be read."""
    try:
        return read_model(SAMPLES / f"{key}.json", "", Report)
    except DataError:
        return None


def recorded_digest(key: str) -> str:
    """Return what the variant's last report was timed with, empty where there is none."""
    report = read_report(key)
    return report.fingerprint if report else ""


def _fastest(variants: dict[str, Variant], params: Params) -> str | None:
    """Return the variant with the lowest recorded p50 at the largest batch size, None where none is recorded."""
    p50_ms: dict[str, float] = {}
    for key, variant in variants.items():
        report = read_report(key)
        cell = report.measured().get(str(max(params.sizes(variant.device)))) if report else None
        if cell:
            p50_ms[key] = cell.p50_ms
    return min(p50_ms, key=lambda key: p50_ms[key], default=None)
