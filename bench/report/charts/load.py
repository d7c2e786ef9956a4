"""Charts of what comes in: p99 by offered load, and how long the sentences are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from bench.report.charts.chart import Chart, Spec
from bench.report.charts.measured import Measured, Record, loads, sustained
from bench.report.charts.style import COLOUR, COLOURS, NAMES, axis, colours, layer, limits, log_axis, tooltip

CURVES_HEIGHT, BAR_HEIGHT, APART = 260, 18, 16
"""Of the plot of curves, of a row's bar below it, and between the two: in CSS pixels."""
FARTHEST = 30
"""A row that sustains no rate is tried down to a hundredth of the first: drawn is what lies within this factor below
the lowest rate that a row sustains, so that the others are not pressed together."""
HIGHEST = 10
"""Drawn are latencies up to this multiple of the SLO."""
HISTOGRAM_HEIGHT = 180
DASHED = {"strokeDash": [4, 4]}


def served(measured: Measured) -> Chart | None:
    """Return p99 by offered load, a line a process, and below it the rate that each row sustains within the SLO, with
    its interval; None where no rate was tried.
    """
    if not measured.answers:
        return None
    slo_ms: float = measured.answers["configured_ms"]
    held = [each for each in sustained(measured.answers) if each["variant"] in measured.curves]
    at_slo = [each for each in held if each["budget_ms"] == slo_ms]
    lowest = min((each["low"] for each in at_slo), default=0.0) / FARTHEST
    points = [each for each in loads(measured.curves) if each["rate"] >= lowest]
    if not points:
        return None
    colour = colours(dict.fromkeys([*(each["variant"] for each in at_slo), *map(str, measured.curves)]))
    x_values = [each["rate"] for each in points] + [each[end] for each in at_slo for end in ("low", "high")]
    low, high = limits([slo_ms, *(each["p99_ms"] for each in points)])
    x = log_axis("rate", "offered load (requests/s)", limits(x_values))
    y = log_axis("p99_ms", "p99 latency (ms)", (low, min(high, HIGHEST * slo_ms)), range=[CURVES_HEIGHT, 0])
    curves, bars = (_coloured(records, colour) for records in (points, held))
    x["axis"]["grid"] = False  # Vega would draw it below the bars alone
    ticks = [{"rate": tick} for tick in x["axis"]["values"]]
    grid = {"data": {"values": ticks}, **layer("rule", {"x": x}, opacity=0.12)}
    panel = {
        "height": CURVES_HEIGHT + APART + BAR_HEIGHT * len(colour),
        "layer": [{"layer": [grid, _curves(curves, x, y), _slo(y)]}, _bars(bars, x, colour)],
        "resolve": {"scale": {"y": "independent"}},
    }
    description = (
        "A line a process of each row: p99 latency against requests per second; dashed: the SLO. Below, for each row, "
        "the rate that it sustains within the SLO, with its 95% interval; no bar where it misses the SLO."
    )
    title, note = "p99 latency by offered load", "bars: the rate sustained within the SLO"
    return Chart(title, description, [panel], note, names=colour, params={"budget_ms": slo_ms})


def _coloured(records: Sequence[Record], colour: Mapping[str, str]) -> list[Record]:
    """Return the records with their colours, those of the best row last: it is drawn on top."""
    return [
        {**each, "colour": shown}
        for variant, shown in reversed(list(colour.items()))
        for each in records
        if each["variant"] == variant
    ]


def _curves(points: Sequence[Record], x: Spec, y: Spec) -> Spec:
    shown = {"detail": {"field": "process"}, "tooltip": tooltip("process", "rate", "p50_ms", "p99_ms")}
    look = {"point": {"size": 22, "clip": True}, "strokeWidth": 1.4, "clip": True}
    return {"data": {"values": points}, **layer("line", {"x": x, "y": y, "color": COLOUR, **shown}, **look)}


def _slo(y: Spec) -> Spec:
    """Return the line of the SLO, where its axis holds it, and its name beside it."""
    low, high = y["scale"]["domain"]
    is_inside = f"budget_ms >= {low} && budget_ms <= {high}"
    text = {"x": {"value": "width"}, "text": {"value": {"expr": "'SLO ' + budget_ms + ' ms'"}}}
    return {
        "data": {"values": [{}]},
        "transform": [{"calculate": "budget_ms", "as": "p99_ms"}, {"filter": is_inside}],
        "encoding": {"y": y},
        "layer": [layer("rule", {}, **DASHED), layer("text", text, align="left", baseline="middle", dx=4)],
    }


def _bars(held: Sequence[Record], x: Spec, colour: Mapping[str, str]) -> Spec:
    """Return a bar a row, each at a height of its own, so that none hides another."""
    top = CURVES_HEIGHT + APART
    scale = {"domain": list(colour), "range": [top, top + BAR_HEIGHT * len(colour)]}
    names = {**NAMES, "orient": "right", "labelColor": {"expr": f"{json.dumps(colour)}[datum.value]"}, "grid": False}
    place = {"field": "variant", "type": "nominal", "title": None, "scale": scale, "axis": names}
    bar = {"x": {**x, "field": "low"}, "x2": {"field": "high"}}
    fields = ("variant", "budget_ms", "rate", "low", "high")
    return {
        "data": {"values": held},
        "transform": [{"filter": "datum.budget_ms == budget_ms"}],
        "encoding": {"y": place, "color": COLOUR, "tooltip": tooltip(*fields)},
        "layer": [
            layer("rule", bar, strokeWidth=4, opacity=0.6),
            layer("point", {"x": x}, filled=True, size=50, opacity=1),
        ],
    }


def lengths(measured: Measured) -> Chart | None:
    """Return how many sentences have how many tokens, with the mean and the sequence length; None without counts."""
    if measured.counts is None:
        return None
    limit, tokens, sentences = measured.context.sequence_length, measured.counts["tokens"], measured.counts["sentences"]
    mean = float((tokens * sentences).sum() / sentences.sum())
    bars = [
        {"from": at - 0.5, "to": at + 0.5, "tokens": at, "sentences": many}
        for at, many in zip(tokens.tolist(), sentences.tolist(), strict=True)
    ]
    x = axis("from", "tokens of a sentence", scale={"domain": [0, limit + 2], "nice": False})
    y = axis("sentences", "sentences", axis={"tickMinStep": 1, "format": "d"})
    bar = {"x": x, "x2": {"field": "to"}, "y": y, "y2": {"datum": 0}, "tooltip": tooltip("tokens", "sentences")}
    marks = []
    for at, text, side, dx in ((mean, f"mean {mean:.1f}", "left", 4), (limit, "sequence length", "right", -4)):
        place = {"datum": at, "type": "quantitative"}
        name = layer("text", {"x": place, "y": {"value": 0}, "text": {"value": text}}, align=side, dx=dx, dy=6)
        marks += [layer("rule", {"x": place}, **DASHED), name]
    layers = [
        {"data": {"values": bars}, **layer("bar", bar, color=COLOURS[0])},
        {"data": {"values": [{}]}, "layer": marks},
    ]
    title = "Lengths of the sentences"
    return Chart(
        title,
        f"{title}, in tokens, with the mean and the sequence length.",
        [{"height": HISTOGRAM_HEIGHT, "layer": layers}],
    )
