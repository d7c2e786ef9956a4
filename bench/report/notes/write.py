"""Engineering notes: sentences computed from this run's figures, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pandas as pd

from bench.report.comparison_text import nearest_text, verdict_text
from bench.report.context import Context
from bench.report.fastest import start_up_text
from bench.report.figures import (
    calls,
    mebibytes,
    milliseconds,
    per_second,
    ratio,
    seconds,
    share,
    three_digits,
    watts,
)
from bench.report.notes.assumptions import assumption_lines, by_padding, ends, padding_text, plain, precision_pair
from bench.report.notes.noise import noise_lines
from bench.report.notes.padding import padding_lines
from bench.report.notes.serving import serving_notes
from bench.report.notes.tensorrt import tensorrt_lines
from bench.report.serving import not_served
from bench.report.table import PANELS, margins_text, not_timed
from bench.summary.comparisons import compare, fastest, fastest_and_ties
from bench.summary.table_file import is_missing

PRECISION_PAIRS = (("int8", "fp32"), ("bf16", "fp32"), ("fp16", "fp32"), ("tf32", "fp32"))


def render_notes(table: pd.DataFrame, context: Context, serving: pd.DataFrame | None = None) -> str:
    """Return notes/engineering_observations.md."""
    measured = table[table["status"] == "measured"]
    lines = [f"# What this run shows{context.stand_in()}", "", f"Measured: {context.model()}.", ""]
    lines += [f"- {line}" for line in context.hardware_lines()]
    lines += [
        "",
        "A verdict (faster, slower, tie) needs the whole 95% interval of the ratio beyond or inside a margin"
        f"{margins_text(table)}; the interval holds for all pairs of rows together. Otherwise it is inconclusive: "
        "this run cannot say.",
        "",
    ]
    lines += ["## Common assumptions, tested on this run", "", *assumption_lines(table, serving), ""]
    for device, title in PANELS.items():
        rows = measured[measured["device"] == device]
        lines += (
            [f"## {title}", "", *_panel(rows), ""] if len(rows) else [f"## {title}", "", "Nothing was measured.", ""]
        )
    if serving is not None and len(serving):
        lines += ["## Under load", ""]
        for device in PANELS:
            lines += serving_notes(serving[serving["device"] == device])
        lines += [f"- {line}." for line in not_served(serving)] + [""]
    lines += ["## Not in the comparison", "", *_left_out(table), ""]
    return "\n".join(lines)


def _panel(rows: pd.DataFrame) -> Iterator[str]:
    yield from _fastest(rows)
    for low, high in PRECISION_PAIRS:
        yield from _precision(rows, low, high)
    yield from padding_lines(rows)
    yield from tensorrt_lines(rows)
    yield from _batching(rows)
    yield from _gpu_busy(rows)
    yield from _matrix_share(rows)
    yield from _limits(rows)
    yield from _energy(rows)
    yield from _start_up(rows)
    yield from _captures(rows)
    yield from _break_even(rows)
    yield from noise_lines(rows)


def _fastest(rows: pd.DataFrame) -> Iterator[str]:
    """Say which variant is fastest at each batch size, and which ones are not significantly slower."""
    for size, group in rows.groupby("batch_size"):
        best, *ties = fastest_and_ties(group.itertuples())
        line = f"- Batch {size}: `{best.variant}` has the lowest p50, {milliseconds(best.p50_ms)} ms"
        if not is_missing(best.speedup) and best.variant != best.baseline:
            line += f", {ratio(best.speedup)} as fast as `{best.baseline}`"
        yield line + (f"; no significant difference to {nearest_text(ties)}." if ties else ".")


def _precision(rows: pd.DataFrame, low: str, high: str) -> Iterator[str]:
    """Compare two precisions of one runtime and the same options, batch by batch."""
    for (runtime, padding), group in by_padding(plain(rows)).groupby(["runtime", "padding"], sort=False):
        found = []
        for size, cells in group.groupby("batch_size"):
            pair = precision_pair(cells, low, high)
            if pair:
                seen = compare(*pair)
                found.append(f"{ratio(seen.value)} ({verdict_text(seen)}) at batch {size}")
        if found:
            yield f"- {runtime}{padding_text(padding)}: {low} against {high}, p50 speed-up {', '.join(found)}."


def _batching(rows: pd.DataFrame) -> Iterator[str]:
    """Say at which batch size each variant's throughput is highest, and whether it ever falls."""
    for variant, group in rows.groupby("variant", sort=False):
        ordered = list(group.sort_values("batch_size").itertuples())
        if len(ordered) < 2:
            continue
        best = max(ordered, key=lambda row: row.samples_per_s)
        falls = [
            after.batch_size
            for before, after in pairwise(ordered)
            if compare(after, before, "throughput").verdict == "slower"
        ]
        gain = best.samples_per_s / ordered[0].samples_per_s
        line = f"- `{variant}`: most samples/s at batch {best.batch_size} ({per_second(best.samples_per_s)}), "
        line += f"{ratio(gain)} its batch {ordered[0].batch_size}"
        yield line + (f"; going up to batch {falls[0]} loses throughput." if falls else ".")


