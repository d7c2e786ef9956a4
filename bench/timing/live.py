"""The table while it sharpens: drawn in place on a terminal, elsewhere after the first pass and a line a look."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table

from bench.core.progress import log

if TYPE_CHECKING:
    from bench.timing.passes import Passes


class LiveTable:
    """Shows p50 of every row and batch size, in ms; use as a context manager."""

    def __init__(self, passes: Passes) -> None:
        self._passes = passes
        self._is_live = Console().is_terminal and sys.stdout.isatty()
        self._live = Live(auto_refresh=False)

    def __enter__(self) -> LiveTable:
        if self._is_live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, number: int, open_comparisons: int, seconds_left: float) -> None:
        """Show the table after this many passes, and how much is open."""
        title = f"pass {number}: {self._open(number, open_comparisons)}, at most {max(0.0, seconds_left):.0f} s left"
        if self._is_live:
            self._live.update(self._table(title), refresh=True)
        elif number == 1:
            Console(width=120).print(self._table(title))
        else:
            log(f"  {title}")

    @staticmethod
    def _open(number: int, comparisons: int) -> str:
        return "p50 in ms, nothing decided yet" if number == 1 else f"{comparisons} comparisons open"

    def _table(self, title: str) -> Table:
        blocks = self._passes.blocks
        sizes = sorted({cell.size for cell in blocks})
        table = Table(title=title, title_justify="left")
        table.add_column("variant")
        for size in sizes:
            table.add_column(f"batch {size}", justify="right")
        for row in self._passes.plan.sizes:
            own = {cell.size: found for cell, found in blocks.items() if cell.row == row}
            table.add_row(row, *(self._p50(own[size]) if size in own else "–" for size in sizes))
        return table

    @staticmethod
    def _p50(processes: dict[int, dict[int, float]]) -> str:
        logs = [math.log(ms) for own in processes.values() for ms in own.values()]
        return f"{math.exp(sum(logs) / len(logs)):.3g}" if logs else "–"
