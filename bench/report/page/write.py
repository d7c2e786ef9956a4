"""Put the page together: one HTML file with its data, its charts and all of its code inside."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bench.core.paths import RESULTS
from bench.findings.models import Panel
from bench.report.charts.chart import Chart
from bench.report.charts.measured import loads
from bench.report.charts.write import Charts
from bench.report.document import Block, Bullets, Code, Grid, Heading, Paragraph, Text, parts
from bench.report.figures import milliseconds, per_second
from bench.report.notes import notes_blocks
from bench.report.page import data
from bench.report.page.data import Data
from bench.report.sentences import left_out
from bench.report.shown import Shown
from bench.report.table import PANELS
from bench.summary.budgets import Curves

PAGE = RESULTS / "report.html"
HERE = Path(__file__).resolve().parent
SNIPPET = "window.vegaEmbed = vegaEmbed;"
"""What the script of the libraries ends with."""
TEMPLATE, STYLE, SCRIPT = "page.html.j2", "page.css", "page.js"


def render_page(shown: Shown, curves: Curves, charts: Charts, *, is_incomplete: bool = False) -> str:
    """Return results/report.html; `curves`: the points of each served row; `charts`: those of each device."""
    context, findings = shown.context, shown.findings
    measured = [panel for panel in findings.panels if panel.device in charts]
    panels = [_panel(panel, charts[panel.device], shown, curves) for panel in measured]
    html: str = template_in(HERE, TEMPLATE).render(
        stand_in=context.stand_in(),
        warning="" if context.is_real else f"The weights are random: {context.what_holds()}; predictions mean nothing.",
        is_incomplete=is_incomplete,
        head=data.head(context),
        panels=panels,
        quote=data.quote(findings.panels, context),
        notes=to_html(notes_blocks(shown), lower=1),
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


def _panel(panel: Panel, charts: Mapping[str, Chart], shown: Shown, curves: Curves) -> Data:
    """Return what the page shows of a device."""
    rows = [row for row in shown.summary if row.device == panel.device and row.status == "measured"]
    own = {variant: curves[variant] for variant in dict.fromkeys(row.variant for row in rows) if variant in curves}
    answers, specs = data.answers(panel.served), {name: chart.live() for name, chart in charts.items()}
    return {
        "device": panel.device,
        "title": PANELS[panel.device],
        "hardware": shown.context.device(panel.device),
        "answers": answers,
        "charts": specs,
        "loads": [_load_cells(load) for load in loads(own)] if answers else [],
        "table": data.table_of(shown, panel),
        "not_timed": list(map(inline, left_out(panel.not_timed))),
        **{f"{name}s": sorted({getattr(row, name) for row in rows}) for name in ("runtime", "precision")},
        "batches": sorted({int(row.batch_size) for row in rows}),
        "data": {"answers": answers, "charts": specs},
    }


def _load_cells(load: Data) -> list[str]:
    return [load["process"], per_second(load["rate"]), milliseconds(load["p50_ms"]), milliseconds(load["p99_ms"])]


def to_html(blocks: Iterable[Block], lower: int = 0) -> str:
    """Return blocks as HTML, headings lower by so many levels."""
    return "\n".join(_html(block, lower) for block in blocks)


def inline(text: Text) -> Any:
    """Return a text as HTML that no template escapes again, its names as code."""
    from markupsafe import Markup, escape

    return Markup("").join(
        Markup("<code>{}</code>").format(str(part)) if isinstance(part, Code) else escape(part) for part in parts(text)
    )


def _html(block: Block, lower: int) -> str:
    match block:
        case Heading():
            return f"<h{block.level + lower}>{inline(block.text)}</h{block.level + lower}>"
        case Paragraph():
            return f"<p>{inline(block.text)}</p>"
        case Bullets():
            return "\n".join(["<ul>", *(f"<li>{inline(item)}</li>" for item in block.items), "</ul>"])
        case Grid():
            heads = "".join(f'<th scope="col">{inline(title)}</th>' for title in block.titles)
            lines = ("".join(f"<td>{inline(cell)}</td>" for cell in row) for row in block.rows)
            body = "\n".join(f"<tr>{line}</tr>" for line in lines)
            return f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>\n{body}\n</tbody></table></div>'


def json_for_html(content: Any) -> str:
    """Return JSON that cannot end the script element that it stands in."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def libraries() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script."""
    import vl_convert

    return str(vl_convert.javascript_bundle(SNIPPET)).replace("</script", "<\\/script")
