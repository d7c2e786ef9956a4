"""Write the table, the plots, the notes and the page from results/findings.json and the tables."""

import _project  # noqa: F401

from bench.core.errors import run_stage
from bench.core.files import write_text
from bench.core.paths import NOTES, PLOTS, SAMPLES, SUMMARY_TABLE, TOKEN_COUNTS
from bench.core.schemas import TokenCount
from bench.report.charts.write import make_charts, write_charts
from bench.report.document import to_markdown
from bench.report.notes import notes_blocks
from bench.report.page.write import PAGE, render_page
from bench.report.shown import read_shown
from bench.report.texts import table_blocks
from bench.summary.serving import curves_of, read_served, read_serving
from bench.summary.table_file import read_samples, read_summary, read_table


def main() -> None:
    shown, table, serving = read_shown(), read_summary(), read_serving()
    write_text(SUMMARY_TABLE, to_markdown(table_blocks(shown)))
    write_text(NOTES, to_markdown(notes_blocks(shown)))
    measured = table[table["status"] == "measured"]
    runs = {
        str(variant): read_samples(SAMPLES / f"{variant}.csv", rows)
        for variant, rows in measured.groupby("variant", sort=False)
    }
    counts, _ = read_table(TOKEN_COUNTS, TokenCount, "`dvc repro -f prepare_inputs` writes it anew")
    curves = curves_of(read_served(map(str, serving["variant"])))
    charts = make_charts(shown, table, curves, runs=runs, counts=counts)
    write_charts(charts, table, shown.context, PLOTS)
    write_text(PAGE, render_page(shown, curves, charts))


if __name__ == "__main__":
    run_stage(main)
