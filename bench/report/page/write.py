"""Put the page together: one HTML file with its data, its charts and all of its code inside."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.core.paths import RESULTS
from bench.findings.models import Budget, Panel
from bench.report import words
from bench.report.charts.measured import loads
from bench.report.charts.vega import Chart
from bench.report.charts.write import Charts
from bench.report.columns import columns_of, proof_text
from bench.report.document import bullets, plain, to_html
from bench.report.notes import notes_blocks
from bench.report.shown import Shown
from bench.report.texts import taken_alone
from bench.summary.serving import Curves

PAGE = RESULTS / "report.html"
HERE = Path(__file__).resolve().parent
READ_BY_SCRIPT = ("answers", "charts")
LATENCIES = ("p50_ms", "p99_ms")
Data = dict[str, Any]


def render_page(shown: Shown, curves: Curves, charts: Charts) -> str:
    """Return results/report.html; `curves`: the points of each served row; `charts`: those of each device."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    context, findings = shown.context, shown.findings
    measured = [panel for panel in findings.panels if panel.device in charts]
    panels = [_panel(panel, charts[panel.device], shown, curves) for panel in measured]
    data = {panel["device"]: {name: panel[name] for name in READ_BY_SCRIPT} for panel in panels}
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html.j2").render(
        stand_in=context.stand_in(),
        warning="" if context.is_real else f"The weights are random: {context.what_holds()}; predictions mean nothing.",
        head=[f"Model: {context.model()}", *context.hardware_lines()],
        panels=panels,
        quote=_quote(shown),
        notes=to_html(notes_blocks(shown)),
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        # no text in it can end the script element that it stands in
        data=json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
        libraries=libraries(),
        script=(HERE / "page.js").read_text(encoding="utf-8"),
    )


def _panel(panel: Panel, charts: Mapping[str, Chart], shown: Shown, curves: Curves) -> Data:
    rows = [row for row in shown.summary if row.device == panel.device and row.status == "measured"]
    own = {variant: curves[variant] for variant in dict.fromkeys(row.variant for row in rows) if variant in curves}
    served = panel.served
    steps = list(map(_step, served.budgets)) if served else []
    answers = {"configured_ms": served.budget_ms, "steps": steps} if served and steps else None
    return {
        "device": panel.device,
        "title": words.PANELS[panel.device],
        "hardware": shown.context.device(panel.device),
        "answers": answers,
        "with_text": list(map(plain, words.with_text(served))) if served else [],
        "deploy": to_html([words.deploy_with(served, shown.context.is_real)]) if served and served.rows else "",
        "charts": {name: chart.live() for name, chart in charts.items()},
        "loads": [
            [load["variant"], words.per_second(load["rate"]), *(words.milliseconds(load[name]) for name in LATENCIES)]
            for load in (loads(own) if answers else [])
        ],
        "table": _table(shown, panel),
        "alone": taken_alone(shown),
        "warnings": list(map(plain, words.warnings(panel))),
        "not_timed": to_html([bullets(words.left_out(panel.not_timed))]),
        **{f"{name}s": sorted({getattr(row, name) for row in rows}) for name in ("runtime", "precision")},
        "batches": sorted({int(row.batch_size) for row in rows}),
    }


def _step(budget: Budget) -> Data:
    ties = [row.variant for row in budget.rows[1:] if row.variant not in budget.rows[0].fewer]
    answer = words.most_requests([(row.variant, row.requests_per_s) for row in budget.rows], ties, budget.budget_ms)
    rows = [
        {
            **row.model_dump(),
            "rate": words.per_second(row.requests_per_s),
            "memory": words.mebibytes(row.memory_mib),
            "interval": words.between(words.per_second, row.low, row.high),
        }
        for row in budget.rows
    ]
    return {"budget_ms": budget.budget_ms, "rows": rows, "text": plain(answer)}


def _table(shown: Shown, panel: Panel) -> Data:
    timed = shown.timed(panel)
    columns = columns_of("page", timed)
    heads = [{"title": column.heading, "is_first": "rows" in column.tables} for column in columns.values()]
    cells = (
        [proof_text(view) if key == "proof" else plain(column.write(view)) for key, column in columns.items()]
        for view in timed
    )
    return {"columns": heads, "rows": [{**view, "cells": own} for view, own in zip(timed, cells, strict=True)]}


def _quote(shown: Shown) -> str:
    context, parts = shown.context, []
    for panel in shown.findings.panels:
        if panel.served and panel.served.rows:
            first, within = shown.served(panel.served)[0], f"with p99 within {panel.served.budget_ms:g} ms"
            interval = words.between(words.per_second, first["requests_per_s_low"], first["requests_per_s_high"])
            rate = f"sustains {words.per_second(first['requests_per_s'])} requests/s ({interval})"
            parts.append(f"{first['variant']} {rate} {within} on {context.hardware(panel.device)}")
    return f"{'; '.join(parts) or 'No row was served'}. {context.model()}. {context.libraries()}."


def libraries() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script."""
    import vl_convert

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")).replace("</script", "<\\/script")
