"""Charts of lines, the best five rows in colour: by batch size a panel a padding, each name beside its line's end; by
load a panel above the rate that each row sustains.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from bench.report.charts import vega
from bench.report.charts.measured import Measured, Record, loads, speed_ups, sustained, written
from bench.report.charts.vega import Chart, Spec

PADDINGS = {"fixed": "fixed padding", "longest": "dynamic padding", "none": "packed (varlen)"}
LEAST_HEIGHT, NAME_HEIGHT = 240, 13
"""Of a plot, and of a name beside it: in CSS pixels."""
ROOM, APART = 0.08, 0.04
"""Shares of the axis: between the last batch size and the names, and between the first and last row's bars."""
CURVES_HEIGHT, BAR_HEIGHT, GAP = 260, 18, 16
"""Of the plot of curves, of a row's bar below it, and between the two: in CSS pixels."""
FARTHEST = 30
"""A row that sustains no rate is tried down to a hundredth of the first: drawn is what lies within this factor below
the lowest rate that a row sustains, so that the others are not pressed together."""
HIGHEST = 10
"""Drawn are latencies up to this multiple of the SLO."""
NOTE = "bars: 95% intervals for another run"


class Figure(NamedTuple):
    """A figure with the limits of its interval, and what an axis calls it."""

    value: str
    low: str
    high: str
    title: str

    def axis(self, cells: Iterable[Record], room: float = 0.0) -> Spec:
        """Return an axis that holds the figure, its interval, and room at its end as a share of them."""
        ends = vega.limits((cell[name] for cell in cells for name in self[:3]), room=room)
        return vega.log_axis(self.value, self.title, ends)


P50 = Figure("p50_ms", "p50_low_ms", "p50_high_ms", "p50 latency (ms)")
P95 = Figure("p95_ms", "p95_low_ms", "p95_high_ms", "p95 latency (ms), the smallest batch first")
THROUGHPUT = Figure("samples_per_s", "samples_per_s_low", "samples_per_s_high", "throughput (samples/s)")
SPEED_UP = Figure("speed_up", "low", "high", "speed-up over FP32")


def latency_by_batch(measured: Measured) -> Chart:
    """Return p50 by batch size, with 95% intervals for another run."""
    return _by_batch("Latency by batch size", P50, measured.cells, measured)


def throughput_by_batch(measured: Measured) -> Chart:
    """Return samples per second by batch size, with 95% intervals for another run."""
    return _by_batch("Throughput by batch size", THROUGHPUT, measured.cells, measured)


def precision_speedup(measured: Measured) -> Chart | None:
    """Return the speed-up of lower precisions over FP32 by batch size; None where no runtime has two precisions."""
    cells = list(speed_ups(measured.panel.precisions))
    one = vega.layer("rule", {"y": {"datum": 1}}, data=[{}], **vega.DASHED)
    return _by_batch("Speed-up of lower precisions over FP32", SPEED_UP, cells, measured, [one]) if cells else None


def throughput_by_p95(measured: Measured) -> Chart | None:
    """Return samples per second against p95 with the latency budgets; None where no p95 is known."""
    cells = [cell for cell in measured.cells if cell["p95_ms"] is not None]
    if not cells:
        return None
    x = P95.axis(cells, ROOM)
    low, high = x["scale"]["domain"]
    budgets = {ms: f"{ms:g}" for ms in measured.context.settings.slo_p95_ms if low < ms < high}
    bars = vega.interval("x", x, P95.low, P95.high)
    layers = [*vega.upright_lines(x, budgets), *_layers(x, THROUGHPUT.axis(cells), bars)]
    return _chart("Throughput against p95 latency", f"{NOTE}; dashed: latency budgets (ms)", cells, layers, measured)


def _by_batch(
    title: str, figure: Figure, cells: Sequence[Record], measured: Measured, below: Sequence[Spec] = ()
) -> Chart:
    sizes = sorted({cell["batch_size"] for cell in cells})
    x, y = vega.log_axis("x", "batch size", vega.limits(sizes, room=ROOM), base=2), figure.axis(cells)
    x["axis"] = {**x["axis"], "values": sizes}
    bars = vega.interval("y", y, figure.low, figure.high)
    return _chart(title, NOTE, cells, [*below, *_layers(x, y, bars)], measured)


