"""Which cell is fastest at each batch size, and which one to take for each latency budget."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.core.params import ReportSettings
from bench.findings.assumptions import pair_of
from bench.findings.models import Cell, Fastest, Pick
from bench.summary.comparisons import fastest_and_ties, not_surely_slower
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
    fitting = [row for row in rows if memory_fits(row, settings.max_memory_gib)]
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
    """Tell whether a row might be within a budget, but its p95 or memory is not known."""
    if is_missing(row.p95_ms) and row.p50_ms <= budget_ms:
        return True
    return settings.max_memory_gib is not None and memory_mib(row) is None


def memory_mib(row: Any) -> float | None:
    """Return the memory that a row is judged by: the GPU's for GPU rows, else the host's."""
    used: float | None = known(row, "peak_gpu_mib" if row.device == "cuda" else "peak_host_mib")
    return used


def memory_fits(row: Any, limit_gib: float | None) -> bool:
    """Tell whether a row's memory is within the limit; unknown memory fits only where there is none."""
    used = memory_mib(row)
    return limit_gib is None or (used is not None and used <= limit_gib * 1024)
