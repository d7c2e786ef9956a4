"""Write what was measured of one variant: raw runs, the whole report, and DVC's metrics."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.core.files import replacing_folder, write_json, write_text
from bench.core.paths import metrics_file_name
from bench.core.progress import say
from bench.core.reports import AnyCell, Report, TimedCell

METRICS = ("status", "p50_ms", "p95_ms", "mean_ms", "samples_per_s")


def write_report(
    report: Report, samples_csv: Path, report_json: Path, metrics: Path, batch_sizes: Iterable[int]
) -> None:
    """Write raw runs, everything known, and one small metrics file a batch size."""
    lines = ["process,batch,run,latency_ms"]
    for size in batch_sizes:
        cell = report.cells[str(size)]
        for process, latencies in enumerate(cell.latencies_ms if isinstance(cell, TimedCell) else []):
            lines += [f"{process},{size},{run},{latency:.6f}" for run, latency in enumerate(latencies)]
    write_text(samples_csv, "\n".join(lines) + "\n")
    write_json(report_json, report.as_dict(exclude={"cells": {"__all__": {"latencies_ms"}}}))
    with replacing_folder(metrics) as folder:
        for size in batch_sizes:
            write_json(folder / metrics_file_name(size), _metrics(report.cells[str(size)]))


def _metrics(cell: AnyCell) -> dict[str, Any]:
    """Return the few figures that `dvc metrics show` puts in its table."""
    return cell.as_dict(include=set(METRICS))


def announce(key: str, report: Report) -> None:
    """Print one line a batch size."""
    for size, cell in report.cells.items():
        if isinstance(cell, TimedCell):
            figures = f"p50 {cell.p50_ms:.3f} ms, {cell.samples_per_s:.1f} samples/s"
            say(f"  {key} batch {size}: {figures}, {cell.status}")
        else:
            say(f"  {key} batch {size}: {cell.status}{': ' + cell.reason if cell.reason else ''}")
