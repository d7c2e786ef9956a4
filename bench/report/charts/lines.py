"""Charts of lines: a panel a padding, the best five rows in colour, each name beside its line's end."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import NamedTuple

from bench.report.charts.chart import Chart, Spec
from bench.report.charts.measured import Measured, Record, speed_ups, written
from bench.report.charts.style import COLOUR, GREY, colours, layer, limits, log_axis, spread_out, tooltip

PADDINGS = {"fixed": "fixed padding", "longest": "dynamic padding", "none": "packed (varlen)"}
LEAST_HEIGHT, NAME_HEIGHT = 240, 13
"""Of a plot, and of a name beside it: in CSS pixels."""
ROOM, APART = 0.08, 0.04
"""Shares of the axis: between the last batch size and the names, and between the first and last row's bars."""
DASHED = {"strokeDash": [4, 4]}
NOTE = "bars: 95% intervals for another run"


class Figure(NamedTuple):
    """A figure with the limits of its interval, and what an axis calls it."""

    value: str
    low: str
    high: str
    title: str

    def ends(self, cells: Iterable[Record]) -> tuple[float, float]:
        """Return where an axis begins and ends that holds the figure and its interval."""
        return limits(cell[name] for cell in cells for name in self[:3])


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
    cells = list(speed_ups(measured.rows))
    one = {"data": {"values": [{}]}, **layer("rule", {"y": {"datum": 1}}, **DASHED)}
    return _by_batch("Speed-up of lower precisions over FP32", SPEED_UP, cells, measured, [one]) if cells else None


def throughput_by_p95(measured: Measured) -> Chart | None:
    """Return samples per second against p95 with the latency budgets; None where no p95 is known."""
    cells = [cell for cell in measured.cells if cell["p95_ms"] is not None]
    if not cells:
        return None
    low, high = _with_room(P95.ends(cells))
    x, y = (
        log_axis(each.value, each.title, ends)
        for each, ends in ((P95, (low, high)), (THROUGHPUT, THROUGHPUT.ends(cells)))
    )
    budgets = [{"p95_ms": ms, "text": f"{ms:g} ms"} for ms in measured.context.settings.slo_p95_ms if low < ms < high]
    text = layer("text", {"x": x, "y": {"value": 0}, "text": {"field": "text"}}, dy=-7)
    slo = {"data": {"values": budgets}, "layer": [layer("rule", {"x": x}, **DASHED), text]}
    return _chart(
        "Throughput against p95 latency", cells, (x, y), ("x", P95), measured, [slo], NOTE + "; dashed: latency budgets"
    )


def _by_batch(
    title: str, figure: Figure, cells: Sequence[Record], measured: Measured, more: Sequence[Spec] = ()
) -> Chart:
    sizes = sorted({cell["batch_size"] for cell in cells})
    x = log_axis("x", "batch size", _with_room(limits(sizes)), base=2)
    x["axis"] = {**x["axis"], "values": sizes}
    y = log_axis(figure.value, figure.title, figure.ends(cells))
    return _chart(title, cells, (x, y), ("y", figure), measured, more)


def _with_room(ends: tuple[float, float]) -> tuple[float, float]:
    low, high = ends
    return low, high * (high / low) ** ROOM


def _chart(  # noqa: PLR0917
    title: str,
    cells: Sequence[Record],
    position: tuple[Spec, Spec],
    interval: tuple[str, Figure],
    measured: Measured,
    more: Sequence[Spec],
    note: str = NOTE,
) -> Chart:
    """Return a panel a padding; `interval`: the axis that has one, and of which figure.  `more`: layers below."""
    panels = {padding: [cell for cell in cells if cell["padding"] == padding] for padding in PADDINGS}
    height = max(LEAST_HEIGHT, *(NAME_HEIGHT * len({cell["variant"] for cell in own}) for own in panels.values()))
    shown = [
        {
            "title": f"{PADDINGS[padding]}{_tokens(own)}",
            "height": height,
            "data": {"values": _named(_coloured(own), position[1], height)},
            "layer": [*more, *_layers(*position, *interval)],
        }
        for padding, own in panels.items()
        if own
    ]
    names = {cell["variant"] for cell in cells}
    return Chart(title, f"{title}: a line a row; {note}.", shown, note, 2, names, params=measured.chosen())


