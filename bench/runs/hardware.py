"""Compare recorded runs: each machine's best row, the same row on all, as a chart too, and where the winner changes."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.findings.served import sustaining
from bench.findings.timed import cell_of
from bench.report.charts import vega
from bench.report.charts.measured import written
from bench.report.charts.vega import Chart, Spec
from bench.report.document import table_lines
from bench.report.words import MISSING, PANELS, milliseconds, nearest, per_second, with_interval
from bench.runs.recorded_runs import RecordedRun, comparable
from bench.statistics.intervals import t_quantile
from bench.summary.comparisons import fastest_and_ties

LIBRARIES = ("torch", "onnxruntime", "openvino", "tensorrt")
MACHINE = ("run", "GPU", "CPU", "system", *LIBRARIES, "model")
Cells = dict[str, dict[tuple[Any, ...], str]]
"""Of each run the texts of a table, by batch size and variant, or by variant alone."""


def render_hardware(runs: list[RecordedRun]) -> str:
    """Return results/hardware.md."""
    lines = ["# Recorded runs side by side", ""]
    if not runs:
        return "\n".join([*lines, "No run is recorded: `python run.py record NAME` keeps the last one.", ""])
    compared, others = comparable(runs)
    lines += [*table_lines(MACHINE, MACHINE, map(_machine, runs)), ""]
    remarks = [f"- `{name}` is not compared: {reason}." for name, reason in others.items()]
    sentences = {run.context.provenance["sentences"] for run in compared if run.context.lengths}
    if len(sentences) > 1:
        remarks.append("- Their sentences differ, and with them the lengths: compare rows of fixed padding alone.")
    lines += [*remarks, ""] if remarks else []
    for device, title in PANELS.items():
        measured = {f"`{run.name}`": rows for run in compared if len(rows := run.measured(device))}
        if measured:
            lines += [f"## {title}", "", *_served(compared, device), *_winners(measured), "", *_same_rows(measured), ""]
            lines += between_nodes(compared, device)
    return "\n".join(lines)


def _machine(run: RecordedRun) -> list[str]:
    return [
        f"[`{run.name}`](../runs/{run.name}/README.md)",
        run.context.hardware("cuda"),
        run.context.hardware("cpu"),
        run.context.environment["os"],
        *(run.context.environment["versions"].get(name) or MISSING for name in LIBRARIES),
        run.context.provenance["model"],
    ]


def _served(runs: list[RecordedRun], device: str) -> Iterator[str]:
    rates: Cells = {}
    for run in runs:
        if rows := sustaining(list(run.serving.query(f"device == '{device}'").itertuples())):
            rates[f"`{run.name}`, p99 within {rows[0].budget_ms:g} ms"] = {
                (row.variant,): with_interval(
                    per_second, row.requests_per_s, row.requests_per_s_low, row.requests_per_s_high
                )
                for row in rows
            }
    if rates:
        yield from ["Requests per second within the latency budget (95% interval):", ""]
        yield from [*_side_by_side(["variant"], rates), ""]


def _side_by_side(names: list[str], cells: Cells) -> Iterator[str]:
    """Yield the lines of a table with a column a run, by the values of the columns `names`, the last a variant."""
    keys = dict.fromkeys(key for own in cells.values() for key in own)
    lines = (
        [*map(str, key), *(own.get(key, MISSING) for own in cells.values())]
        for key in sorted(keys, key=lambda key: key[:-1])
    )
    yield from table_lines([*names, *cells], ["variant"], lines)


def _winners(measured: dict[str, pd.DataFrame]) -> Iterator[str]:
    """Yield the fastest row of each run at each batch size, then where no row is the fastest everywhere."""
    columns = list(measured)
    best = {
        size: [fastest_and_ties(rows[rows["batch_size"] == size].itertuples()) for rows in measured.values()]
        for size in sorted({int(size) for rows in measured.values() for size in rows["batch_size"]})
    }
    lines = ([str(size), *map(_winners_text, found)] for size, found in best.items())
    yield from table_lines(["batch", *columns], columns, lines)
    yield ""
    if len(measured) < 2:
        return
    changes = []
    for size, found in best.items():
        there = {name: rows for name, rows in zip(columns, found, strict=True) if rows}
        if not set.intersection(*({row.variant for row in rows} for rows in there.values())):
            parts = (f"`{rows[0].variant}` on {name}" for name, rows in there.items())
            changes.append(f"- Batch {size}: {', '.join(parts)}.")
    if changes:
        yield from ["No row is the fastest everywhere, ties counted, at these batch sizes:", "", *changes]
    else:
        yield "At every batch size one row is the fastest on all of them, or not significantly slower than it."


def _winners_text(rows: list[Any]) -> str:
    if not rows:
        return MISSING
    row, *ties = rows
    same = f"; no significant difference to {nearest([cell_of(row) for row in ties])}" if ties else ""
    return f"`{row.variant}` {milliseconds(row.p50_ms)} ms, {per_second(row.samples_per_s)}/s{same}"


def _same_rows(measured: dict[str, pd.DataFrame]) -> Iterator[str]:
    cells = {
        name: {
            (row.batch_size, row.variant): with_interval(milliseconds, row.p50_ms, row.p50_low_ms, row.p50_high_ms)
            for row in rows.itertuples()
        }
        for name, rows in measured.items()
    }
    yield from ["p50 in ms (95% interval):", "", *_side_by_side(["batch", "variant"], cells)]


OF_A_KIND = ("cpu", "cuda", "os", "versions", "python")
COLUMNS = ("variant", "batch", "machines", "p50 ms, lowest to highest", "between machines", "within one")


def repeated(runs: list[RecordedRun]) -> list[list[RecordedRun]]:
    """Return the groups of runs of different machines with equal hardware, system, versions and parameters."""
    groups: dict[str, dict[str, RecordedRun]] = {}
    for run in runs:
        key = {name: run.context.environment[name] for name in OF_A_KIND} | {"params": run.params}
        groups.setdefault(json.dumps(key, sort_keys=True, default=str), {}).setdefault(run.machine, run)
    return [list(group.values()) for group in groups.values() if len(group) > 1]


def between_nodes(runs: list[RecordedRun], device: str) -> Iterator[str]:
    """Yield how far the p50 of each row goes apart between machines of one kind; nothing without such machines.

    Between machines: half of the 95% interval for one more machine of the kind, as a share: Student's t of the
    machines' logarithms, times √(1 + 1/n) (Hahn and Meeker, Statistical Intervals, 1991, 4.6).  Within one: half of a
    run's own 95% interval, the median of the machines.
    """
    for group in repeated(runs):
        rows = list(_rows(group, device))
        if rows:
            yield f"Machines of one kind ({', '.join(f'`{run.name}`' for run in group)}):"
            yield ""
            yield from table_lines(COLUMNS, COLUMNS[:1], rows)
            yield ""


def _rows(group: list[RecordedRun], device: str) -> Iterator[list[str]]:
    tables = [run.measured(device) for run in group]
    for (variant, size), cells in pd.concat(tables).groupby(["variant", "batch_size"], sort=False):
        if len(cells) == len(group):
            low, high = milliseconds(cells["p50_ms"].min()), milliseconds(cells["p50_ms"].max())
            outside, halves = spread(list(cells["p50_ms"])), np.sqrt(cells["p50_high_ms"] / cells["p50_low_ms"]) - 1
            inside = f"±{float(halves.median()):.1%}" if halves.notna().all() else MISSING
            yield [f"`{variant}`", str(size), str(len(group)), f"{low} – {high}", f"±{outside:.1%}", inside]


def spread(values: list[float]) -> float:
    """Return half of the 95% interval for one more value, as a share of their geometric mean."""
    logs = np.log(values)
    deviation = float(np.std(logs, ddof=1))
    return math.expm1(t_quantile(len(logs) - 1) * deviation * math.sqrt(1 + 1 / len(logs)))


TITLE, CAPTION = "The same rows on every recorded machine", "p50 latency with 95% intervals"
NOTHING = "No run is recorded: python run.py record NAME keeps the last one"
FIGURES = ("p50_ms", "p50_low_ms", "p50_high_ms")
RUN_STEP = 6
"""Height of a run within a row, in CSS pixels."""


def write_hardware_plot(runs: list[RecordedRun], path: Path) -> None:
    """Draw p50 with intervals of every variant at the smallest batch size that all runs have; a colour a run."""
    shown = [device for device in PANELS if any(len(run.measured(device)) for run in runs)]
    panels = [_panel(runs, device) for device in shown] or [{"data": {"values": []}, "mark": "point"}]
    path.write_bytes(Chart(TITLE, CAPTION if shown else NOTHING, panels).png(""))


def _panel(runs: list[RecordedRun], device: str) -> Spec:
    size = min(int(value) for run in runs for value in run.measured(device)["batch_size"])
    records = [
        {"variant": row.variant, "run": run.name} | {name: written(getattr(row, name)) for name in FIGURES}
        for run in runs
        for row in run.measured(device).query(f"batch_size == {size}").itertuples()
    ]
    colour = vega.colours(run.name for run in runs)
    rows, names = list(dict.fromkeys(each["variant"] for each in records)), list(colour)
    x = vega.log_axis("p50_ms", "p50 latency (ms)", vega.limits(each[name] for each in records for name in FIGURES))
    shown = vega.legend("run", colour, columns=3)
    point = {"x": x, "shape": {**shown, "scale": {"domain": names}}}
    return {
        "title": f"{PANELS[device]}, batch {size}",
        "height": {"step": max(vega.ROW_STEP, RUN_STEP * len(runs)), "for": "position"},
        "data": {"values": records},
        "encoding": {
            "y": {"field": "variant", "type": "nominal", "title": None, "sort": rows, "axis": vega.NAMES},
            "yOffset": {"field": "run", "type": "nominal", "sort": names},
            "color": shown,
        },
        "layer": [
            vega.layer("rule", vega.interval("x", x, *FIGURES[1:])),
            vega.layer("point", point, filled=True, opacity=1),
        ],
    }
