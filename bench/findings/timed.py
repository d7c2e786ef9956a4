"""What one device's rows show: the fastest, the pick for each latency budget, speed-ups by precision; how much of it is
noise, what disturbed it, and which rows are no part of any comparison.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, get_args

from bench.core.params import Precision, ReportSettings
from bench.findings import models
from bench.findings.assumptions import by_batch, by_precision, pair_of, plain
from bench.statistics.intervals import Interval, smallest_difference
from bench.summary.comparisons import Comparison, compare, fastest_and_ties, not_surely_slower
from bench.summary.table_file import Rows, grouped, is_missing, known, present

MEASURED: tuple[tuple[models.Busy, str, float], ...] = (
    ("quota", "quota_throttled_seconds", 0.05),
    ("gpu shared", "other_gpu_processes", 1),
    ("cores busy", "other_load_cores", 0.5),
)
"""What disturbs a cell, the column that counts it, and from how much on: seconds stopped, processes, cores."""
TEXTS: dict[models.Disturbed, str] = {
    "unstable": "unstable",
    "cut short": "cut_short",
    "throttled": "throttling",
    "unfinished": "unfinished",
    "remark": "remark",
}
"""What disturbs a cell, and the column that says how."""
UNSTABLE = 1.5
"""From this ratio of the fixed loop's slowest to its fastest time on, a cell's CPU clock is unstable."""
UNLIKE = 0.05
"""From this difference on, as a share, the sentences that were timed have other lengths than the data."""


def cell_of(row: Any) -> models.Cell:
    """Return a row of the summary as a cell."""
    return models.Cell(**{name: getattr(row, name) for name in models.Cell.model_fields})


def fastest_cells(rows: Rows) -> Iterator[models.Fastest]:
    """Yield the fastest cell of each batch size; `rows`: one device's measured rows."""
    for group in by_batch(rows):
        best, *ties = fastest_and_ties(group)
        is_baseline = best.variant == known(best, "baseline")
        open_ones = (found for row in ties if (found := compare(best, row)).verdict == "inconclusive")
        yield models.Fastest(
            cell=cell_of(best),
            ties=list(map(cell_of, ties)),
            smallest=max(present(found.smallest for found in open_ones), default=None),
            is_only=len(group) == 1,
            **{name: None if is_baseline else known(best, name) for name in ("baseline", "speedup")},
        )


def picks(rows: Rows, settings: ReportSettings) -> Iterator[models.Pick]:
    """Yield the pick for each latency budget; `rows` are one device's measured rows."""
    limit_gib = settings.max_memory_gib
    fitting = [row for row in rows if limit_gib is None or (memory_mib(row) or math.inf) <= limit_gib * 1024]
    for budget_ms in settings.slo_p95_ms if rows else ():
        within = [row for row in fitting if row.p95_ms is not None and row.p95_ms <= budget_ms]
        best, *others = sorted(within, key=lambda row: -row.samples_per_s) or [None]
        better = [row for row in rows if best is None or row.samples_per_s > best.samples_per_s]
        yield models.Pick(
            budget_ms=budget_ms,
            cell=best and cell_of(best),
            p95_high_ms=known(best, "p95_high_ms"),
            ties=[pair_of(row, best, "throughput") for row in not_surely_slower(best, others, "throughput")],
            unknown=[cell_of(row) for row in better if _may_be_picked(row, budget_ms, settings)],
        )


def _may_be_picked(row: Any, budget_ms: float, settings: ReportSettings) -> bool:
    """Tell whether a row may be within both limits: its p95 or its memory is not known, and what is known is."""
    memory, limit_gib = memory_mib(row), settings.max_memory_gib
    is_unmeasured = limit_gib is not None and memory is None
    fits = limit_gib is None or memory is None or memory <= limit_gib * 1024
    least_ms = row.p50_ms if is_missing(row.p95_ms) else row.p95_ms
    return fits and bool(least_ms <= budget_ms) and (is_missing(row.p95_ms) or is_unmeasured)