def _gpu_busy(rows: pd.DataFrame) -> Iterator[str]:
    """Say how much of a call the GPU works, from the profiling pass, at each variant's smallest and largest batch."""
    for variant, group in rows.dropna(subset=["gpu_busy_ms"]).groupby("variant", sort=False):
        parts = [
            f"{milliseconds(row.gpu_busy_ms)} of {milliseconds(row.p50_ms)} ms "
            f"({row.kernel_launches:.0f} kernels) at batch {row.batch_size}"
            for row in ends(group)
        ]
        yield f"- `{variant}`: the GPU works {', '.join(parts)}."


def _matrix_share(rows: pd.DataFrame) -> Iterator[str]:
    """Say how much of the CPU's work is matrix products, the only part that a lower precision speeds up."""
    for variant, group in rows.dropna(subset=["matrix_share"]).groupby("variant", sort=False):
        parts = [f"{share(row.matrix_share)} at batch {row.batch_size}" for row in ends(group)]
        yield f"- `{variant}`: of its operators' time, matrix products take {', '.join(parts)}."


def _limits(rows: pd.DataFrame) -> Iterator[str]:
    """Say how close the fastest row of each batch size comes to what this machine was measured to do."""
    known = rows.dropna(subset=["limit_share"])
    for size, group in known.groupby("batch_size"):
        best = fastest(group.itertuples())
        yield (
            f"- Batch {size}: the measured peaks allow `{best.variant}` {milliseconds(best.limit_ms)} ms "
            f"({best.limited_by}); it takes {ratio(1 / best.limit_share)} as long"
            f"{'.' if best.limit_share <= 1 else ': this peak was measured too low to be a limit.'}"
        )


def _energy(rows: pd.DataFrame) -> Iterator[str]:
    """Say which row takes least energy for a sample, all that the GPU draws meanwhile counted in.

    Without the idle power a row that hardly uses the GPU would win by a difference of two nearly equal figures.
    """
    known = rows[rows["gross_energy_mj_per_sample"].notna()].sort_values("gross_energy_mj_per_sample")
    if known.empty:
        return
    least, most = (next(part.itertuples()) for part in (known, known[::-1]))
    beyond = "" if is_missing(least.energy_mj_per_sample) else f" ({_beyond_idle(least)})"
    yield (
        f"- Least energy a sample: `{least.variant}` at batch {least.batch_size}, "
        f"{three_digits(least.gross_energy_mj_per_sample)} mJ{beyond}; most: `{most.variant}` at batch "
        f"{most.batch_size}, {three_digits(most.gross_energy_mj_per_sample)} mJ."
    )


def _beyond_idle(row: Any) -> str:
    return f"{three_digits(row.energy_mj_per_sample)} mJ of it beyond the idle power of {watts(row.idle_w)}"


def _start_up(rows: pd.DataFrame) -> Iterator[str]:
    """Say how long a service waits for its first result, with cold caches of compiled code and with warm ones."""
    ordered = rows.drop_duplicates("variant").sort_values("cold_start_seconds")
    parts = [f"`{row.variant}` {start_up_text(row)}" for row in ordered.itertuples()]
    yield f"- Cold start, from process start to the first result: {', '.join(parts)}."


def _captures(rows: pd.DataFrame) -> Iterator[str]:
    """Say how many CUDA graphs each row captured before it was timed, and the GPU memory that this took."""
    if "captures" not in rows or rows["captures"].isna().all():
        return
    known = rows.dropna(subset=["captures"]).drop_duplicates("variant")
    parts = [
        f"`{row.variant}` {row.captures:.0f} ({mebibytes(getattr(row, 'warm_up_gpu_mib', None))})"
        for row in known.itertuples()
    ]
    yield f"- CUDA graphs captured before timing (GPU memory that warm-up took, workspaces too): {', '.join(parts)}."


def _break_even(rows: pd.DataFrame) -> Iterator[str]:
    """Say after how many calls an export, a conversion or an engine has paid for itself."""
    for variant, group in rows[rows["one_off_seconds"] > 0].groupby("variant", sort=False):
        ordered = list(group.sort_values("batch_size").itertuples())
        once = seconds(ordered[0].one_off_seconds)
        paying = [row for row in ordered if row.verdict == "faster" and not is_missing(row.break_even_calls)]
        if paying:
            parts = [f"{calls(row.break_even_calls)} calls at batch {row.batch_size}" for row in paying]
            yield (
                f"- `{variant}`: its one-off time ({once}) breaks even against "
                f"`{paying[0].baseline}` after {', '.join(parts)}."
            )
        parts = [
            f"{calls(row.break_even_cuda_calls)} calls at batch {row.batch_size}"
            for row in ordered
            if not is_missing(row.break_even_cuda_calls)
        ]
        if parts:
            yield f"- `{variant}`: against ONNX Runtime's fastest CUDA row, after {', '.join(parts)}."


def _left_out(table: pd.DataFrame) -> Iterator[str]:
    rejected = table[(table["status"] == "rejected") & table["p50_ms"].notna()]
    for (variant, reason), cells in rejected.groupby(["variant", "reason"], sort=False):
        figures = ", ".join(f"{milliseconds(row.p50_ms)} ms at batch {row.batch_size}" for row in cells.itertuples())
        yield f"- `{variant}`: rejected, {reason}; its p50 was {figures}."
    lines = [f"- {line}." for line in not_timed(table)]
    yield from lines
    if not lines and rejected.empty:
        yield "Every configured row was measured."
