"""The table while it sharpens: drawn in place on a terminal, elsewhere after the first pass and a line a look."""

import math
import sys

from rich.console import Console
from rich.live import Live
from rich.table import Table

from bench.core.progress import log
from bench.timing.passes import Passes


class LiveTable:
    """Shows p50 of every row and batch size, in ms; `live`: what draws in place, within its context."""

    def __init__(self, passes: Passes) -> None:
        self._passes = passes
        is_terminal = Console().is_terminal and sys.stdout.isatty()
        self.live = Live(auto_refresh=False) if is_terminal else None

    def show(self, number: int, open_comparisons: int, seconds_left: float) -> None:
        """Show the table after this many passes, and how much is open."""
        decided = "p50 in ms, nothing decided yet" if number == 1 else f"{open_comparisons} comparisons open"
        title = f"pass {number}: {decided}, at most {max(0.0, seconds_left):.0f} s left"
        if self.live:
            self.live.update(self._table(title), refresh=True)
        elif number == 1:
            Console(width=120).print(self._table(title))
        else:
            log(f"  {title}")

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
