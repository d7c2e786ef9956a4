"""Serve rows together: the first serving stage of a `dvc repro` runs the rounds, the later ones take their part.

As in `bench.timing.coordinator`; a row whose processes were all run keeps its part if the rest is interrupted.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from bench.core.errors import BenchError, WorkerError
from bench.core.files import read_model, remove, write_json
from bench.core.params import Params, Variant
from bench.core.paths import SERVED, SERVED_PARTS
from bench.core.progress import log
from bench.core.reports import NoopProcess, Report, Served, ServingSession, Stored, rate_text
from bench.core.schemas import Status, read_environment, read_provenance
from bench.machine.lock import timing_lock
from bench.serving.jobs import least_queries
from bench.serving.search import Grid, expected_rate
from bench.serving.serving_rounds import ServedVariant, ServingRounds, without_load
from bench.timing.digest import Request, current_request, variant_digest
from bench.timing.participants import read_report

STAGE = "serve"
LOADGEN = "mlcommons_loadgen"
NO_LOADGEN = (
    "mlcommons-loadgen is not installed; there are wheels for Linux and Windows on x86-64 and macOS on arm64, "
    "for Python 3.11 to 3.13"
)
LOWEST_STATUS: tuple[Status, ...] = ("measured", "out_of_memory", "rejected", "failed", "skipped", "off")
"""Of the batch sizes of a row, the first of these that one has says why it is not served."""


class WaitingServed(Stored):
    """artifacts/rounds/serve/KEY.json: a report, the repro that it is of, and what it was served with."""

    fingerprint: str
    request: str
    report: Served


def serve_variant(key: str, params: Params) -> None:
    """Serve a variant and write artifacts/served/KEY.json; see `served_report`."""
    report = served_report(key, params)
    write_json(SERVED / f"{key}.json", report.as_dict())
    said = f": {report.reason}" if report.reason else ""
    log(f"  {key} under load: {report.status}{said}")


def served_report(key: str, params: Params) -> Served:
    """Return what a variant held under load, or why it was not served.

    WorkerError if what it is served with was edited meanwhile.
    """
    variant = params.all_variants()[key]
    request = current_request()
    digest = variant_digest(key, variant, STAGE)
    found = row_of(key, params)
    if isinstance(found, ServedVariant):
        is_new = request.is_forced or _recorded(key) == digest
        part = _take(key, digest, request.id if is_new else None)
        if part is None:
            _run(key, params, request)
            part = _take(key, digest, None)
        if part is None:
            raise WorkerError(f"{key}: what it is served with changed while it was served: `dvc repro` serves it again")
        found = part.report
    remove(_place(key))
    return found.model_copy(update={"fingerprint": digest})


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
    return ServedVariant(key, variant, Grid(rate), most)


def _why_not_timed(report: Report | None) -> tuple[Status, str]:
    """Return the status of a row without times, and the reason."""
    for status in LOWEST_STATUS:
        for cell in report.cells.values() if report else ():
            if cell.status == status:
                return status, f"not timed: {cell.reason}" if cell.reason else ""
    raise BenchError("no figures of the closed loop: `dvc repro` times the row first")


def _place(key: str) -> Path:
    return SERVED_PARTS / f"{key}.json"


def _recorded(key: str) -> str:
    path = SERVED / f"{key}.json"
    if not path.is_file():
        return ""
    return read_model(path, f"`dvc repro -f serve@{key}` serves it again", Served).fingerprint


def _take(key: str, digest: str, request_id: str | None) -> WaitingServed | None:
    """Return the part that waits for a variant, if it was served with what the variant is now (in that repro)."""
    if not _place(key).is_file():
        return None
    part = read_model(_place(key), "remove it, then `dvc repro`", WaitingServed)
    is_of_repro = request_id is None or (request_id and part.request == request_id)
    return part if part.fingerprint == digest and is_of_repro else None


def _run(asked: str, params: Params, request: Request) -> None:
    """Serve `asked` and all rows of its device that this `dvc repro` serves anyway; leave each one's part."""
    rows = _rows(asked, params, request)
    provenance = read_provenance()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch, timing_lock():
        began = time.time()
        rounds = ServingRounds(
            rows,
            params,
            provenance.get("task", "single_label"),
            bool(provenance["model_is_real"]),
            Path(scratch),
            int(began),
        )
        null: NoopProcess | None = None
        try:
            rounds.run()
            null = rounds.noop
        finally:
            session = ServingSession(id=f"{began:.3f}", seed=int(began), null=null)
            for row in rows:
                _leave(row, rounds, session, params, request)


def _leave(
    row: ServedVariant, rounds: ServingRounds, session: ServingSession, params: Params, request: Request
) -> None:
    """Write the part of a row that was served in all rounds, or is known not to be."""
    results = rounds.results[row.key]
    is_done = len(results) == params.serving.processes or any(not result.is_measured() for result in results)
    if not is_done:
        return
    closed_loop = {"closed_loop_per_s": row.closed_loop_per_s, "expected_per_s": row.grid.first}
    report = rounds.outcome(row).model_copy(update={**closed_loop, "session": session})
    part = WaitingServed(fingerprint=variant_digest(row.key, row.variant, STAGE), request=request.id, report=report)
    write_json(_place(row.key), part.as_dict())


def _rows(asked: str, params: Params, request: Request) -> list[ServedVariant]:
    """Return the rows to serve together with `asked`: those of its device that this `dvc repro` serves anyway."""
    device = params.all_variants()[asked].device
    chosen: list[ServedVariant] = []
    for key in params.serving.variants:
        variant = params.all_variants()[key]
        if variant.device == device and (key == asked or _is_due(key, variant, request)):
            found = row_of(key, params)
            chosen += [found] if isinstance(found, ServedVariant) else []
    return chosen


def _is_due(key: str, variant: Variant, request: Request) -> bool:
    if not request.includes((STAGE, f"{STAGE}@{key}")):
        return False
    return request.is_forced or _recorded(key) != variant_digest(key, variant, STAGE)
