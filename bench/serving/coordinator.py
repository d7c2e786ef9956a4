"""Serve rows together: the first serving stage of a `dvc repro` runs the rounds, the later ones take their report.

A row whose processes were all run keeps its report if the rest is interrupted.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from bench.core.errors import BenchError
from bench.core.files import read_model, remove, write_json
from bench.core.params import Params, Variant
from bench.core.paths import SERVED, SERVED_PARTS
from bench.core.progress import log
from bench.core.reports import NoopProcess, Report, Served, ServingSession, rate_text
from bench.core.schemas import Status, read_environment, read_provenance
from bench.machine.lock import timing_lock
from bench.serving.jobs import least_queries
from bench.serving.search import Grid, expected_rate
from bench.serving.serving_rounds import ServedVariant, ServingRounds, without_load
from bench.timing.participants import read_report
from bench.timing.repro import Place, Request, Waiting, current_request, is_due

STAGE = "serve"
LOADGEN = "mlcommons_loadgen"
NO_LOADGEN = (
    "mlcommons-loadgen is not installed; there are wheels for Linux and Windows on x86-64 and macOS on arm64, "
    "for Python 3.11 to 3.13"
)
LOWEST_STATUS: tuple[Status, ...] = ("measured", "out_of_memory", "rejected", "failed", "skipped", "off")
"""Of the batch sizes of a row, the first of these that one has says why it is not served."""


def serve_variant(key: str, params: Params) -> None:
    """Serve a variant and write artifacts/served/KEY.json; see `served_report`."""
    report = served_report(key, params)
    write_json(SERVED / f"{key}.json", report.as_dict())
    log(f"  {key} under load: {report.status}{': ' + report.reason if report.reason else ''}")


def served_report(key: str, params: Params) -> Served:
    """Return what a variant sustained under load, or why it was not served.

    WorkerError if what it is served with was edited meanwhile.
    """
    place = _place(key, params.all_variants()[key])
    digest = place.digest
    report = row_of(key, params)
    if isinstance(report, ServedVariant):
        request = current_request()
        report = place.take(_recorded(key), request, lambda: _run(key, params, request))
    remove(place.path)  # taken, or out of date
    return report.model_copy(update={"fingerprint": digest})


def row_of(key: str, params: Params) -> ServedVariant | Served:
    """Return a variant as it can be served, or the report of one that, as is known before any load, cannot be."""
    variant = params.all_variants()[key]
    serving, device = params.serving, variant.device
    report = read_report(key)
    measured = {int(size): cell for size, cell in report.measured().items()} if report else {}
    if not any(size <= serving.max_batch[device] for size in measured):
        return without_load(variant, params, *_why_not_timed(report))
    if read_environment()["versions"].get(LOADGEN) is None:
        return without_load(variant, params, "skipped", NO_LOADGEN)
    mean_ms = {size: cell.mean_ms for size, cell in measured.items()}
    budget_ms = serving.p99_ms[device]
    rate = expected_rate(mean_ms, serving.max_batch[device], budget_ms)
    alone_ms = mean_ms[min(mean_ms)]
    if not rate:
        reason = f"holds no rate within {budget_ms:g} ms: a request alone takes {alone_ms:.2f} ms"
        return without_load(variant, params, "over_budget", reason)
    seconds = least_queries(serving) / rate
    if seconds > serving.max_seconds:
        reason = (
            f"too slow to be tried: it should hold about {rate_text(rate)} requests/s, of which a process needs "
            f"{least_queries(serving)}: {seconds:.0f} s, more than serving.max_seconds = {serving.max_seconds:g}"
        )
        return without_load(variant, params, "skipped", reason)
    most = max(cell.samples_per_s for size, cell in measured.items() if size <= serving.max_batch[device])
    return ServedVariant(key, key, variant, Grid(rate), most)


def _why_not_timed(report: Report | None) -> tuple[Status, str]:
    for status in LOWEST_STATUS:
        for cell in report.cells.values() if report else ():
            if cell.status == status:
                return status, f"not timed: {cell.reason}" if cell.reason else ""
    raise BenchError("no figures of the closed loop: `dvc repro` times the row first")


def _place(key: str, variant: Variant) -> Place[Served]:
    return Place(key, variant, STAGE, SERVED_PARTS / f"{key}.json", Waiting[Served], ("serves", "served"))


def _recorded(key: str) -> str:
    path = SERVED / f"{key}.json"
    if not path.is_file():
        return ""
    return read_model(path, f"`dvc repro -f serve@{key}` serves it again", Served).fingerprint


def _run(asked: str, params: Params, request: Request) -> None:
    """Serve `asked` and all rows of its device that this `dvc repro` serves anyway; leave each one's report."""
    rows = _rows(asked, params, request)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch, timing_lock():
        began = time.time()
        rounds = ServingRounds(rows, params, read_provenance(), Path(scratch), int(began))
        noop: NoopProcess | None = None
        try:
            noop = rounds.run()
        finally:
            session = ServingSession(id=f"{began:.3f}", seed=int(began), null=noop)
            for row in rows:
                results = rounds.results[row.name]
                if len(results) == params.serving.processes or any(not result.is_measured() for result in results):
                    closed_loop = {"closed_loop_per_s": row.closed_loop_per_s, "expected_per_s": row.grid.first}
                    report = rounds.outcome(row).model_copy(update={**closed_loop, "session": session})
                    _place(row.key, row.variant).leave(report, request)


def _rows(asked: str, params: Params, request: Request) -> list[ServedVariant]:
    variants = {key: params.all_variants()[key] for key in params.serving.variants}
    device = params.all_variants()[asked].device
    found = [
        row_of(key, params)
        for key, variant in variants.items()
        if variant.device == device and (key == asked or is_due(key, variant, STAGE, _recorded, request))
    ]
    return [row for row in found if isinstance(row, ServedVariant)]
