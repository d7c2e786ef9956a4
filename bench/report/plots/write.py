"""Write every picture of the report: one of each kind for each device with measured rows."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from bench.core.files import replacing_folder
from bench.report.context import Context
from bench.report.plots.accuracy import write_accuracy
from bench.report.plots.budgets import write_budgets
from bench.report.plots.by_batch import write_by_batch
from bench.report.plots.causes import write_causes
from bench.report.plots.distribution import write_distribution
from bench.report.plots.lengths import write_lengths
from bench.report.plots.served import write_served
from bench.report.plots.style import caption
from bench.report.plots.toggles import write_toggles
from bench.report.table import PANELS
from bench.summary.budgets import Curves


def write_plots(
    table: pd.DataFrame,
    runs: dict[str, pd.DataFrame],
    counts: pd.DataFrame,
    served: tuple[pd.DataFrame, Curves],
    *,
    context: Context,
    folder: Path,
) -> None:
    """Write the PNGs into `folder`; `runs` are the single runs of each variant: process, batch, run, latency_ms.

    `counts`: how many sentences have how many tokens.  `served`: results/serving.csv, and the points of each row's
    processes.
    """
    with replacing_folder(folder) as target:
        write_lengths(counts, context.sequence_length, context.model(), target / "lengths.png")
        write_plotted_data(table, target / "measured.csv")
        for device in PANELS:
            rows = table[(table["device"] == device) & (table["status"] == "measured")]
            if rows.empty:
                continue
            text = caption(device, context)
            serving, points = served
            write_served(serving[serving["device"] == device], points, text, target / f"{device}_served.png")
            write_by_batch(rows, "p50_ms", "p50 latency (ms)", text, target / f"{device}_latency_by_batch.png")
            write_by_batch(
                rows, "samples_per_s", "throughput (samples/s)", text, target / f"{device}_throughput_by_batch.png"
            )
            budgets = context.settings.slo_p95_ms
            write_budgets(rows, budgets, text, target / f"{device}_throughput_by_p95.png")
            write_distribution(rows, runs, text, target / f"{device}_distribution.png")
            write_toggles(rows, text, target / f"{device}_precision_toggles.png")
            write_accuracy(rows, text, target / f"{device}_accuracy.png")
            write_causes(rows, device, text, target / f"{device}_causes.png")


PLOTTED = ("cell", "device", "batch_size", "p50_ms", "p50_low_ms", "p50_high_ms", "p95_ms", "mean_ms", "samples_per_s")


def write_plotted_data(table: pd.DataFrame, path: Path) -> None:
    """Write the figures behind the pictures, measured rows alone, for `dvc plots show` and `dvc plots diff`."""
    measured = table[table["status"] == "measured"]
    measured[list(PLOTTED)].to_csv(path, index=False, lineterminator="\n")
