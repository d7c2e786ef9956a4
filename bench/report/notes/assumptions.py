"""Common assumptions, tested on this run: upheld, refuted or undecided here, with the cells behind each result.

An assumption is about cells, each a ratio (how many times as fast) with its interval and verdict.
"always" is refuted by one cell that is surely not faster, upheld if every cell is surely
faster, and otherwise undecided; without any cell it was not tested.  A tie within the noise
floor is no sure tie: it leaves the question open.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pandas as pd

from bench.report.comparison_text import comparison_text
from bench.report.fastest import padding_of
from bench.report.figures import milliseconds, ratio
from bench.report.notes.serving import most_samples
from bench.statistics.intervals import Interval
from bench.summary.comparisons import Comparison, compare, fastest

SHOWN_CELLS = 4


@dataclass(frozen=True)
class Cell:
    """One comparison: what is compared where, how it came out, and the likely cause."""

    label: str
    found: Comparison
    cause: str = ""

    @property
    def verdict(self) -> str:
        """Return faster, slower, tie or inconclusive; a tie that only noise makes is inconclusive."""
        return "inconclusive" if self.found.is_within_noise else self.found.verdict

    def text(self) -> str:
        """Write the cell with its ratio, interval and cause."""
        noise = " within the noise floor" if self.found.is_within_noise else ""
        return f"{self.label}: {comparison_text(self.found)}{noise}{f'; {self.cause}' if self.cause else ''}"


def assumption_lines(table: pd.DataFrame, serving: pd.DataFrame | None = None) -> Iterator[str]:
    """Yield one line an assumption, from the measured rows of results/summary.csv and those of results/serving.csv."""
    rows = table[table["status"] == "measured"]
    yield _always("INT8 is always faster than FP32", list(_by_precision(rows, "int8", "fp32")))
    yield _always("FP16 is always faster than FP32", list(_by_precision(rows, "fp16", "fp32")))
    yield _always("BF16 is always faster than FP32", list(_by_precision(rows, "bf16", "fp32")))
    yield _always("TensorRT always wins", list(_tensorrt(rows)))
    yield _always("Less padding is always faster", list(_less_padding(rows)))
    yield _always("Without padding is always fastest on a GPU", list(_no_padding(rows)))
    yield _always("A larger batch always gives more samples/s", list(_batches(rows)))
    yield _always("The row with the most samples/s serves most requests", list(_most_samples(serving)))
    yield _precision_or_runtime(rows)
    yield _cpu_int8(rows)


def _most_samples(serving: pd.DataFrame | None) -> Iterator[Cell]:
    if serving is not None:
        yield from (Cell(label, found) for label, found in most_samples(serving))


def _always(claim: str, cells: list[Cell]) -> str:
    against = [cell for cell in cells if cell.verdict in ("slower", "tie")]
    open_ones = [cell for cell in cells if cell.verdict == "inconclusive"]
    if not cells:
        return _line(claim, "not tested here", [])
    if against:
        return _line(claim, f"refuted here by {_of(against, cells)}", against)
    if open_ones:
        are = "is" if len(cells) == 1 else "are"
        return _line(claim, f"undecided here: {_of(open_ones, cells)} {are} inconclusive", open_ones)
    weakest = min(cells, key=lambda cell: cell.found.value)
    found = "the one comparison" if len(cells) == 1 else f"all {len(cells)} comparisons, the weakest"
    return _line(claim, f"upheld here in {found}", [weakest])


def _of(some: list[Cell], cells: list[Cell]) -> str:
    return "the one comparison" if len(cells) == 1 else f"{len(some)} of {len(cells)} comparisons"


def _line(claim: str, result: str, cells: list[Cell]) -> str:
    more = len(cells) - SHOWN_CELLS
    texts = [cell.text() for cell in cells[:SHOWN_CELLS]] + ([f"and {more} more"] if more > 0 else [])
    return f"- “{claim}”: {result}{': ' + '. '.join(texts) if texts else ''}."


def _cause(row: Any) -> str:
    if row.bound != "host-bound":
        return ""
    return f"host-bound, the GPU works {milliseconds(row.gpu_busy_ms)} of its {milliseconds(row.p50_ms)} ms"


def _cell(label: str, first: Any, second: Any) -> Cell:
    return Cell(label, compare(first, second), _cause(first))


def plain(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of variants without further options."""
    return rows[rows["options"].isna() | (rows["options"] == "")]


