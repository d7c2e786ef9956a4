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
WIDTHS, SCALE = (760, 330), 1.5
"""Width of the plot of one panel, and of each of two side by side, in CSS pixels; how many pixels each of them gets."""
CONFIG: Spec = {
    "font": "Liberation Sans, Arial, sans-serif",
    "axis": {"gridColor": "#e4e4e4"},
    "title": {"anchor": "start", "offset": 16},
    "view": {"stroke": None},
}


@dataclass(frozen=True)
class Chart:
    """Panels of one kind, each a Vega-Lite unit or layer without a width.

    `note`: how to read it.  `batches`: the batch sizes that a PNG shows of a chart of one batch size; the page shows
    the reader's.  `params`: the page's parameters that the chart follows, with their first values.
    """

    title: str
    note: str
    panels: Sequence[Spec]
    batches: Sequence[int] = ()
    params: Mapping[str, Any] = field(default_factory=dict)

    def live(self) -> list[Spec]:
        """Return a specification a panel, as wide as its place, that follows the page's parameters."""
        values = {**self.params, **({"batch": self.batches[0]} if self.batches else {})}
        size = {"width": "container", "autosize": {"type": "fit-x", "contains": "padding"}}
        shared = {"$schema": SCHEMA, "description": f"{self.title}. {self.note}.", "params": _params(values), **size}
        tests = [test for name, test in FILTERS.items() if name in values]
        return [
            {**shared, **_filtered(panel, tests), "title": self._title(panel.get("title", ""))} for panel in self.panels
        ]

    def picture(self, caption: str) -> Spec:
        """Return all panels as one specification, under the chart's title and a caption of one or more lines."""
        panels = list(self._panels_by_batch())
        columns = min(len(WIDTHS), len(panels))
        return {
            "$schema": SCHEMA,
            "title": self._title(*caption.splitlines()),
            "background": "white",
            "config": CONFIG,
            "params": _params({name: value for name, value in self.params.items() if name not in FILTERS}),
            "concat": [{**panel, "width": WIDTHS[columns - 1]} for panel in panels],
            "columns": columns,
        }

    def png(self, caption: str) -> bytes:
        """Draw the picture; the same chart gives the same bytes."""
        import vl_convert

        return bytes(vl_convert.vegalite_to_png(self.picture(caption), scale=SCALE))

    def _title(self, *lines: str) -> Spec:
        return {"text": self.title, "subtitle": [line for line in (*lines, self.note) if line]}

    def _panels_by_batch(self) -> Iterator[Spec]:
        if not self.batches:
            yield from self.panels
        for size in self.batches:
            for panel in self.panels:
                yield {**_filtered(panel, [f"datum.batch_size == {size}"]), "title": f"batch {size}"}


def _params(values: Mapping[str, Any]) -> list[Spec]:
    return [{"name": name, "value": value} for name, value in values.items()]


def _filtered(panel: Spec, tests: Iterable[str]) -> Spec:
    return {**panel, "transform": [{"filter": test} for test in tests]}
