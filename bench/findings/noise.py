"""How much of what was measured is noise, and what disturbed it."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import Any

from bench.findings.models import Control, Disturbance, Disturbed, Noise
from bench.findings.picks import cell_of
from bench.summary.panels import values
from bench.summary.table_file import Rows, is_missing, known

BUSY_CORES = 0.5
"""From this many cores on, other processes beside a cell disturb it."""
STOPPED_SECONDS = 0.05
"""From so long on, the CPU quota that stopped a cell disturbs it."""
UNSTABLE = 1.5
"""From this ratio of the fixed loop's slowest to its fastest time on, a cell's CPU clock is unstable."""


def noise(rows: Rows) -> Noise | None:
    """Return how much of one device's measured rows is noise, by the A/A row, processes, fixed loop and other load."""
    if not rows:
        return None
    again = sorted((row for row in rows if _is_control(row)), key=lambda row: row.batch_size)
    spreads = {row.Index: spread for row in rows if (spread := _spread(row)) is not None}
    widest = max((row for row in rows if row.Index in spreads), key=lambda row: spreads[row.Index], default=None)
    loops = [loop for row in rows if (loop := _loop(row)) is not None]
    return Noise(
        control=str(again[0].variant) if again else None,
        controls=[_control(row) for row in again],
        is_voided=any(bool(row.voided) for row in again),
        spread=(median(spreads.values()), max(spreads.values())) if spreads else None,
        widest=None if widest is None else cell_of(widest),
        loop=(median(loops), max(loops)) if loops else None,
        quota_stopped_seconds=float(sum(known(row, "quota_throttled_seconds") or 0.0 for row in rows)),
        other_load_cores=float(max(known(row, "other_load_cores") or 0.0 for row in rows)),
    )


def _is_control(row: Any) -> bool:
    return row.variant == row.baseline and not is_missing(row.aa_ratio)


def _control(row: Any) -> Control:
    limits = {"low": known(row, "aa_low"), "high": known(row, "aa_high")}
    return Control(batch_size=int(row.batch_size), ratio=float(row.aa_ratio), **limits, verdict=row.aa_verdict)


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
    for kind, column, least in _MEASURED:
        value = known(row, column)
        if value is not None and value >= least:
            yield kind, float(value)
    loop = _loop(row)
    if loop is not None and loop >= UNSTABLE:
        yield "clock unstable", loop


_MEASURED: tuple[tuple[Disturbed, str, float], ...] = (
    ("quota", "quota_throttled_seconds", STOPPED_SECONDS),
    ("gpu shared", "other_gpu_processes", 1),
    ("cores busy", "other_load_cores", BUSY_CORES),
)
