"""A chart: Vega-Lite panels that become one PNG, or live figures of the page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Spec = dict[str, Any]
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
"""The name of the language; nothing is fetched from there."""
FILTERS = {
    "batch": "datum.batch_size == batch",
    "runtimes": "indexof(runtimes, datum.runtime) >= 0",
    "precisions": "indexof(precisions, datum.precision) >= 0",
}
"""What the page's parameters leave of a chart's records."""
WIDTH, SCALE = 1000, 1.5
"""Width of a picture in CSS pixels, and how many pixels each of them gets."""
AXIS_WIDTH, CHARACTER_WIDTH = 70, 5.6
CONFIG: Spec = {
    "font": "Liberation Sans, Arial, sans-serif",
    "axis": {"gridColor": "#e4e4e4"},
    "title": {"anchor": "start", "offset": 16},
    "view": {"stroke": None},
}


@dataclass(frozen=True)
class Chart:
    """Panels of one kind, each a Vega-Lite unit or layer without a width.

    `note`: how to read it, under the title.  `names`: what stands beside the plots.  `batches`: the batch sizes that a
    PNG shows of a chart of one batch size; the page shows the reader's.  `params`: the page's parameters that the chart
    follows, with their first values.
    """

    title: str
    description: str
    panels: Sequence[Spec]
    note: str = ""
    columns: int = 1
    names: Iterable[str] = ()
    batches: Sequence[int] = ()
    params: Mapping[str, Any] = field(default_factory=dict)

    def live(self) -> list[Spec]:
        """Return a specification a panel, as wide as its place, that follows the page's parameters."""
        values = {**self.params, **({"batch": self.batches[0]} if self.batches else {})}
        size = {"width": "container", "autosize": {"type": "fit-x", "contains": "padding"}}
        tests = [test for name, test in FILTERS.items() if name in values]
        shared = {"$schema": SCHEMA, "description": self.description, "params": _params(values), **size}
        return [
            {**shared, **_filtered(panel, tests), "title": self._title(panel.get("title", ""))} for panel in self.panels
        ]

    def picture(self, caption: str) -> Spec:
        """Return all panels as one specification, under the chart's title and a caption of one or more lines."""
        panels = list(self._panels_by_batch())
        columns = min(self.columns, len(panels))
        width = WIDTH / columns - AXIS_WIDTH - CHARACTER_WIDTH * max(map(len, self.names), default=0)
        return {
            "$schema": SCHEMA,
            "title": self._title(*caption.splitlines()),
            "background": "white",
            "config": CONFIG,
            "params": _params({name: value for name, value in self.params.items() if name not in FILTERS}),
            "concat": [{**panel, "width": round(width)} for panel in panels],
            "columns": columns,
        }

    def png(self, caption: str) -> bytes:
        """Draw the picture; the same chart gives the same bytes."""
        import vl_convert

        return bytes(vl_convert.vegalite_to_png(self.picture(caption), scale=SCALE))

    def _title(self, *lines: str) -> Spec:
        return {"text": self.title, "subtitle": [line for line in (*lines, self.note) if line]}

    def _panels_by_batch(self) -> Iterator[Spec]:
        for panel in self.panels:
            for size in self.batches:
                yield {**_filtered(panel, [f"datum.batch_size == {size}"]), "title": f"batch {size}"}
            if not self.batches:
                yield panel


def _params(values: Mapping[str, Any]) -> list[Spec]:
    return [{"name": name, "value": value} for name, value in values.items()]


def _filtered(panel: Spec, tests: Iterable[str]) -> Spec:
    return {**panel, "transform": [*({"filter": test} for test in tests), *panel.get("transform", [])]}