def memory_mib(row: Any) -> float | None:
    """Return the memory that a row is judged by: the GPU's for GPU rows, else the host's."""
    return known(row, "peak_gpu_mib" if row.device == "cuda" else "peak_host_mib")  # type: ignore[no-any-return]


def precision_speedups(rows: Rows) -> Iterator[models.PrecisionSpeedup]:
    """Yield each lower precision of a runtime and padding against fp32, batch by batch."""
    for (runtime, padding), group in grouped(plain(rows), "runtime", "padding").items():
        for precision in (name for name in get_args(Precision) if name != "fp32"):
            pairs = reversed([*by_precision(group, precision, "fp32")])
            if found := {pair.first_batch or 0: pair.comparison for pair in pairs}:
                sizes = dict(sorted(found.items()))
                yield models.PrecisionSpeedup(runtime=runtime, padding=padding, precision=precision, by_batch=sizes)


def noise(rows: Rows) -> models.Noise | None:
    """Return how much of one device's measured rows is noise, by the A/A row and other load."""
    if not rows:
        return None
    is_again = (row for row in rows if row.variant == row.baseline and not is_missing(row.aa_ratio))
    again = sorted(is_again, key=lambda row: row.batch_size)
    return models.Noise(
        control=again[0].variant if again else None,
        controls={row.batch_size: _control(row) for row in again},
        is_voided=any(bool(row.voided) for row in again),
        other_load_cores=max(known(row, "other_load_cores") or 0.0 for row in rows),
    )


def _control(row: Any) -> Comparison:
    interval = None if is_missing(row.aa_low) else Interval(row.aa_ratio, row.aa_low, row.aa_high)
    smallest = smallest_difference(interval, row.margin) if interval else None
    return Comparison(row.aa_ratio, interval, row.aa_verdict, smallest=smallest)


def disturbances(rows: Rows) -> Iterator[models.Disturbance]:
    """Yield what disturbed each cell of a device's timed rows."""
    for row in rows:
        for kind, value in _disturbed(row):
            yield models.Disturbance(variant=row.variant, batch_size=row.batch_size, kind=kind, value=value)


def _disturbed(row: Any) -> Iterator[tuple[models.Disturbed, float | str]]:
    for kind, column in TEXTS.items():
        if known(row, column):
            yield kind, str(known(row, column))
    for kind, column, least in MEASURED:
        value = known(row, column)
        if value is not None and value >= least:
            yield kind, float(value)
    fastest_ms = known(row, "host_loop_min_ms")
    if fastest_ms and row.host_loop_max_ms >= UNSTABLE * fastest_ms:
        yield "clock unstable", float(row.host_loop_max_ms / fastest_ms)
    if known(row, "tokens_of_data") and abs(row.tokens_given / row.tokens_of_data - 1) > UNLIKE:
        yield "lengths", float(row.tokens_given / row.tokens_of_data)


def widespread(found: Iterable[models.Disturbance], cells: int) -> Iterator[models.Widespread]:
    """Yield what disturbed more than half of a device's cells, and why its timing was cut short."""
    for (kind,), same in grouped(found, "kind").items():
        if len(same) > cells / 2 or kind == "cut short":
            yield models.Widespread(kind=kind, cells=len(same), of=cells, most=max(each.value for each in same))


def left_out(rows: Rows, of: Rows) -> Iterator[models.LeftOut]:
    """Yield the variants of each status and reason; `of`: all cells, by which a part of a variant is told."""
    whole = Counter(row.variant for row in of)
    for (status, reason), group in grouped(rows, "status", "reason").items():
        found = {
            variant: [] if len(cells) == whole[variant] else [row.batch_size for row in cells]
            for (variant,), cells in grouped(group, "variant").items()
        }
        yield models.LeftOut(status=status, reason="" if is_missing(reason) else reason, variants=found)
