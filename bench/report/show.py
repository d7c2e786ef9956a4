"""Open the page of the last run in the browser, or of a run that is under way:  python run.py show"""

import webbrowser
from collections.abc import Set
from pathlib import Path

from bench.core.errors import DataError, run_stage
from bench.core.files import write_text
from bench.core.params import Params, load_params
from bench.core.paths import ARTIFACTS, SAMPLES, SERVED
from bench.report.charts.write import make_charts
from bench.report.page.write import PAGE, render_page
from bench.report.shown import read_context, shown_of
from bench.summary.build import read_tables

SO_FAR = ARTIFACTS / "report_so_far.html"
"""The page of a run that is under way."""


def main() -> None:
    newer = newer_reports()
    if not newer and not PAGE.exists():
        raise DataError(f"{PAGE.as_posix()} is missing: `python run.py` measures and writes it")
    if newer:
        print("this run is under way: the page shows what is measured so far")
        write_so_far(newer)
    address = (SO_FAR if newer else PAGE).resolve().as_uri()
    print(address if webbrowser.open(address) else f"no browser could be started here; open {address}")


def newer_reports() -> set[Path]:
    """Return the files of rows that were measured since the page was written, all without a page."""
    since = PAGE.stat().st_mtime if PAGE.exists() else 0.0
    return {path for folder in (SAMPLES, SERVED) for path in folder.glob("*.json") if path.stat().st_mtime > since}


def write_so_far(newer: Set[Path]) -> None:
    """Write the page of the rows that these files are of; a row of the run before is left out."""
    tables = read_tables(measured_params(load_params(), newer))
    shown = shown_of(tables, read_context())
    charts = make_charts(shown, tables.summary, tables.curves)
    write_text(SO_FAR, render_page(shown, tables.curves, charts, is_incomplete=True))


def measured_params(params: Params, newer: Set[Path]) -> Params:
    """Return the parameters with the rows alone that this run has measured so far; DataError if that is none."""
    timed = {key for key in params.all_variants() if SAMPLES / f"{key}.json" in newer}
    if not timed:
        raise DataError("no row of this run is measured yet: look again later")
    served = [key for key in params.serving.variants if key in timed and SERVED / f"{key}.json" in newer]
    return params.model_copy(
        update={
            "variants": {key: row for key, row in params.variants.items() if key in timed},
            "tensorrt_variants": {key: row for key, row in params.tensorrt_variants.items() if key in timed},
            "serving": params.serving.model_copy(update={"variants": served}),
        }
    )


if __name__ == "__main__":
    run_stage(main)
