"""Engineering notes: sentences computed from this run's figures, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pandas as pd

from bench.intervals import MARGIN, processes_that_would_settle, ratio_interval, verdict
from bench.report.assumptions import assumption_lines
from bench.report.context import Context
from bench.report.figures import is_missing, milliseconds, per_second, percent, ratio, seconds
from bench.report.summary import process_medians
from bench.report.table import PANELS, not_timed

PRECISION_PAIRS = (("int8", "fp32"), ("fp16", "fp32"), ("tf32", "fp32"))


def render_notes(table: pd.DataFrame, context: Context) -> str:
    """Return notes/engineering_observations.md."""
    measured = table[table["status"] == "measured"]
    lines = ["# What this run shows", "", f"Measured: {context.model()}.", ""]
    lines += [f"- {line}" for line in context.hardware_lines()]
    lines += [
        "",
        f"A verdict (faster, slower, tie) needs the whole 95% interval of the ratio beyond or inside {MARGIN:.0%}; the "
        "interval counts the spread between processes. Otherwise it is inconclusive: this run does not tell.",
        "",
    ]
    lines += ["## What people assume", "", *assumption_lines(table), ""]
    for device, title in PANELS.items():
        rows = measured[measured["device"] == device]
        lines += (
            [f"## {title}", "", *_panel(rows), ""] if len(rows) else [f"## {title}", "", "Nothing was measured.", ""]
        )
    lines += ["## Not in the comparison", "", *_left_out(table), ""]
    return "\n".join(lines)


def _panel(rows: pd.DataFrame) -> Iterator[str]:
    yield from _fastest(rows)
    for low, high in PRECISION_PAIRS:
        yield from _precision(rows, low, high)
    yield from _batching(rows)
    yield from _gpu_busy(rows)
    yield from _start_up(rows)
    yield from _spread(rows)


def _fastest(rows: pd.DataFrame) -> Iterator[str]:
    """Say which variant is fastest at each batch size, and which this run does not tell from it."""
    for size, group in rows.groupby("batch_size"):
        ordered = list(group.sort_values("p50_ms").itertuples())
        best = ordered[0]
        same = [row.variant for row in ordered[1:] if compare(best, row) not in ("faster", "slower")]
        line = f"- Batch {size}: `{best.variant}` has the lowest p50, {milliseconds(best.p50_ms)} ms"
        if not is_missing(best.speedup) and best.variant != best.baseline:
            line += f", {ratio(best.speedup)} as fast as `{best.baseline}`"
        yield line + (f"; not told apart from it: {', '.join(f'`{name}`' for name in same)}." if same else ".")


def _precision(rows: pd.DataFrame, low: str, high: str) -> Iterator[str]:
    """Compare two precisions of one runtime and the same options, batch by batch."""
    for runtime, group in rows.groupby("runtime", sort=False):
        found = []
        for size, cell in group.groupby("batch_size"):
            plain = cell[cell["options"].isna() | (cell["options"] == "")]
            first, second = (_only(plain[plain["precision"] == name]) for name in (low, high))
            if first is not None and second is not None:
                found.append(f"{ratio(_speedup(second, first))} ({compare(first, second)}) at batch {size}")
        if found:
            yield f"- {runtime}: {low} against {high}, p50 speed-up {', '.join(found)}."


def _speedup(over: Any, under: Any) -> float:
    found = ratio_interval(process_medians(over), process_medians(under))
    return found.value if found else over.p50_ms / under.p50_ms


def _only(rows: pd.DataFrame) -> Any:
    return next(rows.itertuples(), None)


def compare(first: Any, second: Any) -> str:
    """Return the verdict on the first of two rows: faster, slower, tie or inconclusive, and what would settle it."""
    ours, theirs = process_medians(first), process_medians(second)
    found = verdict(ratio_interval(theirs, ours))
    enough = processes_that_would_settle(theirs, ours)
    if found != "inconclusive" or enough is None:
        return found
    return f"inconclusive, about {enough} processes would settle it"


def _batching(rows: pd.DataFrame) -> Iterator[str]:
    """Say at which batch size each variant's throughput is highest, and whether it ever falls."""
    for variant, group in rows.groupby("variant", sort=False):
        ordered = list(group.sort_values("batch_size").itertuples())
        if len(ordered) < 2:
            continue
        best = max(ordered, key=lambda row: row.samples_per_s)
        falls = [after.batch_size for before, after in pairwise(ordered) if compare_throughput(before, after) < 0]
        gain = best.samples_per_s / ordered[0].samples_per_s
        line = f"- `{variant}`: most samples/s at batch {best.batch_size} ({per_second(best.samples_per_s)}), "
        line += f"{ratio(gain)} its batch {ordered[0].batch_size}"
        yield line + (f"; going up to batch {falls[0]} loses throughput." if falls else ".")


def compare_throughput(before: Any, after: Any) -> int:
    """Return -1 if the larger batch surely has less throughput, 1 if surely more, else 0."""
    first, second = ([value / row.batch_size for value in process_medians(row)] for row in (before, after))
    found = verdict(ratio_interval(first, second))
    return {"faster": 1, "slower": -1}.get(found, 0)


def _gpu_busy(rows: pd.DataFrame) -> Iterator[str]:
    """Say how much of a call the GPU works, from the profiling pass, at each variant's smallest and largest batch."""
    if "gpu_busy_ms" not in rows:
        return
    for variant, group in rows.dropna(subset=["gpu_busy_ms"]).groupby("variant", sort=False):
        ordered = list(group.sort_values("batch_size").itertuples())
        ends = ordered if len(ordered) == 1 else [ordered[0], ordered[-1]]
        parts = [
            f"{milliseconds(row.gpu_busy_ms)} of {milliseconds(row.p50_ms)} ms "
            f"({row.kernel_launches:.0f} kernels) at batch {row.batch_size}"
            for row in ends
        ]
        yield f"- `{variant}`: the GPU works {', '.join(parts)}."


def _start_up(rows: pd.DataFrame) -> Iterator[str]:
    """Say how long a service waits for its first answer."""
    once = rows.drop_duplicates("variant").sort_values("cold_start_seconds")
    parts = [f"`{row.variant}` {seconds(row.cold_start_seconds)}" for row in once.itertuples()]
    yield f"- From process start to the first answer: {', '.join(parts)}."


def _spread(rows: pd.DataFrame) -> Iterator[str]:
    """Say how far the processes of one cell are apart, and how busy the machine was otherwise."""
    spreads = {f"`{row.variant}` batch {row.batch_size}": _relative_spread(row) for row in rows.itertuples()}
    widest = max(spreads, key=lambda name: spreads[name])
    median = pd.Series(spreads).median()
    yield (
        f"- Between the processes of a cell, the slowest median is {percent(median)} above the fastest "
        f"(median over cells); at most {percent(spreads[widest])}, at {widest}."
    )
    yield f"- Other processes kept at most {rows['other_load_cores'].max():.2f} cores busy while a variant was timed."


def _relative_spread(row: Any) -> float:
    medians = process_medians(row)
    return max(medians) / min(medians) - 1 if medians else 0.0


def _left_out(table: pd.DataFrame) -> Iterator[str]:
    rejected = table[table["status"] == "rejected"]
    for row in rejected.itertuples():
        yield f"- `{row.variant}` batch {row.batch_size}: rejected, {row.reason}."
    lines = [f"- {line}." for line in not_timed(table)]
    yield from lines
    if not lines and rejected.empty:
        yield "Every configured row was measured."
