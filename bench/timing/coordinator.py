"""Time rows together: the first timing stage of a `dvc repro` runs the rounds, the later ones take their part.

Parts lie in artifacts/rounds until their stage takes them, each with the hash of what it was timed with and the repro
that it belongs to.  A part is taken once, so that old timings never come back.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from bench.core.errors import WorkerError
from bench.core.files import read_model, remove, write_json
from bench.core.params import Params, Variant
from bench.core.paths import ROUNDS
from bench.core.reports import Report, Stored
from bench.core.schemas import read_provenance
from bench.machine.lock import timing_lock
from bench.timing.digest import Request, current_request, variant_digest
from bench.timing.participants import choose_participants, recorded_digest, report_without_runs
from bench.timing.results import announce, write_report
from bench.timing.timing_rounds import TimingRounds


class WaitingReport(Stored):
    """artifacts/rounds/DEVICE/KEY.json: a report, the repro that it is of, and what it was timed with."""

    fingerprint: str
    request: str
    report: Report


def time_variant(key: str, params: Params) -> None:
    """Time a variant and write its samples and its report; see `timed_report`."""
    report = timed_report(key, params, provenance=read_provenance())
    write_report(key, report)
    announce(key, report)


def timed_report(key: str, params: Params, provenance: dict[str, Any]) -> Report:
    """Return a variant's report: measured on this machine in rounds, `off`, or `skipped` with the reason.

    `failed`, with the reason, if a worker of this variant dies or hangs, an engine is not this machine's, or a TensorRT
    session built one anew.  WorkerError if what it is timed with was edited meanwhile.
    """
    variant = params.all_variants()[key]
    request = current_request()
    digest = variant_digest(key, variant)
    report = report_without_runs(key, variant, params)
    if report is None:
        is_new = request.is_forced or recorded_digest(key) == digest
        part = _take(key, variant, digest, request.id if is_new else None)
        if part is None:
            _run(key, params, provenance, request)
            part = _take(key, variant, digest, None)
        if part is None:
            raise WorkerError(f"{key}: what it is timed with changed while it was timed: `dvc repro` times it again")
        report = part.report
    remove(_place(key, variant))
    return report.model_copy(update={"fingerprint": digest})


def _place(key: str, variant: Variant) -> Path:
    return ROUNDS / variant.device / f"{key}.json"


def _take(key: str, variant: Variant, digest: str, request_id: str | None) -> WaitingReport | None:
    """Return the part that waits for a variant, if it was timed with what the variant is now (in that repro)."""
    path = _place(key, variant)
    if not path.is_file():
        return None
    part = read_model(path, "remove it, then `dvc repro`", WaitingReport)
    is_of_repro = request_id is None or (request_id and part.request == request_id)
    return part if part.fingerprint == digest and is_of_repro else None


def _run(asked: str, params: Params, provenance: dict[str, Any], request: Request) -> None:
    """Time `asked` and all that goes with it; leave each variant's part where its stage takes it."""
    participants = choose_participants(asked, params, request)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch, timing_lock():
        began = time.time()
        session = TimingRounds(participants, params, provenance, Path(scratch), seed=int(began))
        rounds = session.run()
        outcomes = {
            each.key: session.outcome(each, rounds.results[each.name]) for each in participants if each.is_reported
        }
        together = session.record(rounds, began)
    for key, outcome in outcomes.items():
        variant = params.all_variants()[key]
        report = outcome.model_copy(update={"session": together})
        part = WaitingReport(fingerprint=variant_digest(key, variant), request=request.id, report=report)
        write_json(_place(key, variant), part.as_dict())
