"""From what the processes of a row hand over to the report of the variant: the gate, the proofs, and the figures.

p50 and mean are the geometric means over passes of the blocks' medians and means, p95 is of all calls: intervals,
speed-ups and ranks are made of the same figures (bench/statistics/blocks.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from bench.core.files import write_json, write_text
from bench.core.params import Params, Tolerances, Variant
from bench.core.paths import SAMPLES
from bench.core.progress import log
from bench.core.reports import AnyCell, Cell, Evidence, GpuReading, Labels, Process, Profile, Report, TimedCell, Work
from bench.core.schemas import Status
from bench.timing.evidence import contradiction, kernel_contradiction, proof_mark
from bench.timing.quality import Comparison, accuracy_fault, gate_verdict, tolerances

MIN_RUNS_FOR_P95 = 20
"""Below this, no call at all lies beyond the 95th percentile: 0.05 * 20 = 1."""
MOST_PARTS = 12


@dataclass(frozen=True)
class Block:
    """The latencies of one block of a process, in pass `number`."""

    process: int
    number: int
    latencies_ns: list[int] = field(default_factory=list)


class CellResult(BaseModel):
    """What one process knows of a batch size; without work, with the reason, where memory ran out."""

    status: Status
    reason: str = ""
    work: Work | None = None
    comparison: Comparison | None = None
    gpu: GpuReading | None = None
    gpu_runs: int | None = None
    gpu_mib: float | None = None
    profile: Profile | None = None
    operators: dict[str, float] = {}


class ProcessResult(Process):
    """One process of a variant; `cells` by batch size."""

    model_config = ConfigDict(strict=False)

    status: Status
    reason: str = ""
    cells: dict[int, CellResult] = Field(default_factory=dict)
    evidence: Evidence = Evidence()
    accuracy: Labels | None = None
    is_accuracy_taken: bool = False
    """Whether `accuracy` is of the whole draw, or of what `timing.accuracy_seconds` let it classify, not of blocks."""


def combine(
    variant: Variant, params: Params, blocks: dict[int, list[Block]], every: list[ProcessResult], is_real: bool
) -> Report:
    """Pass every batch size of a row through the gate; `every`: its processes, one that ran alone at the end.

    The gate also judges labels of the sentences that blocks met; as a row's accuracy these would stand beside others'
    of all sentences.
    """
    gate = params.quality[variant.precision]
    limits = tolerances(gate, is_real)
    sizes = params.sizes(variant.device)
    cells = {str(size): _combine_cell(variant, limits, size, blocks.get(size, []), every) for size in sizes}
    judged = next((result for result in reversed(every) if result.accuracy), None)
    if fault := accuracy_fault(judged.accuracy if judged else None, gate):
        rejected = {"status": "rejected", "reason": fault}
        cells |= {n: cell.model_copy(update=rejected) for n, cell in cells.items() if cell.status == "measured"}
    accuracy = judged.accuracy if judged and judged.is_accuracy_taken else None
    return Report(cells=cells, evidence=every[-1].evidence, accuracy=accuracy, processes=[*every])


def _combine_cell(
    variant: Variant, limits: Tolerances, size: int, blocks: list[Block], every: list[ProcessResult]
) -> AnyCell:
    first = every[0].cells[size]
    if first.status != "measured":
        return Cell(status=first.status, reason=first.reason)
    if not blocks:
        return Cell(status="skipped", reason="no block of it was run in timing.minutes")
    cells = [cell for result in every if (cell := result.cells.get(size)) and cell.status == "measured"]
    last = cells[-1]
    figures, reason = gate_verdict([cell.comparison for cell in cells if cell.comparison], limits)
    contradicted = next((fault for result in every if (fault := contradiction(variant, result.evidence))), "")
    reason = contradicted or kernel_contradiction(variant, last.profile) or reason
    assert first.work is not None
    return TimedCell(
        status="rejected" if reason else "measured",
        reason=reason,
        **figures_of(blocks, size),
        work=first.work,
        **figures,
        proof=proof_mark(variant, every[-1].evidence, last.profile),
        **{name: getattr(last, name) for name in ("gpu", "gpu_runs", "gpu_mib", "profile", "operators")},
    )


def block_times(blocks: Sequence[Block]) -> dict[str, Any]:
    """Return the fields of BlockTimes."""
    own = [np.asarray(block.latencies_ns) / 1e6 for block in blocks]
    return {
        "passes": [block.number for block in blocks],
        "processes": [block.process for block in blocks],
        "block_p50_ms": [float(np.median(ms)) for ms in own],
        "block_mean_ms": [float(ms.mean()) for ms in own],
    }


def figures_of(blocks: Sequence[Block], batch_size: int) -> dict[str, Any]:
    """Return the figures of a cell and what they are made of; p95 only from calls enough.

    p50 and mean: geometric means over passes, a pass being the mean of its processes.  Percentiles: type 7 of Hyndman
    and Fan 1996.  Throughput is one caller's that sends the next batch after each answer: batch size / mean latency.
    """
    times = block_times(blocks)
    latencies_ms = [[ns / 1e6 for ns in block.latencies_ns] for block in blocks]
    calls = np.concatenate(latencies_ms)
    mean_ms = _over_passes(times["passes"], times["block_mean_ms"])
    return {
        **times,
        "p50_ms": _over_passes(times["passes"], times["block_p50_ms"]),
        "p95_ms": float(np.percentile(calls, 95)) if len(calls) >= MIN_RUNS_FOR_P95 else None,
        "part_p95_ms": _parts_p95(latencies_ms),
        "mean_ms": mean_ms,
        "samples_per_s": batch_size * 1000.0 / mean_ms,
        "runs": len(calls),
        "latencies_ms": latencies_ms,
    }


def _over_passes(passes: Sequence[int], values: Sequence[float]) -> float:
    logs = np.log(values)
    each = [logs[np.equal(passes, number)].mean() for number in dict.fromkeys(passes)]
    return float(np.exp(np.mean(each)))


def _parts_p95(latencies_ms: Sequence[Sequence[float]]) -> list[float]:
    """Return the 95th percentile of each of up to 12 parts of the blocks, as many as have calls enough."""
    parts = min(MOST_PARTS, sum(map(len, latencies_ms)) // MIN_RUNS_FOR_P95, len(latencies_ms))
    if parts < 2:
        return []
    split = np.array_split(np.arange(len(latencies_ms)), parts)
    found = [np.concatenate([latencies_ms[place] for place in part]) for part in split]
    return [float(np.percentile(part, 95)) for part in found if len(part) >= MIN_RUNS_FOR_P95]


def write_report(key: str, report: Report) -> None:
    """Write artifacts/samples/KEY.csv, the single calls, and KEY.json, everything else."""
    lines = ["pass,process,batch,call,latency_ms"]
    for size, cell in report.timed().items():
        for number, process, latencies in zip(cell.passes, cell.processes, cell.latencies_ms, strict=True):
            lines += [f"{number},{process},{size},{call},{ms:.6f}" for call, ms in enumerate(latencies)]
    write_text(SAMPLES / f"{key}.csv", "\n".join(lines) + "\n")
    write_json(SAMPLES / f"{key}.json", report.as_dict(exclude={"cells": {"__all__": {"latencies_ms"}}}))


def announce(key: str, report: Report) -> None:
    for size, cell in report.cells.items():
        if isinstance(cell, TimedCell):
            figures = f"p50 {cell.p50_ms:.3f} ms, {cell.samples_per_s:.1f} samples/s"
            log(f"  {key} batch {size}: {figures}, {cell.status}")
        else:
            log(f"  {key} batch {size}: {cell.status}{': ' + cell.reason if cell.reason else ''}")
