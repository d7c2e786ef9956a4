"""What one device's measured rows show: the fastest, the pick for each latency budget, and what precisions, paddings,
engines and batch sizes change.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Literal, get_args

from bench.core.params import Precision, ReportSettings
from bench.findings.assumptions import by_batch, fastest_pairs, pair_of, plain
from bench.findings.models import ByVariant, CallParts, Cell, Energy, Fastest, Pair, Pick, PrecisionSpeedup, TensorRT
from bench.summary.comparisons import compare, fastest, fastest_and_ties, not_surely_slower
from bench.summary.table_file import Rows, grouped, is_missing, known


def cell_of(row: Any) -> Cell:
    """Return a row of the summary as a cell."""
    figures = {"p50_ms": float(row.p50_ms), "samples_per_s": float(row.samples_per_s)}
    return Cell(variant=str(row.variant), batch_size=int(row.batch_size), **figures)


def fastest_cells(rows: Rows) -> Iterator[Fastest]:
    """Yield the fastest cell of each batch size; `rows`: one device's measured rows."""
    for _, group in sorted(grouped(rows, "batch_size").items()):
        best, *ties = fastest_and_ties(group)
        is_baseline = best.variant == known(best, "baseline")
        yield Fastest(
            cell=cell_of(best),
            ties=[cell_of(row) for row in ties],
            is_only=len(group) == 1,
            baseline=None if is_baseline else known(best, "baseline"),
            speedup=None if is_baseline else known(best, "speedup"),
        )


def picks(rows: Rows, settings: ReportSettings) -> Iterator[Pick]:
    """Yield the pick for each latency budget; `rows` are one device's measured rows."""
    limit_gib = settings.max_memory_gib
    fitting = [row for row in rows if limit_gib is None or (memory_mib(row) or math.inf) <= limit_gib * 1024]
    for budget_ms in settings.slo_p95_ms if rows else ():
        yield _pick(rows, fitting, budget_ms, settings)


def _pick(rows: Rows, fitting: Rows, budget_ms: float, settings: ReportSettings) -> Pick:
    within = [row for row in fitting if row.p95_ms is not None and row.p95_ms <= budget_ms]
    best, *others = sorted(within, key=lambda row: -row.samples_per_s) or [None]
    if best is None:
        doubtful = [cell_of(row) for row in rows if _might_fit(row, budget_ms, settings)]
        return Pick(budget_ms=budget_ms, cell=None, p95_high_ms=None, ties=[], unknown=doubtful)
    more = (row for row in fitting if row.samples_per_s > best.samples_per_s)
    hidden = [row for row in more if is_missing(row.p95_ms) and row.p50_ms <= budget_ms]
    ties = not_surely_slower(best, others, "throughput")
    return Pick(
        budget_ms=budget_ms,
        cell=cell_of(best),
        p95_high_ms=known(best, "p95_high_ms"),
        ties=[pair_of(row, best, "throughput") for row in ties],
        unknown=[cell_of(row) for row in hidden],
    )


def _might_fit(row: Any, budget_ms: float, settings: ReportSettings) -> bool:
    is_memory_unknown = settings.max_memory_gib is not None and memory_mib(row) is None
    return is_memory_unknown or (is_missing(row.p95_ms) and row.p50_ms <= budget_ms)


def memory_mib(row: Any) -> float | None:
    """Return the memory that a row is judged by: the GPU's for GPU rows, else the host's."""
    used: float | None = known(row, "peak_gpu_mib" if row.device == "cuda" else "peak_host_mib")
    return used


def precision_speedups(rows: Rows) -> Iterator[PrecisionSpeedup]:
    """Yield each lower precision of a runtime and padding against fp32, batch by batch."""
    for (runtime, padding), group in grouped(plain(rows), "runtime", "padding").items():
        sizes = [{row.precision: row for row in reversed(cells)} for cells in by_batch(group)]
        for precision in (name for name in get_args(Precision) if name != "fp32"):
            both = [(at[precision], at["fp32"]) for at in sizes if {precision, "fp32"} <= at.keys()]
            found = {int(ours.batch_size): compare(ours, theirs) for ours, theirs in both}
            if found:
                names = {"runtime": str(runtime), "padding": str(padding)}
                yield PrecisionSpeedup(**names, precision=precision, by_batch=found)


def paddings(rows: Rows) -> dict[str, list[Pair]]:
    """Return each way to pad less: its fastest row against the fastest of fixed length, at each batch size."""
    found = {way: list(fastest_pairs(by_batch(rows), "padding", way, "fixed")) for way in ("longest", "none")}
    return {way: pairs for way, pairs in found.items() if pairs}


