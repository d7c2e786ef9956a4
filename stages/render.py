"""Write the table, the plots, the notes and the page from results/summary.csv and results/serving.csv."""

from __future__ import annotations

import _project  # noqa: F401
import pandas as pd

from bench.core.errors import run_stage
from bench.core.files import read_csv, write_text
from bench.core.paths import NOTES, PLOTS, SAMPLES, SUMMARY_TABLE, TOKEN_COUNTS
from bench.core.schemas import TokenCount
from bench.report.charts.write import make_charts, write_charts
from bench.report.context import read_context
from bench.report.notes.write import render_notes
from bench.report.page.write import PAGE, render_page
from bench.report.table import render_table
from bench.summary.budgets import curves_of
from bench.summary.panels import Sessions, with_levels
from bench.summary.serving import read_served, read_serving
from bench.summary.table_file import read_samples, read_summary


def main() -> None:
    context = read_context()
    table = with_levels(read_summary(), Sessions())
    serving = read_serving()
    write_text(SUMMARY_TABLE, render_table(table, context, serving))
    notes = render_notes(table, context, serving)
    write_text(NOTES, notes)
    measured = table[table["status"] == "measured"]
    runs = {
        str(variant): read_samples(SAMPLES / f"{variant}.csv", rows)
        for variant, rows in measured.groupby("variant", sort=False)
    }
    counts = pd.DataFrame(read_csv(TOKEN_COUNTS, "`dvc repro -f prepare_inputs` writes it anew", TokenCount))
    curves = curves_of(read_served(map(str, serving["variant"])))
    charts = make_charts(table, serving, curves, context=context, runs=runs, counts=counts)
    write_charts(charts, table, context, PLOTS)
    write_text(PAGE, render_page(table, serving, curves, notes, charts, context=context))


if __name__ == "__main__":
    run_stage(main)
