"""Print the results on the terminal, fitted to its width:  python -m bench.report.terminal"""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as RichTable

from bench.core.errors import run_stage
from bench.core.paths import FINDINGS, NOTES, PLOTS, SUMMARY_CSV, SUMMARY_TABLE
from bench.findings.models import Panel
from bench.report.columns import Column, Table, View, columns_of
from bench.report.document import plain
from bench.report.shown import Shown, read_shown
from bench.report.texts import SHOWN_ROWS
from bench.report.words import PANELS, deploy_with, left_out, serve_with, terms, warnings

WIDTH_OF_A_PIPE = 120
WIDE = 10_000
WIDEST = 24
"""Texts that follow from the figures are wrapped, so that they push none out of the table."""
WRAPPED = ("remark", "remarks", "ties")


def main() -> None:
    shown, console = read_shown(), Console()
    if not console.is_terminal:
        console.width = WIDTH_OF_A_PIPE
    context = shown.context
    random = f". THE WEIGHTS ARE RANDOM: {context.what_holds()}; predictions mean nothing"
    console.print(f"Measured: {context.model()}{'' if context.is_real else random}", soft_wrap=True)
    for line in filter(None, (context.length_text(), context.length_warning(), context.label_text())):
        _say(console, line)
    for panel in shown.findings.panels:
        print_served(console, shown, panel)
    for panel in shown.findings.panels:
        print_panel(console, shown, panel)
    for path in (SUMMARY_TABLE, SUMMARY_CSV, FINDINGS, PLOTS, NOTES):
        _say(console, f"written: {path.as_posix()}")


def print_served(console: Console, shown: Shown, panel: Panel) -> None:
    """Print what a device's rows sustain under load, and which of them were not served."""
    served = panel.served
    if served is None:
        return
    if served.rows:
        _title(console, f"Requests per second, {PANELS[panel.device]}: {terms(served)}")
        console.print(fitted(console, "served", shown.served(served)))
        for line in (*serve_with(served), deploy_with(served, shown.context.is_real)):
            _say(console, line)
    for line in left_out(served.not_served):
        _say(console, f"  not under load: {line}")


def print_panel(console: Console, shown: Shown, panel: Panel) -> None:
    """Print one device's rows, what was not timed and why, and what to take for each latency budget."""
    _title(console, f"{PANELS[panel.device]}: {shown.context.device(panel.device)}")
    for line in warnings(panel):
        _say(console, line)
    if timed := [view for views in shown.by_batch(panel).values() for view in views[:SHOWN_ROWS]]:
        console.print(fitted(console, "rows", timed))
    for line in left_out([*panel.rejected, *panel.not_timed]):
        _say(console, f"  {line}")
    if panel.picks:
        _title(console, "For a latency budget")
        console.print(fitted(console, "picks", list(shown.picks(panel))))


def fitted(console: Console, table: Table, views: Sequence[View]) -> RichTable:
    """Return a table with as many columns as fit, the least important left out first."""
    columns = columns_of(table, views)
    for key in sorted((key for key in columns if columns[key].rank), key=lambda key: -columns[key].rank):
        grid = _grid(columns, views)
        if Measurement.get(console, console.options.update(width=WIDE), grid).maximum <= console.width:
            return grid
        del columns[key]
    return _grid(columns, views)


def _grid(columns: dict[str, Column], views: Sequence[View]) -> RichTable:
    grid = RichTable(show_edge=False, pad_edge=False, box=None, header_style="bold")
    for key, column in columns.items():
        look: dict[str, Any] = {"max_width": WIDEST} if key in WRAPPED else {"no_wrap": True}
        grid.add_column(column.heading, justify="left" if column.is_text else "right", **look)
    for view in views:
        grid.add_row(*(plain(column.write(view)) for column in columns.values()))
    return grid


def _title(console: Console, title: str) -> None:
    console.print(f"\n{title}", style="bold", soft_wrap=True, highlight=False)


def _say(console: Console, line: str) -> None:
    console.print(plain(line), soft_wrap=True, highlight=False, markup=False)


if __name__ == "__main__":
    run_stage(main)