def tensorrt(rows: Rows) -> Iterator[TensorRT]:
    """Yield the fastest TensorRT row against ONNX Runtime's fastest CUDA row, at each batch size."""
    for group in by_batch([row for row in rows if row.device == "cuda"]):
        ours, theirs = (
            fastest(row for row in group if row.runtime == runtime) for runtime in ("tensorrt", "onnxruntime")
        )
        if ours is None or theirs is None:
            continue
        pair, first, second = pair_of(ours, theirs), _parts(ours), _parts(theirs)
        decides = _decides(first, second, pair.comparison.verdict) if first and second else None
        yield TensorRT(pair=pair, first_parts=first, second_parts=second, decides=decides)


def _parts(row: Any) -> CallParts | None:
    if known(row, "kernel_launches") is None:
        return None
    return CallParts(kernels=int(row.kernel_launches), gpu_ms=float(row.gpu_busy_ms), host_ms=float(row.host_ms))


def _decides(ours: CallParts, theirs: CallParts, verdict: str) -> Literal["gpu", "host", "both"] | None:
    """Return where the slower row loses its time: `host` where the other's time on the host would turn the outcome."""
    if verdict not in ("faster", "slower"):
        return None
    winner, loser = (ours, theirs) if verdict == "faster" else (theirs, ours)
    if loser.gpu_ms <= winner.gpu_ms:
        return "host"
    return "gpu" if loser.host_ms <= winner.host_ms else "both"


def by_variant(rows: Rows) -> Iterator[ByVariant]:
    """Yield what the batch sizes of each variant show together."""
    for (variant,), group in grouped(rows, "variant").items():
        ordered = sorted(group, key=lambda row: row.batch_size)
        first, ends = ordered[0], ordered if len(ordered) < 2 else [ordered[0], ordered[-1]]
        best = max(ordered, key=lambda row: float(row.samples_per_s))
        nearest = max(ordered, key=lambda row: known(row, "limit_share") or 0.0)
        is_cuda = first.device == "cuda"
        busy = [row for row in ends if known(row, "gpu_busy_ms") is not None]
        yield ByVariant(
            variant=str(variant),
            ends=[int(row.batch_size) for row in ends],
            best=cell_of(best),
            gain=None if best is first else float(best.samples_per_s / first.samples_per_s),
            loses_at=_loses_at(ordered),
            gemm_share=[float(row.matrix_share) for row in ends if known(row, "matrix_share") is not None],
            gpu_share=[min(1.0, float(row.gpu_busy_ms / row.p50_ms)) for row in busy],
            kernels=[parts.kernels for row in ends if (parts := _parts(row))],
            limit_share=known(nearest, "limit_share"),
            limited_by=known(nearest, "limited_by"),
            cold_start_seconds=known(first, "cold_start_seconds"),
            warm_start_seconds=known(first, "warm_start_seconds"),
            cuda_graphs=int(first.captures) if is_cuda and known(first, "captures") is not None else None,
            warm_up_gpu_mib=known(first, "warm_up_gpu_mib"),
            setup_seconds=known(first, "one_off_seconds"),
            break_even=_break_even([row for row in ordered if row.verdict == "faster"], "break_even_calls"),
            break_even_cuda=_break_even(ordered, "break_even_cuda_calls"),
        )


def _loses_at(ordered: Rows) -> int | None:
    for before, after in pairwise(ordered):
        if compare(after, before, "throughput").verdict == "slower":
            return int(after.batch_size)
    return None


def _break_even(rows: Rows, column: str) -> dict[int, int]:
    paid = [row for row in rows if known(row, "one_off_seconds") and known(row, column) is not None]
    return {int(row.batch_size): int(getattr(row, column)) for row in paid}


def least_energy(rows: Rows) -> Energy | None:
    """Return the cell that takes least energy for a sample, all that the GPU draws meanwhile counted in.

    Without the idle power a row that hardly uses the GPU would win by a difference of two nearly equal figures.
    """
    measured = [row for row in rows if known(row, "gross_energy_mj_per_sample") is not None]
    if not measured:
        return None
    least = min(measured, key=lambda row: row.gross_energy_mj_per_sample)
    return Energy(
        cell=cell_of(least),
        mj_per_sample=float(least.gross_energy_mj_per_sample),
        beyond_idle_mj=known(least, "energy_mj_per_sample"),
        idle_w=known(least, "idle_w"),
    )
