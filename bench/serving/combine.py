"""Put the results of a row's serving processes together: the gate, the proofs, and the loads that were tried."""

from __future__ import annotations

from bench.core.params import Params, Variant
from bench.core.paths import EVALUATION
from bench.core.reports import Served
from bench.core.schemas import ServingStatus
from bench.inputs.encoded import load_reference
from bench.serving.results import Check, ServingResult
from bench.timing.evidence import contradiction
from bench.timing.quality import gate_verdict, reference_spread, tolerances


def without_load(variant: Variant, params: Params, status: ServingStatus, reason: str = "") -> Served:
    """Return the report of a row that was not served."""
    serving, device = params.serving, variant.device
    return Served(
        status=status,
        reason=reason,
        processes=[],
        budget_ms=serving.p99_ms[device],
        max_batch=serving.max_batch[device],
        max_delay_ms=serving.max_delay_ms,
        instances=serving.instances,
    )


def combine(variant: Variant, params: Params, results: list[ServingResult], is_real: bool) -> Served:
    """Put the processes' results together; `rejected` if an answer under load was wrong, missing or another's."""
    checks = [check for result in results for check in result.checks]
    processes = [result.as_process() for result in results]
    loads = [load for each in processes for load in (each.single_stream, each.offline, *each.points)]
    spread = reference_spread(load_reference(EVALUATION))
    limits = tolerances(params.quality[variant.precision], is_real)
    figures, reason = gate_verdict([check.comparison for check in checks], spread, limits)
    reason = contradiction(variant, results[0].evidence) or reason or _mixed_up(checks)
    found = {
        **figures,
        "requests": sum(load.queries for load in loads),
        "replayed_batches": sum(check.replayed.batches for check in checks),
        "processes": processes,
    }
    return without_load(variant, params, "rejected" if reason else "measured", reason).model_copy(update=found)


def _mixed_up(checks: list[Check]) -> str:
    """Return what is wrong with who got which answer; empty if nothing is."""
    return next((fault for check in checks if (fault := check.unanswered or check.replayed.fault)), "")