def _layers(x: Spec, y: Spec, along: str, figure: Figure) -> list[Spec]:
    """Return the bars of intervals, the lines, and the names with what leads to them."""
    position = {"x": x, "y": y, "color": COLOUR}
    bar = {along: {**position[along], "field": figure.low}, f"{along}2": {"field": figure.high}}
    names = ("variant", "batch_size", y["field"], *figure[:3], "verdict", "proof")
    line = {"detail": {"field": "variant"}, "order": {"field": "batch_size"}, "tooltip": tooltip(*names)}
    is_end, is_grey = "isValid(datum.name_y)", {"test": f"datum.colour == '{GREY}'", "value": 0.65}
    name = {"x": {"value": "width"}, "y": {**y, "field": "name_y"}, "text": {"field": "variant"}}
    leader = {"x2": {"value": "width"}, "y2": {"field": "name_y"}}
    return [
        layer("rule", {**position, **bar}, f"isValid(datum.{figure.low})", opacity=0.7),
        layer("line", {**position, **line}, point={"size": 22}, strokeWidth=1.6),
        layer("rule", {**position, **leader}, is_end, strokeDash=[1, 2]),
        layer(
            "text",
            {**name, "opacity": {"condition": is_grey, "value": 1}},
            is_end,
            align="left",
            baseline="middle",
            dx=4,
        ),
    ]


def best_first(cells: Sequence[Record]) -> list[str]:
    """Return the rows by how far they are from the best at each batch size, geometric mean, nearest first.

    The lowest p50 is the best, and of speed-ups the highest.
    """
    sign, field = (-1, "speed_up") if "speed_up" in cells[0] else (1, "p50_ms")
    logs = [(cell["variant"], cell["batch_size"], sign * math.log(cell[field])) for cell in cells]
    best = {size: min(log for _, other, log in logs if other == size) for size in {size for _, size, _ in logs}}
    behind: dict[str, list[float]] = {}
    for variant, size, log in logs:
        behind.setdefault(variant, []).append(log - best[size])
    return sorted(behind, key=lambda variant: fmean(behind[variant]))


def _coloured(cells: Sequence[Record]) -> list[Record]:
    """Return the records of a panel with their colours by batch size, the best row last: it is drawn on top.

    `x` is the batch size, shifted a little from row to row, so that the bars of one batch size do not hide one another.
    """
    order, sizes = best_first(cells), [cell["batch_size"] for cell in cells]
    step = (max(sizes) / min(sizes)) ** (APART / len(order))
    found = []
    for place, (variant, colour) in reversed(list(enumerate(colours(order).items()))):
        shift = step ** (place - (len(order) - 1) / 2)
        own = sorted((cell for cell in cells if cell["variant"] == variant), key=lambda cell: int(cell["batch_size"]))
        found += [{**cell, "colour": colour, "x": written(cell["batch_size"] * shift)} for cell in own]
    return found


def _named(cells: Sequence[Record], y: Spec, height: int) -> list[Record]:
    """Return the records by row and batch size, the last of each row with the height of its name: no two touch."""
    low, high = map(math.log, y["scale"]["domain"])
    ends = sorted({cell["variant"]: cell for cell in cells}.values(), key=lambda cell: float(cell[y["field"]]))
    heights = [math.log(cell[y["field"]]) for cell in ends]
    places = spread_out(heights, (high - low) * NAME_HEIGHT / height, low, high)
    found = {id(cell): math.exp(place) for cell, place in zip(ends, places, strict=True)}
    return [{**cell, "name_y": found.get(id(cell))} for cell in cells]


def _tokens(cells: Sequence[Record]) -> str:
    """Say how many tokens a sentence the rows of a panel compute, padding included, where it is known."""
    known = sorted(round(cell["tokens_computed"]) for cell in cells if cell.get("tokens_computed"))
    if not known:
        return ""
    return f", {' to '.join(map(str, dict.fromkeys([known[0], known[-1]])))} tokens per sentence"
