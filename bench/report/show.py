"""Open the page of the last run in the browser, or of a run that is under way:  python run.py show"""

from __future__ import annotations

import webbrowser
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
    page = write_so_far() if is_under_way() else PAGE
    address = page.resolve().as_uri()
    if page == SO_FAR:
        print("this run is under way: the page shows what is measured so far")
    print(address if webbrowser.open(address) else f"no browser could be started here; open {address}")


def is_under_way() -> bool:
    """Tell whether rows were measured that the page does not show yet; DataError where there are none at all."""
    newest = max((path.stat().st_mtime for path in reports()), default=None)
    if newest is None and not PAGE.exists():
        raise DataError(f"{PAGE.as_posix()} is missing: `python run.py` measures and writes it")
    return not PAGE.exists() or (newest is not None and newest > PAGE.stat().st_mtime)


def reports() -> list[Path]:
    """Return the files of rows that were measured since the page was written, all without a page."""
    since = PAGE.stat().st_mtime if PAGE.exists() else 0.0
    found = [*SAMPLES.glob("*.json"), *SERVED.glob("*.json")]
    return [path for path in found if path.stat().st_mtime > since]


def write_so_far() -> Path:
    """Write the page of the rows that are there; a row of the run before is left out."""
    params = measured_params(load_params())
    tables = read_tables(params)
    shown = shown_of(tables, read_context())
    charts = make_charts(shown, tables.summary, tables.curves)
    write_text(SO_FAR, render_page(shown, tables.curves, charts, is_incomplete=True))
    return SO_FAR


def measured_params(params: Params) -> Params:
    """Return the parameters with the rows alone that this run has measured so far; DataError if that is none."""
    there = set(reports())
    timed = {key for key in params.all_variants() if SAMPLES / f"{key}.json" in there}
    if not timed:
        raise DataError("no row of this run is measured yet: look again later")
    served = [key for key in params.serving.variants if key in timed and SERVED / f"{key}.json" in there]
    return params.model_copy(
        update={
            "variants": {key: row for key, row in params.variants.items() if key in timed},
            "tensorrt_variants": {key: row for key, row in params.tensorrt_variants.items() if key in timed},
            "serving": params.serving.model_copy(update={"variants": served}),
        }
    )


if __name__ == "__main__":
    run_stage(main)