def _layers(x: Spec, y: Spec, bars: Spec) -> list[Spec]:
    position = {"x": x, "y": y, "color": vega.COLOUR}
    low, high = (place["field"] for place in bars.values())
    fields = ("variant", "batch_size", x["field"], y["field"], low, high, "verdict", "proof")
    line = {"detail": {"field": "variant"}, "order": {"field": "batch_size"}, "tooltip": vega.tooltip(*fields)}
    is_end, is_grey = "isValid(datum.name_y)", {"test": f"datum.colour == '{vega.GREY}'", "value": 0.65}
    leader = {"x2": {"value": "width"}, "y2": {"field": "name_y"}}
    name = {"x": {"value": "width"}, "y": {**y, "field": "name_y"}, "text": {"field": "variant"}}
    return [
        vega.layer("rule", {**position, **bars}, f"isValid(datum.{low})", opacity=0.7),
        vega.layer("line", {**position, **line}, point={"size": 22}, strokeWidth=1.6),
        vega.layer("rule", {**position, **leader}, is_end, strokeDash=[1, 2]),
        vega.layer("text", {**name, "opacity": {"condition": is_grey, "value": 1}}, is_end, **vega.BESIDE),
    ]


def _chart(title: str, note: str, cells: Sequence[Record], layers: Sequence[Spec], measured: Measured) -> Chart:
    """Return a panel a padding; the last of the layers writes the names."""
    panels = {padding: [cell for cell in cells if cell["padding"] == padding] for padding in PADDINGS}
    height = max(LEAST_HEIGHT, *(NAME_HEIGHT * len({cell["variant"] for cell in own}) for own in panels.values()))
    y, shown = layers[-2]["encoding"]["y"], []
    for padding, own in panels.items():
        if own:
            data = {"values": _named(_coloured(own), y, height)}
            shown.append({"title": PADDINGS[padding] + _tokens(own), "height": height, "data": data, "layer": layers})
    return Chart(title, note, shown, params=measured.chosen())


def best_first(cells: Sequence[Record]) -> list[str]:
    """Return the rows by how far they are from the best p50 or speed-up of each batch size (geometric mean)."""
    sign, field = (-1, "speed_up") if "speed_up" in cells[0] else (1, "p50_ms")
    best: dict[int, float] = {}
    behind: dict[str, list[float]] = {}
    for cell in sorted(cells, key=lambda each: sign * float(each[field])):
        log = sign * math.log(cell[field])
        behind.setdefault(cell["variant"], []).append(log - best.setdefault(cell["batch_size"], log))
    return sorted(behind, key=lambda variant: fmean(behind[variant]))


def _coloured(cells: Sequence[Record]) -> list[Record]:
    """Return the records of a panel with their colours, row by row and by batch size.

    `x` is the batch size, shifted a little from row to row, so that the bars of one batch size do not hide one another.
    """
    order, ordered = best_first(cells), sorted(cells, key=lambda cell: int(cell["batch_size"]))
    step = (ordered[-1]["batch_size"] / ordered[0]["batch_size"]) ** (APART / len(order))
    shift = {variant: step ** (place - (len(order) - 1) / 2) for place, variant in enumerate(order)}
    moved = ({**cell, "x": written(cell["batch_size"] * shift[cell["variant"]])} for cell in ordered)
    return vega.coloured(moved, order)


def _named(cells: Sequence[Record], y: Spec, height: int) -> list[Record]:
    """Return the records by row and batch size, the last of each row with the height of its name: no two touch."""
    low, high = map(math.log, y["scale"]["domain"])
    ends = sorted({cell["variant"]: cell for cell in cells}.values(), key=lambda cell: float(cell[y["field"]]))
    heights = [math.log(cell[y["field"]]) for cell in ends]
    places = vega.spread_out(heights, (high - low) * NAME_HEIGHT / height, low, high)
    found = {id(cell): math.exp(place) for cell, place in zip(ends, places, strict=True)}
    return [{**cell, "name_y": found.get(id(cell))} for cell in cells]


def _tokens(cells: Sequence[Record]) -> str:
    """Say how many tokens a sentence the rows of a panel compute, padding included, where it is known."""
    known = sorted(round(cell["tokens_computed"]) for cell in cells if cell.get("tokens_computed"))
    ends = " to ".join(map(str, dict.fromkeys([*known[:1], *known[-1:]])))
    return f", {ends} tokens per sentence" if known else ""


