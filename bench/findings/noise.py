"""How much of what was measured is noise, what disturbed it, and which rows are no part of any comparison."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from statistics import median
from typing import Any

from bench.findings.models import Disturbance, Disturbed, LeftOut, Noise
from bench.findings.timed import cell_of
from bench.statistics.intervals import Interval
from bench.summary.comparisons import Comparison, values
from bench.summary.table_file import Rows, grouped, is_missing, known

MEASURED: tuple[tuple[Disturbed, str, float], ...] = (
    ("quota", "quota_throttled_seconds", 0.05),
    ("gpu shared", "other_gpu_processes", 1),
    ("cores busy", "other_load_cores", 0.5),
)
"""What disturbs a cell, the column that counts it, and from how much on: seconds stopped, processes, cores."""
UNSTABLE = 1.5
"""From this ratio of the fixed loop's slowest to its fastest time on, a cell's CPU clock is unstable."""


def noise(rows: Rows) -> Noise | None:
    """Return how much of one device's measured rows is noise, by the A/A row, processes, fixed loop and other load."""
    if not rows:
        return None
    is_again = (row for row in rows if row.variant == row.baseline and not is_missing(row.aa_ratio))
    again = sorted(is_again, key=lambda row: row.batch_size)
    spreads = {row.Index: spread for row in rows if (spread := _spread(row)) is not None}
    widest = max((row for row in rows if row.Index in spreads), key=lambda row: spreads[row.Index], default=None)
    loops = [loop for row in rows if (loop := _loop(row)) is not None]
    return Noise(
        control=str(again[0].variant) if again else None,
        controls={int(row.batch_size): _control(row) for row in again},
        is_voided=any(bool(row.voided) for row in again),
        spread=(median(spreads.values()), max(spreads.values())) if spreads else None,
        widest=None if widest is None else cell_of(widest),
        loop=(median(loops), max(loops)) if loops else None,
        other_load_cores=float(max(known(row, "other_load_cores") or 0.0 for row in rows)),
    )


def _control(row: Any) -> Comparison:
    value, low, high = float(row.aa_ratio), known(row, "aa_low"), known(row, "aa_high")
    return Comparison(value, None if low is None else Interval(value, low, high), row.aa_verdict)


def _spread(row: Any) -> float | None:
    """Return by how much a cell's slowest process is above its fastest; None for one process."""
    medians = list(values(row, "p50").values())
    return max(medians) / min(medians) - 1 if len(medians) > 1 else None


def _loop(row: Any) -> float | None:
    fastest_ms = known(row, "host_loop_min_ms")
    return None if fastest_ms is None else float(row.host_loop_max_ms / fastest_ms)


def disturbances(rows: Rows) -> Iterator[Disturbance]:
    """Yield what disturbed each cell of a device's timed rows."""
    for row in rows:
        for kind, value in _disturbed(row):
            yield Disturbance(variant=str(row.variant), batch_size=int(row.batch_size), kind=kind, value=value)


def _disturbed(row: Any) -> Iterator[tuple[Disturbed, float | str]]:
    batches = known(row, "pass_batches")
    if batches and row.padding != "fixed" and row.runs % batches:
        yield "cut short", float(row.runs % batches)
    if known(row, "throttling"):
        yield "throttled", str(row.throttling)
    for kind, column, least in MEASURED:
        value = known(row, column)
        if value is not None and value >= least:
            yield kind, float(value)
    loop = _loop(row)
    if loop is not None and loop >= UNSTABLE:
        yield "clock unstable", loop


def left_out(rows: Rows, of: Rows) -> Iterator[LeftOut]:
    """Yield the variants of each status and reason; `of`: all cells, by which a part of a variant is told."""
    whole = Counter(row.variant for row in of)
    for (status, reason), group in grouped(rows, "status", "reason").items():
        found = {
            str(variant): [] if len(cells) == whole[variant] else [int(row.batch_size) for row in cells]
            for (variant,), cells in grouped(group, "variant").items()
        }
        yield LeftOut(status=str(status), reason="" if is_missing(reason) else str(reason), variants=found)
