"""Write what was measured of one variant: raw runs and the whole report."""

from __future__ import annotations

from bench.core.files import write_json, write_text
from bench.core.paths import SAMPLES
from bench.core.progress import log
from bench.core.reports import Report, TimedCell


def write_report(key: str, report: Report) -> None:
    """Write artifacts/samples/KEY.csv, the raw runs, and KEY.json, everything else."""
    lines = ["process,batch,run,latency_ms"]
    for size, cell in report.cells.items():
        for process, latencies in enumerate(cell.latencies_ms if isinstance(cell, TimedCell) else []):
            lines += [f"{process},{size},{run},{latency:.6f}" for run, latency in enumerate(latencies)]
    write_text(SAMPLES / f"{key}.csv", "\n".join(lines) + "\n")
    write_json(SAMPLES / f"{key}.json", report.as_dict(exclude={"cells": {"__all__": {"latencies_ms"}}}))


def announce(key: str, report: Report) -> None:
    """Print one line a batch size."""
    for size, cell in report.cells.items():
        if isinstance(cell, TimedCell):
            figures = f"p50 {cell.p50_ms:.3f} ms, {cell.samples_per_s:.1f} samples/s"
            log(f"  {key} batch {size}: {figures}, {cell.status}")
        else:
            log(f"  {key} batch {size}: {cell.status}{': ' + cell.reason if cell.reason else ''}")
