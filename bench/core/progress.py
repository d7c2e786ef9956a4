"""Show how far a stage is: a live line on a terminal, plain lines elsewhere.

Nothing here runs on its own: a line is drawn when something has happened, so that
no second thread takes time from a measurement.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable


def log(text: str) -> None:
    """Print one line at once."""
    print(text, flush=True)


class Steps:
    """Progress over a known number of steps, with an estimate of the rest.

    Use as a context manager; call `start` with what begins now and `done` when it ended.
    """

    def __init__(self, title: str, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        from rich.console import Console  # here alone: `probe` shows no progress, and runs every time
        from rich.progress import BarColumn, Progress, TextColumn

        self.title = title
        self.total = total
        self.finished = 0
        self._clock = clock
        self._began = clock()
        self._is_live = Console().is_terminal and sys.stdout.isatty()
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[rest]}"))
        self._live = Progress(*columns, auto_refresh=False, disable=not self._is_live)
        self._task = self._live.add_task(title, total=total, rest="")

    def __enter__(self) -> Steps:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def start(self, what: str) -> None:
        """Show what begins now."""
        text, about = f"{self.title} {what}", ""
        if self.finished:
            rest_seconds = (self._clock() - self._began) / self.finished * (self.total - self.finished)
            about = f"about {rest_seconds:.0f} s left"
        if self._is_live:
            self._live.update(
                self._task, description=text, total=self.total, completed=self.finished, rest=about, refresh=True
            )
        else:
            log(f"  {text} ({self.finished}/{self.total}{', ' + about if about else ''})")

    def add(self, steps: int) -> None:
        """Count further steps, which nobody knew of at the beginning."""
        self.total = self.finished + steps

    def done(self) -> None:
        """Count one step as finished."""
        self.finished = min(self.finished + 1, self.total)
