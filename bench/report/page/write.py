"""Put the page together: one HTML file with its data, its charts and all of its code inside."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bench.core.paths import RESULTS
from bench.report.charts.chart import Chart
from bench.report.charts.measured import loads
from bench.report.charts.write import Charts
from bench.report.context import Context
from bench.report.figures import milliseconds, per_second
from bench.report.page import data
from bench.report.page.data import Data
from bench.report.table import PANELS, not_timed
from bench.summary.budgets import Curves

PAGE = RESULTS / "report.html"
HERE = Path(__file__).resolve().parent
SNIPPET = "window.vegaEmbed = vegaEmbed;"
"""What the script of the libraries ends with."""
TEMPLATE, STYLE, SCRIPT = "page.html.j2", "page.css", "page.js"


def render_page(
    table: pd.DataFrame,
    serving: pd.DataFrame,
    curves: Curves,
    notes: str,
    charts: Charts,
    *,
    context: Context,
    is_incomplete: bool = False,
) -> str:
    """Return results/report.html.

    `table`: results/summary.csv; `serving`: results/serving.csv; `curves`: the points of each served row;
    `notes`: the engineering notes, in Markdown; `charts`: those of each device.
    """
    answers = data.answers(serving, curves, table, context.settings.price_per_hour)
    panels = [
        _panel(
            device,
            table[table["device"] == device],
            answers.get(device),
            curves,
            charts=charts[device],
            context=context,
        )
        for device in PANELS
        if device in charts
    ]
    html: str = template_in(HERE, TEMPLATE).render(
        stand_in=context.stand_in(),
        warning="" if context.is_real else f"The weights are random: {context.what_holds()}; predictions mean nothing.",
        is_incomplete=is_incomplete,
        head=data.head(context),
        panels=panels,
        quote=quote(panels, context),
        notes=html_of(notes),
        style=(HERE / STYLE).read_text(encoding="utf-8"),
        data=json_for_html({panel["device"]: panel["data"] for panel in panels}),
        libraries=libraries(),
        script=(HERE / SCRIPT).read_text(encoding="utf-8"),
    )
    return html


def template_in(folder: Path, name: str) -> Any:
    """Return a jinja2 template that escapes what it is given."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template(name)


def _panel(
    device: str,
    rows: pd.DataFrame,
    answers: Data | None,
    curves: Curves,
    *,
    charts: Mapping[str, Chart],
    context: Context,
) -> Data:
    """Return what the page shows of a device."""
    own = {str(row): curves[str(row)] for row in rows["variant"].unique() if str(row) in curves}
    measured = rows[rows["status"] == "measured"]
    specs = {name: chart.live() for name, chart in charts.items()}
    return {
        "device": device,
        "title": PANELS[device],
        "hardware": context.device(device),
        "answers": answers,
        "charts": specs,
        "loads": [_load_cells(load) for load in loads(own)] if answers else [],
        "table": data.table_of(rows),
        "not_timed": list(not_timed(rows)),
        "runtimes": sorted(measured["runtime"].unique()),
        "precisions": sorted(measured["precision"].unique()),
        "batches": sorted(map(int, measured["batch_size"].unique())),
        "data": {"answers": answers, "charts": specs},
    }


def _load_cells(load: Data) -> list[str]:
    return [load["process"], per_second(load["rate"]), milliseconds(load["p50_ms"]), milliseconds(load["p99_ms"])]


def quote(panels: Sequence[Data], context: Context) -> str:
    """Return how to quote the run: the first answer of each device, on what, with which versions."""
    parts = []
    for panel in panels:
        answers = panel["answers"]
        rows: list[Data] = next(
            (each["rows"] for each in steps_of(answers) if each["budget_ms"] == answers["configured_ms"]), []
        )
        if rows:
            first = rows[0]
            parts.append(
                f"{first['row']} holds {first['rate']} requests/s ({first['interval']}) with p99 within "
                f"{answers['configured_ms']:g} ms on {panel['hardware'].split(', driver')[0]}"
            )
    versions = context.libraries()
    return f"{'; '.join(parts) or 'No row was served'}. {context.model()}. {versions}."


def steps_of(answers: Data | None) -> list[Data]:
    """Return the budgets of a device that was served, none for another."""
    return list(answers["steps"]) if answers else []


def html_of(markdown: str) -> str:
    """Return Markdown as HTML, headings one level lower; HTML in it is shown as text."""
    from markdown_it import MarkdownIt

    lower = re.sub(r"^#", "##", markdown, flags=re.MULTILINE)
    return str(MarkdownIt("commonmark", {"html": False}).enable("table").render(lower))


def json_for_html(content: Any) -> str:
    """Return JSON that cannot end the script element that it stands in."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def libraries() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script."""
    import vl_convert

    return str(vl_convert.javascript_bundle(SNIPPET)).replace("</script", "<\\/script")
