"""Put the results of a variant's processes together: the gate, the proofs, and the figures of each batch size."""

from __future__ import annotations

from bench.core.params import Params, Tolerances, Variant
from bench.core.paths import EVALUATION
from bench.core.reports import AnyCell, Cell, Report, TimedCell
from bench.inputs.encoded import load_reference
from bench.timing.evidence import contradiction, kernel_contradiction, proof_mark
from bench.timing.latencies import summarize_latencies
from bench.timing.quality import accuracy_fault, gate_verdict, reference_spread, tolerances
from bench.timing.results import ProcessResult


def combine(variant: Variant, params: Params, results: list[ProcessResult], is_real: bool) -> Report:
    """Put the processes' results, each with its `round`, together and pass every batch size through the gate."""
    spread = reference_spread(load_reference(EVALUATION))
    gate = params.quality[variant.precision]
    limits = tolerances(gate, is_real)
    cells = {str(size): _combine_cell(variant, limits, size, results, spread) for size in params.sizes(variant.device)}
    first = results[0]
    fault = accuracy_fault(first.accuracy, gate)
    if fault:
        cells = {size: _rejected(cell, fault) for size, cell in cells.items()}
    return Report(cells=cells, evidence=first.evidence, accuracy=first.accuracy, processes=[*results])


def _rejected(cell: AnyCell, reason: str) -> AnyCell:
    """Return a cell of a row whose accuracy is too low; one that was rejected before keeps its reason."""
    return cell.model_copy(update={"status": "rejected", "reason": reason}) if cell.status == "measured" else cell


def _combine_cell(
    variant: Variant, limits: Tolerances, size: int, results: list[ProcessResult], spread: float
) -> AnyCell:
    cells = [result.cells[size] for result in results]
    for cell in cells:
        if cell.status != "measured":
            return Cell(status=cell.status, reason=cell.reason)
    first = cells[0]
    latencies_ms = [[ns / 1e6 for ns in cell.latencies_ns] for cell in cells]
    figures, reason = gate_verdict([cell.comparison for cell in cells if cell.comparison], spread, limits)
    evidence = results[0].evidence
    reason = contradiction(variant, evidence) or kernel_contradiction(variant, first.profile) or reason
    own_mib = [cell.gpu_mib for cell in cells if cell.gpu_mib is not None]
    assert first.work is not None
    return TimedCell(
        status="rejected" if reason else "measured",
        reason=reason,
        **summarize_latencies(latencies_ms, size),
        rounds=[result.round for result in results],
        work=first.work,
        runs=sum(map(len, latencies_ms)),
        process_runs=[len(process) for process in latencies_ms],
        gpu_mib=max(own_mib) if len(own_mib) == len(cells) else None,
        **figures,
        proof=proof_mark(variant, evidence, first.profile),
        profile=first.profile,
        operators=first.operators,
        host_loop_ms=[value for cell in cells for value in cell.host_loop_ms],
        other_load_cores=max(cell.other_load_cores for cell in cells),
        quota_throttled_seconds=sum(cell.quota_throttled_seconds for cell in cells),
        latencies_ms=latencies_ms,
        gpu=[cell.gpu for cell in cells if cell.gpu],
    )
