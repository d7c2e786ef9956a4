"""Compare recorded runs in Markdown: each machine's best row, the same row on all, and where the winner changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from bench.report.comparisons import not_told_apart
from bench.report.figures import MISSING, milliseconds, per_second, with_interval
from bench.report.markdown import table_lines
from bench.report.recorded_runs import RecordedRun, comparable
from bench.report.table import PANELS

LIBRARIES = ("torch", "onnxruntime", "tensorrt")


def render_hardware(runs: list[RecordedRun]) -> str:
    """Return results/hardware.md."""
    lines = ["# Recorded runs side by side", ""]
    if not runs:
        return "\n".join([*lines, "No run is recorded: `python run.py record NAME` keeps the last one.", ""])
    compared, others = comparable(runs)
    lines += [*_machines(runs), ""]
    lines += [f"- `{name}` is not compared: {reason}." for name, reason in others.items()] + ([""] if others else [])
    for device, title in PANELS.items():
        there = [run for run in compared if len(run.measured(device))]
        if there:
            lines += [f"## {title}", "", *_winners(there, device), "", *_same_rows(there, device), ""]
    return "\n".join(lines)


def _machines(runs: list[RecordedRun]) -> Iterator[str]:
    names = ("run", "GPU", "CPU", "system", *LIBRARIES, "model")
    yield from table_lines(names, names, map(_machine, runs))


def _machine(run: RecordedRun) -> list[str]:
    versions = [run.environment["versions"].get(name) or MISSING for name in LIBRARIES]
    machine = [f"`{run.name}`", run.hardware("cuda"), run.hardware("cpu"), run.environment["os"]]
    return [*machine, *versions, run.provenance["model"]]


def _winners(runs: list[RecordedRun], device: str) -> Iterator[str]:
    """Yield the fastest row of each run at each batch size, then where it is not the same everywhere."""
    yield "| batch | " + " | ".join(f"`{run.name}`" for run in runs) + " |"
    yield "| ---: |" + " --- |" * len(runs)
    changes = []
    for size in _batch_sizes(runs, device):
        best = {run.name: _fastest(run.measured(device), size) for run in runs}
        yield f"| {size} | {' | '.join(_winner(*best[run.name]) for run in runs)} |"
        names = {row.variant for row, _ in best.values() if row is not None}
        if len(names) > 1:
            found = [f"`{row.variant}` on `{name}`" for name, (row, _) in best.items() if row is not None]
            changes.append(f"- Batch {size}: {', '.join(found)}.")
    yield ""
    if changes:
        yield from ["The winner is not the same everywhere:", "", *changes]
    elif len(runs) > 1:
        yield "At every batch size the same row wins on all of them."


def _fastest(rows: pd.DataFrame, size: int) -> tuple[Any, list[str]]:
    """Return the fastest row of a batch size and the variants that it is not told apart from."""
    ordered = list(rows[rows["batch_size"] == size].sort_values("p50_ms").itertuples())
    if not ordered:
        return None, []
    return ordered[0], [row.variant for row in not_told_apart(ordered[0], ordered[1:])]


def _winner(row: Any, ties: list[str]) -> str:
    if row is None:
        return MISSING
    same = f"; not told apart: {', '.join(f'`{name}`' for name in ties)}" if ties else ""
    return f"`{row.variant}` {milliseconds(row.p50_ms)} ms, {per_second(row.samples_per_s)}/s{same}"


def _same_rows(runs: list[RecordedRun], device: str) -> Iterator[str]:
    """Yield p50 with its interval of every row that at least one run measured, a column a run."""
    yield "p50 in ms (95% interval):"
    yield ""
    yield "| batch | variant | " + " | ".join(f"`{run.name}`" for run in runs) + " |"
    yield "| ---: | --- |" + " ---: |" * len(runs)
    variants = dict.fromkeys(name for run in runs for name in run.measured(device)["variant"])
    for size in _batch_sizes(runs, device):
        for variant in variants:
            cells = [_cell(run.measured(device), str(variant), size) for run in runs]
            if any(cell != MISSING for cell in cells):
                yield f"| {size} | {variant} | {' | '.join(cells)} |"


def _cell(rows: pd.DataFrame, variant: str, size: int) -> str:
    row = next(rows[(rows["variant"] == variant) & (rows["batch_size"] == size)].itertuples(), None)
    if row is None:
        return MISSING
    return with_interval(milliseconds, row.p50_ms, row.p50_low_ms, row.p50_high_ms)


def _batch_sizes(runs: list[RecordedRun], device: str) -> list[int]:
    return sorted({int(size) for run in runs for size in run.measured(device)["batch_size"]})
