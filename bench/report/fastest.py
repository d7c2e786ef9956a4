"""Which row is fastest at each batch size, is that significant, what is its bottleneck, and what does it cost?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from bench.report.comparison_text import nearest_text
from bench.report.figures import (
    MISSING,
    mebibytes,
    milliseconds,
    seconds,
    share,
    three_digits,
    with_interval,
)
from bench.report.markdown import table_lines
from bench.summary.comparisons import compare
from bench.summary.table_file import is_missing

COLUMNS = (
    "batch",
    "fastest",
    "padding",
    "p50 ms",
    "significant?",
    "bottleneck",
    "of roofline",
    "of roofline without padding",
    "energy",
    "memory",
    "cold start",
    "one-off",
)


def fastest_lines(rows: pd.DataFrame) -> Iterator[str]:
    """Yield a Markdown table with a line a batch size, from one device's measured rows."""
    if rows.empty:
        return
    groups = (list(group.sort_values("p50_ms").itertuples()) for _, group in rows.groupby("batch_size"))
    yield from table_lines(COLUMNS, COLUMNS[1:], (_columns(ordered[0], ordered[1:]) for ordered in groups))


def _columns(best: Any, others: list[Any]) -> Iterator[str]:
    yield str(best.batch_size)
    yield f"`{best.variant}`"
    yield padding_of(best)
    yield with_interval(milliseconds, best.p50_ms, best.p50_low_ms, best.p50_high_ms)
    yield significance(best, others)
    yield bottleneck_text(best)
    yield roofline_text(best)
    yield roofline_without_padding_text(best)
    yield _energy(best)
    yield f"{_gpu_memory(best)}{mebibytes(best.peak_host_mib)} on the host"
    yield start_up_text(best)
    if is_missing(best.one_off_seconds):
        yield "unknown: made on another machine"
    else:
        yield seconds(best.one_off_seconds) if best.one_off_seconds else "nothing"


def significance(best: Any, others: list[Any]) -> str:
    """Say whether the fastest row is significantly faster than each other one, or than which ones it is not."""
    same = [row for row in others if compare(best, row).verdict != "faster"]
    if not others:
        return "the only row"
    return f"not significantly faster than {nearest_text(same)}" if same else "yes, against every other row"


def bottleneck_text(row: Any) -> str:
    """Say what a call's time goes into: the GPU's share of it, or the share of matrix products on the CPU."""
    if not is_missing(row.bound):
        return f"{row.bound}, GPU busy {share(min(row.gpu_busy_ms / row.p50_ms, 1.0))}"
    return MISSING if is_missing(row.matrix_share) else f"{share(row.matrix_share)} in matrix products"


def roofline_text(row: Any) -> str:
    """Say how much of what the measured peaks allow a row reaches, padding included, and which peak sets the limit."""
    if is_missing(row.limit_share):
        return MISSING
    return f"{_reached(row.limit_share)} ({row.limited_by})"


def roofline_without_padding_text(row: Any) -> str:
    """Say how much of it a row reaches if the tokens that it was given count alone: the rest is what padding costs."""
    reached: Any = getattr(row, "limit_without_padding_share", None)
    if is_missing(reached):
        return MISSING
    return _reached(reached)


def _reached(limit_share: float) -> str:
    return share(limit_share) if limit_share <= 1 else "beyond the measured peak"


def padding_of(row: Any) -> str:
    """Return how a row's batches were padded; runs of older versions knew one way."""
    found: Any = getattr(row, "padding", None)
    return "fixed" if is_missing(found) else str(found)


def start_up_text(row: Any) -> str:
    """Say how long the first process took to its first result, and one that found compiled code in its caches."""
    again = getattr(row, "warm_start_seconds", None)
    warm = "" if is_missing(again) else f", warm {seconds(again)}"
    return f"{seconds(row.cold_start_seconds)}{warm}"


def _energy(row: Any) -> str:
    if is_missing(row.gross_energy_mj_per_sample):
        return "not measured"
    low, high = getattr(row, "gross_energy_low", None), getattr(row, "gross_energy_high", None)
    return f"{with_interval(three_digits, row.gross_energy_mj_per_sample, low, high)} mJ/sample"


def _gpu_memory(row: Any) -> str:
    return "" if is_missing(row.peak_gpu_mib) else f"{mebibytes(row.peak_gpu_mib)} on the GPU, "