def served(measured: Measured) -> Chart | None:
    """Return p99 by offered load, a line a row, and below it the rate that each row sustains within the SLO, with
    its interval; None where no rate was tried.
    """
    found = measured.panel.served
    if found is None or not found.budgets:
        return None
    slo_ms = found.budget_ms
    held = [each for each in sustained(found) if each["variant"] in measured.curves]
    at_slo = [each for each in held if each["budget_ms"] == slo_ms]
    lowest = min((each["low"] for each in at_slo), default=0.0) / FARTHEST
    points = [each for each in loads(measured.curves) if each["rate"] >= lowest]
    if not points:
        return None
    colour = vega.colours(dict.fromkeys([*(each["variant"] for each in at_slo), *map(str, measured.curves)]))
    ends = vega.limits([*(each["rate"] for each in points), *(each[end] for each in at_slo for end in ("low", "high"))])
    x = vega.log_axis("rate", "offered load (requests/s)", ends)
    x["axis"]["grid"] = False  # Vega would draw it below the bars alone
    grid = vega.layer("rule", {"x": x}, data=[{"rate": tick} for tick in x["axis"]["values"]], opacity=0.12)
    low, high = vega.limits([slo_ms, *(each["p99_ms"] for each in points)])
    y = vega.log_axis("p99_ms", "p99 latency (ms)", (low, min(high, HIGHEST * slo_ms)), range=[CURVES_HEIGHT, 0])
    shown = {"detail": {"field": "variant"}, "tooltip": vega.tooltip("variant", "rate", "p50_ms", "p99_ms")}
    look = {"point": {"size": 22, "clip": True}, "strokeWidth": 1.4, "clip": True}
    lines = {"x": x, "y": y, "color": vega.COLOUR, **shown}
    curves = vega.layer("line", lines, data=vega.coloured(points, colour), **look)
    panel = {
        "height": CURVES_HEIGHT + GAP + BAR_HEIGHT * len(colour),
        "layer": [{"layer": [grid, curves, *_slo(y)]}, _bars(vega.coloured(held, colour), x, colour)],
        "resolve": {"scale": {"y": "independent"}},
    }
    note = "bars: the rate sustained within the SLO, with its 95% interval"
    return Chart("p99 latency by offered load", note, [panel], params={"budget_ms": slo_ms})


def _slo(y: Spec) -> list[Spec]:
    """Return the line of the SLO, where the axis holds it, and its name beside it."""
    low, high = y["scale"]["domain"]
    place = {"y": {"datum": {"expr": "budget_ms"}, "type": "quantitative"}}
    text = {"value": {"expr": "'SLO ' + budget_ms + ' ms'"}}
    is_inside = f"budget_ms >= {low} && budget_ms <= {high}"
    name = {**place, "x": {"value": "width"}, "text": text}
    return [
        vega.layer("rule", place, is_inside, data=[{}], **vega.DASHED),
        vega.layer("text", name, is_inside, data=[{}], **vega.BESIDE),
    ]


def _bars(held: Sequence[Record], x: Spec, colour: Mapping[str, str]) -> Spec:
    """Return a bar a row, each at a height of its own, so that none hides another."""
    top = CURVES_HEIGHT + GAP
    scale = {"domain": list(colour), "range": [top, top + BAR_HEIGHT * len(colour)]}
    label = {"expr": f"{json.dumps(colour)}[datum.value]"}
    names = {**vega.NAMES, "orient": "right", "labelColor": label, "grid": False}
    place = {"field": "variant", "type": "nominal", "title": None, "scale": scale, "axis": names}
    shown = {"y": place, "color": vega.COLOUR, "tooltip": vega.tooltip("variant", "budget_ms", "rate", "low", "high")}
    return {
        "data": {"values": held},
        "transform": [{"filter": "datum.budget_ms == budget_ms"}],
        "encoding": shown,
        "layer": [
            vega.layer("rule", vega.interval("x", x, "low", "high"), strokeWidth=4, opacity=0.6),
            vega.layer("point", {"x": x}, filled=True, size=50, opacity=1),
        ],
    }
