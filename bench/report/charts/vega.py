"""A chart in Vega-Lite, with the colours, axes, layers and names that charts share."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import isotonic_regression

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
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
"""Of Okabe and Ito's colours (2008), told apart with any colour vision: those of the best five."""
SIXTH, GREY = "#56B4E9", "#9a9a9a"
ROW_STEP = 15
"""Height of a row of a chart that has a line for each row, in CSS pixels."""
TICKS = ((1.3, (1, 1.5, 2, 3, 5, 7)), (2.6, (1, 2, 5)), (4.0, (1, 3)))
"""Up to how many decades an axis has ticks at which multiples of powers of ten."""
MOST_DECADES = 7
PLAIN = "format(datum.value, datum.value >= 1000 ? ',.0f' : '~r')"
COLOUR: Spec = {"field": "colour", "type": "nominal", "scale": None, "legend": None}
"""Each record names its colour: there is nothing to look up in a legend."""
NAMES: Spec = {"labelLimit": 320, "grid": True, "ticks": False, "domain": False}
"""An axis of names."""
DASHED: Spec = {"strokeDash": [4, 4]}
BESIDE: Spec = {"align": "left", "baseline": "middle", "dx": 4}
"""A text to the right of its place."""


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
        panels = (_filtered(panel, tests) for panel in self.panels)
        return [{**shared, **panel, "title": self._title(panel.get("title", ""))} for panel in panels]

    def picture(self, caption: str) -> Spec:
        """Return all panels as one specification, under the chart's title and a caption of one or more lines."""
        at_each = [
            {**_filtered(panel, [f"datum.batch_size == {size}"]), "title": f"batch {size}"}
            for size in self.batches
            for panel in self.panels
        ]
        panels = at_each or self.panels
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


def _params(values: Mapping[str, Any]) -> list[Spec]:
    return [{"name": name, "value": value} for name, value in values.items()]


def _filtered(panel: Spec, tests: Iterable[str]) -> Spec:
    return {**panel, "transform": [{"filter": test} for test in tests]}


def layer(kind: str, encoding: Spec, *tests: str, data: Sequence[Any] | None = None, **look: Any) -> Spec:
    """Return a layer of one kind of mark, of the records that pass all tests; `data`: records of its own."""
    own = {} if data is None else {"data": {"values": data}}
    return _filtered({**own, "mark": {"type": kind, **look}, "encoding": encoding}, tests)


def upright_lines(x: Spec, texts: Mapping[float, str], align: str = "center") -> list[Spec]:
    """Return dashed lines at places of an axis, each with its text above the plot, aligned with its line."""
    data = [{x["field"]: at, "text": text} for at, text in texts.items()]
    text = {"x": x, "y": {"value": 0}, "text": {"field": "text"}}
    return [layer("rule", {"x": x}, data=data, **DASHED), layer("text", text, data=data, dy=-7, align=align)]


def axis(field: str, title: str, **more: Any) -> Spec:
    """Return a position of numbers."""
    return {"field": field, "type": "quantitative", "title": title, **more}


def log_axis(field: str, title: str, ends: tuple[float, float], **scale: Any) -> Spec:
    """Return a logarithmic position with plain numbers."""
    labels = {"values": log_ticks(*ends), "labelExpr": PLAIN, "labelOverlap": "greedy"}
    return axis(field, title, scale={"type": "log", "nice": False, "domain": list(ends), **scale}, axis=labels)


def interval(channel: str, place: Spec, low: str, high: str) -> Spec:
    """Return the two ends of a bar along an axis."""
    return {channel: {**place, "field": low}, f"{channel}2": {"field": high}}


def limits(values: Iterable[float | None], margin: float = 1.15, room: float = 0.0) -> tuple[float, float]:
    """Return where a logarithmic axis begins and ends that holds these values, and `room` at its end, a share of it."""
    known = list(filter(None, values))
    low, high = min(known) / margin, max(known) * margin
    return low, high * (high / low) ** room


def log_ticks(low: float, high: float) -> list[float]:
    """Return round numbers between two limits, few enough to be written side by side."""
    decades = math.log10(high / low)
    multiples = next((found for most, found in TICKS if decades <= most), (1,))
    step = max(1, math.ceil(decades / MOST_DECADES))
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1, step)
    return [value for power in powers for value in (many * 10.0**power for many in multiples) if low <= value <= high]


def colours(best_first: Iterable[str]) -> dict[str, str]:
    """Return the colour of each name: the best five have their own, the others are grey."""
    return {name: COLOURS[place] if place < len(COLOURS) else GREY for place, name in enumerate(best_first)}


def coloured(records: Iterable[Spec], best_first: Iterable[str]) -> list[Spec]:
    """Return the records with the colour of their variant, those of the best row last: it is drawn on top."""
    colour = colours(best_first)
    ordered = sorted(records, key=lambda each: -list(colour).index(each["variant"]))
    return [{**each, "colour": colour[each["variant"]]} for each in ordered]


def legend(field: str, colour: Mapping[str, str], **more: Any) -> Spec:
    """Return colours with a legend below the plot."""
    scale = {"domain": list(colour), "range": list(colour.values())}
    return {"field": field, "type": "nominal", "title": None, "scale": scale, "legend": {"orient": "bottom", **more}}


def spread_out(heights: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return places between `low` and `high` for names at these heights (ascending), at least `gap` apart, half of it
    from the ends.  They lie as near to the heights as they can: least squares, by isotonic regression of heights less
    the gaps below them.
    """
    gaps = gap * np.arange(len(heights))
    moved = isotonic_regression(np.asarray(heights, dtype=float) - gaps).x
    lowest, highest = low + gap / 2, high - gap / 2 - gaps[-1]
    return [float(place) for place in np.clip(moved, lowest, max(lowest, highest)) + gaps]


def tooltip(*fields: str) -> list[Spec]:
    """Return what is shown of a record under the pointer."""
    return [{"field": name, "type": "nominal"} for name in fields]
