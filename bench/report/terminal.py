"""Print the results on the terminal, fitted to its width:  python -m bench.report.terminal"""

from __future__ import annotations

import pandas as pd
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from bench.core.errors import run_stage
from bench.core.params import ReportSettings
from bench.core.paths import NOTES, PLOTS, SUMMARY_CSV, SUMMARY_TABLE
from bench.report.context import read_context
from bench.report.picks import LEFT_ALIGNED as PICKS_LEFT
from bench.report.picks import pick_table
from bench.report.serving import COLUMNS as SERVED
from bench.report.serving import LEFT_ALIGNED as SERVED_LEFT
from bench.report.serving import not_served, served, terms
from bench.report.table import COLUMNS, LEFT_ALIGNED, PANELS, in_order, not_timed, shown_columns
from bench.summary.panels import Sessions, with_levels
from bench.summary.serving import read_serving
from bench.summary.table_file import read_summary

WIDTH_OF_A_PIPE = 120
WIDE = 10_000
WIDEST_STATUS = 24
"""What disturbed a row is wrapped, so that it pushes no figure out of the table."""
SERVED_SHOWN = ("row", "requests/s", "95% interval", "of closed loop", "p50 / p99 ms at half", "mean batch", "remarks")
LEFT_OUT_FIRST = (
    "proof",
    "mean ms",
    "p95 ms",
    "agreement",
    "mJ/sample",
    "of roofline without padding",
    "of roofline",
    "bottleneck",
    "tokens computed / given",
    "padding",
    "95% interval",
    "verdict, 95% interval",
    "samples/s",
)


def main() -> None:
    context = read_context()
    table = with_levels(read_summary(), Sessions())
    console = Console()
    if not console.is_terminal:
        console.width = WIDTH_OF_A_PIPE
    console.print(f"Measured: {context.model()}{context.warning()}", soft_wrap=True)
    for line in filter(None, (context.length_text(), context.length_warning())):
        console.print(line, soft_wrap=True, highlight=False)
    print_served(console, read_serving())
    for device, title in PANELS.items():
        rows = table[table["device"] == device]
        print_panel(console, rows, f"{title}: {context.device(device)}")
        print_picks(console, rows[rows["status"] == "measured"], context.settings)
    for path in (SUMMARY_TABLE, SUMMARY_CSV, PLOTS, NOTES):
        console.print(f"written: {path.as_posix()}", soft_wrap=True, highlight=False)


def print_served(console: Console, table: pd.DataFrame) -> None:
    """Print what each device's rows hold under load, with the columns that fit."""
    for device, title in PANELS.items():
        rows = served(table[table["device"] == device])
        if rows.empty:
            continue
        console.print(f"\nRequests per second, {title}: {terms(rows)}", style="bold", soft_wrap=True, highlight=False)
        grid = Table(show_edge=False, pad_edge=False, box=None, header_style="bold")
        first = next(rows.itertuples())
        for name in SERVED_SHOWN:
            grid.add_column(name, justify="left" if name in SERVED_LEFT else "right", no_wrap=name != "remarks")
        for row in rows.itertuples():
            grid.add_row(*(SERVED[name](row, first).strip("`") for name in SERVED_SHOWN))
        console.print(grid)
    for line in not_served(table):
        console.print(f"  not under load: {line.replace('`', '')}", soft_wrap=True, highlight=False)


def print_panel(console: Console, rows: pd.DataFrame, title: str) -> None:
    """Print one device's rows, then what was not timed and why."""
    timed = rows[rows["p50_ms"].notna()]
    console.print(f"\n{title}", style="bold", soft_wrap=True, highlight=False)
    if len(timed):
        console.print(_fitting_grid(console, timed))
    for line in not_timed(rows):
        console.print(f"  {line.replace('`', '')}", soft_wrap=True, highlight=False)


def print_picks(console: Console, rows: pd.DataFrame, settings: ReportSettings) -> None:
    """Print what to take for each latency budget."""
    if rows.empty:
        return
    grid = Table(show_edge=False, pad_edge=False, box=None, header_style="bold")
    names, lines = pick_table(rows, settings)
    for name in names:
        grid.add_column(name, justify="left" if name in PICKS_LEFT else "right", no_wrap=name != "significant?")
    for texts in lines:
        grid.add_row(*texts)
    console.print("\nFor a latency budget", style="bold", highlight=False)
    console.print(grid)


def _fitting_grid(console: Console, timed: pd.DataFrame) -> Table:
    """Return the table with as many columns as fit, the least important left out first."""
    shown = shown_columns(timed)
    for name in LEFT_OUT_FIRST:
        grid = _grid(timed, shown)
        if Measurement.get(console, console.options.update(width=WIDE), grid).maximum <= console.width:
            return grid
        if name in shown:
            shown.remove(name)
    return _grid(timed, shown)


def _grid(timed: pd.DataFrame, shown: list[str]) -> Table:
    grid = Table(show_edge=False, pad_edge=False, box=None, header_style="bold")
    for name in shown:
        is_status = name == "status"
        grid.add_column(
            name,
            justify="left" if name in LEFT_ALIGNED else "right",
            no_wrap=not is_status,
            max_width=WIDEST_STATUS if is_status else None,
        )
    for row in in_order(timed):
        grid.add_row(*(COLUMNS[name](row) for name in shown))
    return grid


if __name__ == "__main__":
    run_stage(main)
