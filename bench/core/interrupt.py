"""Ctrl-C while rows are measured: the first one ends the measuring, and what was measured is reported."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from bench.core.progress import log

CUT_SHORT = "cut short by Ctrl-C"


class Interrupt:
    """Whether the user has pressed Ctrl-C."""

    _is_pressed = False

    def is_cut(self) -> bool:
        return self._is_pressed

    def press(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        """End the measuring; the second time the whole run."""
        if self.is_cut():
            sys.exit("aborted by the user; `dvc repro` goes on from here")
        self._is_pressed = True
        log("\n  Ctrl-C: measuring ends here, the reports follow; Ctrl-C again aborts")


@contextmanager
def ended_by_ctrl_c() -> Iterator[Interrupt]:
    """Let Ctrl-C end what looks at the interrupt, in the main thread; elsewhere nothing is changed."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = signal.signal(signal.SIGINT, interrupt.press)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)
