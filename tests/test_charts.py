"""Every chart, as a specification and as a picture: all rows in it, five colours, names that do not touch."""

from __future__ import annotations

import json
import math
import random
import struct
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_report import context, row
from test_report import table as with_levels

from bench.findings.models import Alternative, Budget, Served
from bench.report.charts.lines import NAME_HEIGHT, PADDINGS, best_first, latency_by_batch, served, throughput_by_batch
from bench.report.charts.measured import Measured
from bench.report.charts.rows import PRECISIONS
from bench.report.charts.vega import GREY, Chart, log_ticks, spread_out
from bench.report.charts.write import CHARTS, SHARED, make_charts, write_charts
from bench.report.shown import shown_of
from bench.statistics.rate_curve import Point
from bench.summary.serving import COLUMNS as SERVED_COLUMNS
from bench.summary.serving import Tables

NOTHING = pd.DataFrame(columns=list(SERVED_COLUMNS))
"""No row under load."""
SIZES = (1, 4, 16, 64)
SLO_MS = 4.0
TABLES = ((5, 1), (22, 5), (40, 1), (40, 5))
"""How many rows, over how many decades of latency."""
GAP = 0.1


@cache
def made_up(rows: int, decades: int, sizes: tuple[int, ...] = SIZES) -> Measured:
    """Return measured rows of every padding and precision, the fastest first, a third of them served."""
    table = with_levels(*cells(rows, decades, sizes))
    names = list(dict.fromkeys(table["variant"]))
    curves = {name: curve(10 ** (1 + decades * place / rows)) for place, name in enumerate(names[: max(5, rows // 3)])}
    [panel] = shown_of(Tables(table, NOTHING, {}), context()).findings.panels
    rates = {name: own[2].rate for name, own in curves.items()}
    panel = panel.model_copy(update={"served": sustained(rates)})
    runs = {name: single_runs(own) for name, own in table.groupby("variant")}
    counts = pd.DataFrame({"tokens": [3, 7, 30], "sentences": [20, 4, 1]})
    return Measured(panel, table, replace(context(), sequence_length=32), runs, curves, counts)


def sustained(rates: dict[str, float]) -> Served:
    """Return rows under load that sustain these rates within the SLO, the last of them most."""
    held = [
        Alternative.model_construct(variant=name, requests_per_s=rate, low=rate / 2, high=None)
        for name, rate in reversed(rates.items())
    ]
    return Served.model_construct(budget_ms=SLO_MS, budgets=[Budget(budget_ms=SLO_MS, rows=held)])


def cells(rows: int, decades: int, sizes: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    noise = random.Random(rows)
    for place in range(rows):
        precision = list(PRECISIONS)[place % 5]
        for size in sizes:
            p50 = 10 ** (decades * place / max(1, rows - 1)) * (0.2 + 0.01 * size) * math.exp(noise.gauss(0, 0.01))
            ends = {
                f"{name}_{end}": p50 * share
                for name in ("p50", "p95")
                for end, share in (("low_ms", 0.9), ("high_ms", 1.5))
            }
            rates = {"samples_per_s_low": 700 * size / p50, "samples_per_s_high": 1100 * size / p50}
            right = {"accuracy": 0.9, "accuracy_low": 0.85, "accuracy_high": 0.95}
            more = {"p95_ms": 1.2 * p50, "gpu_busy_ms": 0.6 * p50, "tokens_computed": 30.0, "precision": precision}
            group = {"runtime": f"runtime_{place // 5}", "padding": list(PADDINGS)[place // 5 % 3]}
            name, processes = f"row_{place:02d}_cuda_{precision}_with_a_long_name", (p50 * 0.99, p50, p50 * 1.01)
            yield row(name, size, processes, **group, **more, **ends, **rates, **right)


def curve(per_s: float) -> list[Point]:
    steep = zip((0.3, 0.6, 0.9, 1.1), (1, 2, 4, 30), strict=True)
    return [Point(per_s * share, 1.0, 2.0, p99) for share, p99 in steep]


def single_runs(own: pd.DataFrame) -> pd.DataFrame:
    spread = np.linspace(0.9, 1.3, 40)
    sizes = ((cell.batch_size, cell.p50_ms * share) for cell in own.itertuples() for share in spread)
    return pd.DataFrame(list(sizes), columns=["batch", "latency_ms"])


@pytest.fixture(scope="module", params=TABLES, ids=lambda case: f"{case[0]}_rows_{case[1]}_decades")
def measured(request: pytest.FixtureRequest) -> Measured:
    return made_up(*request.param)


def charts_of(measured: Measured) -> dict[str, Chart]:
    return all_charts(*next(case for case in TABLES if made_up(*case) is measured))


@cache
def all_charts(rows: int, decades: int) -> dict[str, Chart]:
    made = {name: make(made_up(rows, decades)) for name, make in CHARTS.items()}
    assert all(made.values()), "a chart has nothing to show of these rows"
    return {name: chart for name, chart in made.items() if chart}


def records_in(spec: Any) -> Iterator[dict[str, Any]]:
    """Yield the records of a specification and of all that is in it."""
    if isinstance(spec, dict):
        yield from spec.get("data", {}).get("values", ())
        spec = list(spec.values())
    for each in spec if isinstance(spec, list) else ():
        yield from records_in(each)


def encodings_in(spec: Any, data: Any = ()) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Yield each encoding with the records that it is drawn from."""
    if isinstance(spec, dict):
        data = spec.get("data", {}).get("values", data)
        if "encoding" in spec:
            yield spec["encoding"], data
        for each in spec.get("layer", []):
            yield from encodings_in(each, data)


def test_a_chart_is_one_function_in_one_list(tmp_path: Path) -> None:
    rows = made_up(5, 1)
    charts = {"cuda": charts_of(rows)}
    write_charts(charts, rows.rows.assign(cell="a cell"), context(), tmp_path / "plots")
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (tmp_path / "plots").glob("*.png"))
    files = {path.stem for path in (tmp_path / "plots").glob("*.png")}
    assert files == {name if name in SHARED else f"cuda_{name}" for name in CHARTS}
    assert (tmp_path / "plots/measured.csv").exists()


def test_every_row_is_in_every_chart_of_rows(measured: Measured) -> None:
    charts = charts_of(measured)
    for name, chart in charts.items():
        shown = {each["variant"] for each in records_in(list(chart.panels)) if "variant" in each}
        if name == "served":
            assert shown == set(measured.curves)
        elif name not in ("precision_speedup", *SHARED):
            assert shown == set(measured.rows["variant"]), name


def test_lines_and_bars_have_at_most_five_colours(measured: Measured) -> None:
    for name, chart in charts_of(measured).items():
        for panel in chart.panels:
            colours = {each["colour"] for each in records_in(panel) if "colour" in each} - {GREY}
            scales = [
                encoding["color"].get("scale") or {} for encoding, _ in encodings_in(panel) if "color" in encoding
            ]
            assert max(len(colours), *(len(scale.get("range", ())) for scale in scales), 0) <= 5, name


def test_the_best_five_of_a_panel_have_the_colours() -> None:
    rows = made_up(22, 5)
    for panel in latency_by_batch(rows).panels:
        records = list(records_in(panel))
        order = best_first(records)
        assert order == sorted(order), "they were made from the fastest to the slowest"
        assert {each["variant"] for each in records if each["colour"] != GREY} == set(order[:5])


def test_what_is_encoded_is_in_the_data_and_on_the_axis(measured: Measured) -> None:
    for name, chart in charts_of(measured).items():
        for encoding, data in (found for panel in chart.panels for found in encodings_in(panel)):
            for channel, place in encoding.items():
                field = place.get("field") if isinstance(place, dict) else None
                if field is None or data == [{}]:
                    continue
                assert any(each.get(field) is not None for each in data), f"{name}: {channel} of {field}"
                domain = place.get("scale") and place["scale"].get("domain")
                if domain and place.get("type") == "quantitative" and name != "served":
                    values = [each[field] for each in data if each[field] is not None]
                    flat = [value for each in values for value in (each if isinstance(each, list) else [each])]
                    assert min(flat) >= domain[0], f"{name}: {field}"
                    assert max(flat) <= domain[1], f"{name}: {field}"


def test_names_beside_lines_never_touch(measured: Measured) -> None:
    for panel in latency_by_batch(measured).panels:
        low, high = map(math.log, panel["layer"][0]["encoding"]["y"]["scale"]["domain"])
        names = [each["name_y"] for each in records_in(panel) if each["name_y"] is not None]
        pixels = sorted((math.log(name) - low) / (high - low) * panel["height"] for name in names)
        assert len(pixels) == len({each["variant"] for each in records_in(panel)})
        assert all(above - below > NAME_HEIGHT - 0.01 for below, above in pairwise(pixels))
        assert pixels[0] > NAME_HEIGHT / 2 - 0.01
        assert pixels[-1] < panel["height"] - NAME_HEIGHT / 2 + 0.01


def test_every_panel_compiles_for_the_page() -> None:
    import vl_convert

    for name, chart in all_charts(40, 5).items():
        for spec in chart.live():
            assert spec["description"]
            assert vl_convert.vegalite_to_vega(spec)["marks"], name


def test_every_picture_is_drawn_whole() -> None:
    for name, chart in all_charts(40, 5).items():
        png = chart.png("a machine\nwith libraries")
        assert png.startswith(b"\x89PNG")
        width, height = struct.unpack(">II", png[16:24])
        assert 1000 < width < 2000, name
        assert height > 300, name


def test_a_picture_has_its_text_and_the_same_bytes_again() -> None:
    chart = latency_by_batch(made_up(5, 1))
    assert chart.png("a machine") == chart.png("a machine")
    assert chart.png("a machine") != chart.png("no machine"), "there is no font"


def test_the_page_filters_what_a_picture_shows() -> None:
    rows = made_up(5, 1)
    chart = charts_of(rows)["time_breakdown"]
    [live] = chart.live()
    assert {each["name"] for each in live["params"]} == {"batch", "runtimes", "precisions"}
    assert {"filter": "datum.batch_size == batch"} in live["transform"]
    titles = [panel["title"] for panel in chart.picture("")["concat"]]
    assert titles == ["batch 1", "batch 64"]
    assert "indexof" not in json.dumps(chart.picture(""))


def test_the_bars_of_the_slo_never_hide_one_another() -> None:
    rows = made_up(22, 1)
    chart = served(rows)
    assert chart is not None
    bars = chart.panels[0]["layer"][1]
    scale = bars["encoding"]["y"]["scale"]
    step = (scale["range"][1] - scale["range"][0]) / len(scale["domain"])
    assert step >= 10
    assert len(scale["domain"]) == len(set(scale["domain"])) == len(rows.curves)
    assert {each["variant"] for each in bars["data"]["values"]} == set(rows.curves)
    curves_end = chart.panels[0]["layer"][0]["layer"][1]["encoding"]["y"]["scale"]["range"][0]
    assert scale["range"][0] > curves_end, "no bar lies on a curve"


def test_a_row_that_misses_the_slo_has_a_curve_and_no_bar() -> None:
    rows = made_up(5, 1)
    name = next(iter(rows.curves))
    rates = {other: own[2].rate for other, own in rows.curves.items() if other != name}
    chart = served(replace(rows, panel=rows.panel.model_copy(update={"served": sustained(rates)})))
    assert chart is not None
    curves, bars = chart.panels[0]["layer"]
    assert name in {each.get("variant") for each in records_in(curves)}
    assert name in bars["encoding"]["y"]["scale"]["domain"]
    assert name not in {each["variant"] for each in records_in(bars)}
    overloaded = {name: [Point(100.0, 1.0, 2.0, 3.0, is_overloaded=True)]}
    assert served(replace(rows, curves=overloaded)) is None


def test_a_rate_without_an_interval_is_a_point() -> None:
    rows = made_up(5, 1)
    chart = served(rows)
    assert chart is not None
    for each in chart.panels[0]["layer"][1]["data"]["values"]:
        assert each["low"] == pytest.approx(each["rate"] / 2, rel=1e-5)
        assert each["high"] == each["rate"]


def test_throughput_has_its_own_interval() -> None:
    rows = made_up(5, 1)
    for each in records_in(list(throughput_by_batch(rows).panels)):
        assert each["samples_per_s_low"] == pytest.approx(700 * each["batch_size"] / each["p50_ms"], rel=1e-4)
    bars = throughput_by_batch(rows).panels[0]["layer"][0]["encoding"]
    assert (bars["y"]["field"], bars["y2"]["field"]) == ("samples_per_s_low", "samples_per_s_high")


def test_one_row_at_one_batch_size_without_intervals_is_drawn() -> None:
    table = with_levels(row("torch_cpu_fp32", 1, (10.0, 10.1)))
    [panel] = shown_of(Tables(table, NOTHING, {}), context()).findings.panels
    alone = Measured(panel, table, context())
    made = {name: chart for name, make in CHARTS.items() if (chart := make(alone))}
    assert set(made) == {"latency_by_batch", "throughput_by_batch", "throughput_by_p95"}
    assert all(chart.png("").startswith(b"\x89PNG") for chart in made.values())


def test_charts_are_made_for_each_device_with_measured_rows() -> None:
    table = with_levels(row("torch_cpu_fp32", 1, (10.0, 10.1)), row("ort_cuda_fp16", 1, (), status="failed"))
    assert set(make_charts(shown_of(Tables(table, NOTHING, {}), context()), table, {})) == {"cpu"}


@pytest.mark.parametrize("heights", [[1.0, 1.01, 1.02], [9.8, 9.9, 9.95, 10.0], [5.0] * 6, [1.0, 9.99, 9.995]])
def test_spread_names_stay_apart_and_inside(heights: list[float]) -> None:
    placed = spread_out(heights, GAP, 0.0, 10.0)
    assert min(placed) >= GAP / 2
    assert max(placed) <= 10.0
    assert all(second - first >= GAP * 0.999 for first, second in combinations(placed, 2))


def test_names_far_apart_stay_at_their_lines() -> None:
    assert spread_out([2.0, 4.0], GAP, 0.0, 10.0) == [2.0, 4.0]


@pytest.mark.parametrize(
    ("low", "high"), [(9.0, 11.0), (0.3, 4.0), (0.5, 90.0), (1.0, 9e3), (2e-4, 5e5), (1e-6, 1e12), (1.2, 1.3)]
)
def test_a_logarithmic_axis_has_numbers_and_not_too_many(low: float, high: float) -> None:
    ticks = log_ticks(low, high)
    assert len(ticks) <= 10
    assert all(low <= tick <= high for tick in ticks)
    assert len(ticks) >= 2 or high / low < 2
