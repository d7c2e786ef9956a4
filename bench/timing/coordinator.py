"""Time rows together: the first timing stage of a `dvc repro` runs the rounds, the later ones take their report."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from bench.core.files import remove
from bench.core.params import Params
from bench.core.paths import ROUNDS
from bench.core.reports import Report
from bench.core.schemas import read_provenance
from bench.machine.lock import timing_lock
from bench.timing.participants import choose_participants, recorded_digest, report_without_runs
from bench.timing.repro import Place, Request, Waiting, current_request, stage_name
from bench.timing.results import announce, write_report
from bench.timing.timing_rounds import TimingRounds


def time_variant(key: str, params: Params) -> None:
    """Time a variant and write its samples and its report: measured in rounds, `off`, or `skipped` with the reason.

    `failed`, with the reason, if a worker of this variant dies or hangs, an engine is not this machine's, or a TensorRT
    session built one anew.  WorkerError if what it is timed with was edited meanwhile.
    """
    place = _place(key, params)
    digest = place.digest
    report = report_without_runs(key, place.variant, params)
    if report is None:
        request = current_request()
        report = place.take(recorded_digest(key), request, lambda: _run(key, params, request))
    remove(place.path)  # taken, or out of date
    write_report(key, report.model_copy(update={"fingerprint": digest}))
    announce(key, report)


def _place(key: str, params: Params) -> Place[Report]:
    variant = params.all_variants()[key]
    path = ROUNDS / variant.device / f"{key}.json"
    return Place(key, variant, stage_name(variant), path, Waiting[Report], ("times", "timed"))


def _run(asked: str, params: Params, request: Request) -> None:
    """Time `asked` and all that goes with it; leave each variant's report where its stage takes it."""
    participants = choose_participants(asked, params, request)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch, timing_lock():
        began = time.time()
        rounds = TimingRounds(participants, params, read_provenance(), Path(scratch), seed=int(began))
        timed = rounds.run()
        outcomes = {row.key: rounds.outcome(row, timed.results[row.name]) for row in participants if row.is_reported}
        session = rounds.record(timed, began)
    for key, outcome in outcomes.items():
        _place(key, params).leave(outcome.model_copy(update={"session": session}), request)
