"""From what each measuring process hands over to the report of the variant: the gate, the proofs, and the figures.

p50, p95 and mean are the geometric means of the processes' medians, 95th percentiles and means: the processes are what
repeats (bench/statistics/rounds.py), and intervals, speed-ups and ranks are made of the same figures.
"""

from collections.abc import Sequence
from statistics import geometric_mean
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from bench.core.files import write_json, write_text
from bench.core.model_inputs import reference_spread
from bench.core.params import Params, Tolerances, Variant
from bench.core.paths import EVALUATION, SAMPLES
from bench.core.progress import log
from bench.core.reports import AnyCell, Cell, Evidence, GpuReading, Labels, Process, Profile, Report, TimedCell, Work
from bench.core.schemas import Count, Status
from bench.inputs.encoded import load_reference
from bench.timing.evidence import contradiction, kernel_contradiction, proof_mark
from bench.timing.quality import Comparison, accuracy_fault, gate_verdict, tolerances

MIN_RUNS_FOR_P95 = 20
"""Below this, no run of a process at all lies beyond its 95th percentile: 0.05 * 20 = 1."""


class CellResult(BaseModel):
    """One process's runs at one batch size; without them, with the reason, where memory ran out."""

    status: Status
    reason: str = ""
    latencies_ns: list[int] = []
    work: Work | None = None
    comparison: Comparison | None = None
    other_load_cores: float = 0.0
    quota_throttled_seconds: float = 0.0
    host_loop_ms: list[float] = []
    gpu: GpuReading | None = None
    gpu_mib: float | None = None
    profile: Profile | None = None
    operators: dict[str, float] = {}


class ProcessResult(Process):
    """One process of a variant; `cells` by batch size, none of them where it was not `measured`."""

    model_config = ConfigDict(strict=False)

    round: Count = 0
    status: Status
    reason: str = ""
    process: int = 0
    cells: dict[int, CellResult] = Field(default_factory=dict)
    evidence: Evidence = Evidence()
    accuracy: Labels | None = None

    def is_measured(self) -> bool:
        """Tell whether the process ran to its end."""
        return self.status == "measured"


def combine(variant: Variant, params: Params, results: list[ProcessResult], is_real: bool) -> Report:
    """Put the processes' results, each with its `round`, together and pass every batch size through the gate."""
    spread = reference_spread(load_reference(EVALUATION))
    gate = params.quality[variant.precision]
    limits = tolerances(gate, is_real)
    cells = {str(size): _combine_cell(variant, limits, size, results, spread) for size in params.sizes(variant.device)}
    first = results[0]
    fault = accuracy_fault(first.accuracy, gate)
    if fault:
        rejected = {"status": "rejected", "reason": fault}
        cells |= {n: cell.model_copy(update=rejected) for n, cell in cells.items() if cell.status == "measured"}
    return Report(cells=cells, evidence=first.evidence, accuracy=first.accuracy, processes=[*results])


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


def summarize_latencies(processes_ms: Sequence[Sequence[float]], batch_size: int) -> dict[str, Any]:
    """Return p50, p95, mean (ms) and samples/s of one cell, and each process's; p95 only where all have runs enough.

    Percentiles interpolate linearly (numpy's default, type 7 of Hyndman and Fan 1996).  Throughput is what one caller
    gets that sends the next batch when the last is back: batch size / mean latency.  ValueError without any run.
    """
    if not processes_ms or not all(len(process) for process in processes_ms):
        raise ValueError("no latencies to summarize")
    arrays = [np.asarray(process, dtype=np.float64) for process in processes_ms]
    each = {"process_p50_ms": [float(np.percentile(runs, 50)) for runs in arrays]}
    if min(len(runs) for runs in arrays) >= MIN_RUNS_FOR_P95:
        each["process_p95_ms"] = [float(np.percentile(runs, 95)) for runs in arrays]
    each["process_mean_ms"] = [float(runs.mean()) for runs in arrays]
    figures = {name.removeprefix("process_"): geometric_mean(values) for name, values in each.items()}
    return {**figures, "samples_per_s": batch_size * 1000.0 / figures["mean_ms"], **each}


def write_report(key: str, report: Report) -> None:
    """Write artifacts/samples/KEY.csv, the raw runs, and KEY.json, everything else."""
    lines = ["process,batch,run,latency_ms"]
    for size, cell in report.cells.items():
        for process, latencies in enumerate(cell.latencies_ms if isinstance(cell, TimedCell) else []):
            lines += [f"{process},{size},{run},{latency:.6f}" for run, latency in enumerate(latencies)]
    write_text(SAMPLES / f"{key}.csv", "\n".join(lines) + "\n")
    write_json(SAMPLES / f"{key}.json", report.as_dict(exclude={"cells": {"__all__": {"latencies_ms"}}}))


def announce(key: str, report: Report) -> None:
    """Print one line a batch size."""
    for size, cell in report.cells.items():
        if isinstance(cell, TimedCell):
            figures = f"p50 {cell.p50_ms:.3f} ms, {cell.samples_per_s:.1f} samples/s"
            log(f"  {key} batch {size}: {figures}, {cell.status}")
        else:
            log(f"  {key} batch {size}: {cell.status}{': ' + cell.reason if cell.reason else ''}")
