"""results/hardware.html: which row to serve with on each recorded machine, for a budget that the reader moves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.core.paths import RESULTS, RUNS
from bench.core.reports import Served
from bench.report.page.data import Data, answers
from bench.report.page.write import HERE as PAGE_FOLDER
from bench.report.page.write import STYLE, json_for_html, template_in
from bench.report.table import PANELS
from bench.runs.packed import unpack_samples
from bench.runs.recorded_runs import MEND, RecordedRun
from bench.summary.budgets import Curves, curves_of

HARDWARE_PAGE = RESULTS / "hardware.html"
HERE = Path(__file__).resolve().parent
TEMPLATE, SCRIPT = "hardware.html.j2", "hardware.js"


def render_hardware_page(runs: list[RecordedRun], folder: Path = RUNS) -> str:
    """Return the page; a run that an older version kept has no rows under load and is named as such."""
    entries = [entry for run in runs for entry in served_entries(run, folder / run.name)]
    served = {entry["run"] for entry in entries}
    html: str = template_in(HERE, TEMPLATE).render(
        entries=entries,
        others=[run.name for run in runs if run.name not in served],
        budgets=sorted({step["budget_ms"] for entry in entries for step in entry["steps"]}),
        style=(PAGE_FOLDER / STYLE).read_text(encoding="utf-8"),
        data=json_for_html(entries),
        script=(HERE / SCRIPT).read_text(encoding="utf-8"),
    )
    return html


def served_entries(run: RecordedRun, folder: Path) -> Iterator[Data]:
    """Yield the answers of each device of a run; nothing where no row was served, or its loads were not kept."""
    kept = unpack_samples(folder, MEND)
    if run.serving is None or kept is None:
        return
    context = run.context()
    prices: Mapping[Any, float | None] = context.settings.price_per_hour
    found = answers(run.serving, kept_curves(kept), run.table, prices)
    for device, answer in found.items():
        if any(step["rows"] for step in answer["steps"]):
            yield {
                "run": run.name,
                "device": PANELS[device],
                "hardware": run.hardware(device),
                "model": run.provenance["model"],
                "sentences": run.provenance["sentences"],
                "price": prices.get(device),
                **answer,
            }


def kept_curves(kept: Data) -> Curves:
    """Return the points of each served row of a kept run, process by process."""
    return curves_of(
        {key: Served.model_validate(content["served"]) for key, content in kept.items() if "served" in content}
    )