def by_padding(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with how each was padded; those of older versions are of fixed length."""
    return rows.assign(padding=[padding_of(row) for row in rows.itertuples()])


def padding_text(padding: str) -> str:
    """Name another padding than the fixed one."""
    return "" if padding == "fixed" else f", padding {padding}"


def ends(group: pd.DataFrame) -> list[Any]:
    """Return the rows of the smallest and the largest batch size, where a batch size has one row."""
    ordered = list(group.sort_values("batch_size").itertuples())
    return ordered if len(ordered) < 2 else [ordered[0], ordered[-1]]


def precision_pair(cells: pd.DataFrame, low: str, high: str) -> tuple[Any, Any] | None:
    """Return the row of each of two precisions, None where one is missing."""
    first, second = (next(cells[cells["precision"] == name].itertuples(), None) for name in (low, high))
    return None if first is None or second is None else (first, second)


def _by_precision(rows: pd.DataFrame, low: str, high: str) -> Iterator[Cell]:
    """Compare two precisions of the same runtime on the same device, without further options.

    Every row of the lower one: there may be several, of unlike graphs.
    """
    keys = ["runtime", "device", "padding", "batch_size"]
    for (runtime, device, padding, size), group in by_padding(plain(rows)).groupby(keys, sort=False):
        pair = precision_pair(group, low, high)
        if pair:
            lower = list(group[group["precision"] == low].itertuples())
            for row in lower:
                name = f"{runtime} on {device}" if len(lower) == 1 else f"`{row.variant}`"
                yield _cell(f"{name}{padding_text(padding)}, batch {size}", row, pair[1])


def _tensorrt(rows: pd.DataFrame) -> Iterator[Cell]:
    """Compare the fastest TensorRT row with the fastest other row on the GPU, batch by batch."""
    for size, group in rows[rows["device"] == "cuda"].groupby("batch_size"):
        is_tensorrt = group["runtime"] == "tensorrt"
        ours, theirs = (fastest(part.itertuples()) for part in (group[is_tensorrt], group[~is_tensorrt]))
        if ours is not None and theirs is not None:
            yield _cell(f"`{ours.variant}` against `{theirs.variant}`, batch {size}", ours, theirs)


def _less_padding(rows: pd.DataFrame) -> Iterator[Cell]:
    """Compare each row that pads less with the same one of fixed length: the same runtime, precision and options."""
    keys = ["runtime", "device", "precision", "options", "batch_size"]
    for _, group in by_padding(rows.assign(options=rows["options"].fillna(""))).groupby(keys, sort=False):
        ours, theirs = (fastest(group[group["padding"] == name].itertuples()) for name in ("longest", "fixed"))
        if ours is not None and theirs is not None:
            yield _cell(f"`{ours.variant}` against `{theirs.variant}`, batch {ours.batch_size}", ours, theirs)


def _no_padding(rows: pd.DataFrame) -> Iterator[Cell]:
    """Compare the fastest row without padding with the fastest padded one, batch by batch."""
    for size, group in by_padding(rows).groupby("batch_size"):
        is_without = group["padding"] == "none"
        ours, theirs = (
            fastest(part.itertuples()) for part in (group[is_without], group[~is_without & (group["device"] == "cuda")])
        )
        if ours is not None and theirs is not None:
            yield _cell(f"`{ours.variant}` against `{theirs.variant}`, batch {size}", ours, theirs)


def _batches(rows: pd.DataFrame) -> Iterator[Cell]:
    for variant, group in rows.groupby("variant", sort=False):
        for before, after in pairwise(group.sort_values("batch_size").itertuples()):
            label = f"`{variant}` from batch {before.batch_size} to {after.batch_size}"
            yield Cell(label, compare(after, before, "throughput"), _cause(after))


def _precision_or_runtime(rows: pd.DataFrame) -> str:
    """Compare the largest factor between precisions of one runtime with that between runtimes at one precision."""
    claim = "Precision matters more than the runtime"
    found = []
    rows = by_padding(plain(rows))
    for (device, size), group in rows[rows["padding"] == "fixed"].groupby(["device", "batch_size"], sort=False):
        precision = _largest_factor(group, same="runtime", other="precision")
        runtime = _largest_factor(group, same="precision", other="runtime")
        if precision and runtime:
            found.append((f"{device} batch {size}", precision, runtime))
    if not found:
        return _line(claim, "not tested here", [])
    upheld = [precision.low > runtime.high for _, precision, runtime in found]
    refuted = [precision.high < runtime.low for _, precision, runtime in found]
    result = "refuted here" if any(refuted) else "upheld here" if all(upheld) else "undecided here"
    parts = [f"{where} {ratio(first.value)} against {ratio(second.value)}" for where, first, second in found]
    return f"- “{claim}”: {result}; largest factor between precisions against between runtimes: {', '.join(parts)}."


def _largest_factor(rows: pd.DataFrame, same: str, other: str) -> Interval | None:
    factors = []
    for _, group in rows.groupby(same):
        if group[other].nunique() > 1:
            ordered = list(group.sort_values("p50_ms").itertuples())
            factors.append(compare(ordered[0], ordered[-1]).interval)
    return max((factor for factor in factors if factor), key=lambda factor: factor.value, default=None)


def _cpu_int8(rows: pd.DataFrame) -> str:
    """Test both halves of the claim for each runtime: batch 1 slower, largest batch faster."""
    claim = "INT8 on the CPU is slower at batch 1 and has more throughput at a large batch"
    cpu = rows[rows["device"] == "cpu"]
    ends = sorted(cpu["batch_size"].unique())
    if len(ends) < 2 or ends[0] != 1:
        return _line(claim, "not tested here", [])
    small, large = (list(_by_precision(cpu[cpu["batch_size"] == size], "int8", "fp32")) for size in (ends[0], ends[-1]))
    if not small or not large:
        return _line(claim, "not tested here", [])
    against = [cell for cell in small if cell.verdict in ("faster", "tie")]
    against += [cell for cell in large if cell.verdict in ("slower", "tie")]
    if against:
        return _line(claim, "refuted here", against)
    open_ones = [cell for cell in [*small, *large] if cell.verdict == "inconclusive"]
    return _line(claim, "undecided here" if open_ones else "upheld here", open_ones or [*small, *large])
