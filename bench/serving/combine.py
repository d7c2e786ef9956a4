"""Put the results of a row's serving processes together: the gate, the proofs, and the loads that were tried."""

from __future__ import annotations

from typing import Any

from bench.core.params import Params, Variant
from bench.core.paths import EVALUATION
from bench.inputs.encoded import load_reference
from bench.proof.evidence import contradiction
from bench.proof.quality import Comparison, gate_verdict, reference_spread, tolerances

Report = dict[str, Any]
KEPT = (
    "process",
    "points",
    "single_stream",
    "offline",
    "shapes",
    "late_captures",
    "peak_host_mib",
    "gpu_mib",
    "turn_unix_ns",
)


def without_load(status: str, reason: str = "") -> Report:
    """Return the report of a row that was not served."""
    return {"status": status, **({"reason": reason} if reason else {}), "processes": []}


def combine(variant: Variant, params: Params, results: list[dict[str, Any]], is_real: bool) -> Report:
    """Put the processes' results together; `rejected` if an answer under load was wrong, missing or another's."""
    loads = [load for result in results for load in _loads(result)]
    comparisons = [_comparison(load["comparison"]) for load in loads]
    spread = reference_spread(load_reference(EVALUATION))
    limits = tolerances(params.quality[variant.precision], is_real)
    figures, reason = gate_verdict(comparisons, spread, limits)
    reason = contradiction(variant, results[0]["evidence"]) or reason or _mixed_up(loads)
    return {
        "status": "rejected" if reason else "measured",
        **({"reason": reason} if reason else {}),
        **figures,
        "requests": sum(load["queries"] for load in loads),
        "replayed_batches": sum(load["replayed"]["batches"] for load in loads),
        "processes": [_without_checks(result) for result in results],
    }


def _loads(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [result["single_stream"], result["offline"], *result["points"]]


def _mixed_up(loads: list[dict[str, Any]]) -> str:
    """Return what is wrong with who got which answer; empty if nothing is."""
    faults = [load["unanswered"] or load["replayed"].get("fault", "") for load in loads]
    return next((fault for fault in faults if fault), "")


def _comparison(recorded: dict[str, Any]) -> Comparison:
    difference = recorded["max_abs_diff"]
    return Comparison(**{**recorded, "max_abs_diff": float("inf") if difference is None else difference})


CHECKS = ("comparison", "unanswered", "replayed")


def _without_checks(result: dict[str, Any]) -> dict[str, Any]:
    """Return what is kept of a process; what its answers were checked for is told of all together."""
    kept = {name: result[name] for name in KEPT if name in result}
    for name in ("single_stream", "offline"):
        kept[name] = _figures(kept[name])
    return {**kept, "points": [_figures(point) for point in kept["points"]]}


def _figures(load: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in load.items() if name not in CHECKS}
