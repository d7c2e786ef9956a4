"""Put the results of a variant's processes together: the gate, the proofs, and the figures of each batch size."""

from __future__ import annotations

from typing import Any

from bench.core.params import Params, Tolerances, Variant
from bench.core.paths import EVALUATION
from bench.inputs.encoded import load_reference
from bench.proof.evidence import contradiction, kernel_contradiction, proof_mark
from bench.proof.quality import Comparison, accuracy_fault, gate_verdict, reference_spread, tolerances
from bench.timing.latencies import summarize_latencies

Report = dict[str, Any]
PROCESS_FIGURES = (
    "round",
    "load_seconds",
    "start_seconds",
    "first_run_ms",
    "peak_host_mib",
    "peak_gpu_mib",
    "warm_up_gpu_mib",
    "turn_unix_ns",
)


def combine(variant: Variant, params: Params, results: list[dict[str, Any]], is_real: bool) -> Report:
    """Put the processes' results, each with its `round`, together and pass every batch size through the gate."""
    spread = reference_spread(load_reference(EVALUATION))
    gate = params.quality[variant.precision]
    limits = tolerances(gate, is_real)
    cells = {str(size): _combine_cell(variant, limits, size, results, spread) for size in params.sizes(variant.device)}
    first = results[0]
    fault = accuracy_fault(first.get("accuracy"), gate)
    if fault:
        cells = {size: _rejected(cell, fault) for size, cell in cells.items()}
    return {
        "cells": cells,
        "evidence": first.get("evidence", {}),
        "accuracy": first.get("accuracy"),
        "processes": [_process_figures(result) for result in results],
    }


def _process_figures(result: dict[str, Any]) -> dict[str, Any]:
    return {name: result[name] for name in PROCESS_FIGURES if name in result}


def _rejected(cell: Report, reason: str) -> Report:
    """Return a cell of a row whose accuracy is too low; one that was rejected before keeps its reason."""
    return {**cell, "status": "rejected", "reason": reason} if cell["status"] == "measured" else cell


def _combine_cell(
    variant: Variant, limits: Tolerances, size: int, results: list[dict[str, Any]], spread: float
) -> Report:
    cells = [result["cells"][str(size)] for result in results]
    for cell in cells:
        if cell["status"] != "measured":
            return {"status": cell["status"], "reason": cell["reason"]}
    latencies_ms = [[ns / 1e6 for ns in cell["latencies_ns"]] for cell in cells]
    comparisons = [_comparison(cell["comparison"]) for cell in cells]
    figures, reason = gate_verdict(comparisons, spread, limits)
    evidence, profile = results[0].get("evidence", {}), cells[0].get("profile")
    reason = contradiction(variant, evidence) or kernel_contradiction(variant, profile) or reason
    return {
        "status": "rejected" if reason else "measured",
        **({"reason": reason} if reason else {}),
        **summarize_latencies(latencies_ms, size),
        "rounds": [result["round"] for result in results],
        "work": cells[0]["work"],
        "runs": sum(map(len, latencies_ms)),
        "process_runs": [len(process) for process in latencies_ms],
        **({"gpu_mib": max(cell["gpu_mib"] for cell in cells)} if all("gpu_mib" in cell for cell in cells) else {}),
        **figures,
        "proof": proof_mark(variant, evidence, profile),
        **({"profile": profile} if profile else {}),
        **({"operators": cells[0]["operators"]} if "operators" in cells[0] else {}),
        "host_loop_ms": [value for cell in cells for value in cell.get("host_loop_ms", [])],
        "other_load_cores": max(cell["other_load_cores"] for cell in cells),
        "quota_throttled_seconds": sum(cell["quota_throttled_seconds"] for cell in cells),
        "latencies_ms": latencies_ms,
        "gpu": [cell["gpu"] for cell in cells if "gpu" in cell],
    }


def _comparison(recorded: dict[str, Any]) -> Comparison:
    diff = recorded["max_abs_diff"]
    return Comparison(**{**recorded, "max_abs_diff": float("inf") if diff is None else diff})
