"""Measure a TensorRT variant with the engines that were built for it, and with no other."""

from __future__ import annotations

from bench.core.errors import WorkerError
from bench.core.params import Params, Variant
from bench.core.paths import ENGINES
from bench.core.provenance import read_environment
from bench.engines.folders import check_fits, engine_copy, read_record
from bench.timing.combine import Report
from bench.timing.variant_run import report_variant, report_without_runs, without_runs


def report_engine_variant(key: str, variant: Variant, params: Params, *, is_real: bool, profile: bool = True) -> Report:
    """Return a TensorRT variant's report; see `report_variant`.

    Raises EngineError if the engine is not this machine's, or if a session built one anew: nothing of the variant is
    written then.  INT8 may die: some versions of TensorRT build such engines, and the row is `rejected`.
    """
    report = report_without_runs(variant, params)
    if report:
        return report
    record = read_record(ENGINES / key)
    if record["status"] in ("skipped", "rejected"):
        return without_runs(params, record["status"], record["reason"])
    check_fits(key, record, read_environment())
    try:
        with engine_copy(key, ENGINES / key / record["folder"]) as engine:
            report = report_variant(key, variant, params, is_real=is_real, profile=profile, engine=engine)
    except WorkerError as problem:
        if variant.precision != "int8":
            raise
        report = without_runs(params, "rejected", f"its INT8 engine does not run: {problem.last_words()}")
    return {**report, "engine": record}
