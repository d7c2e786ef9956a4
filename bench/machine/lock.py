"""One timing at a time on a machine, whichever folder it is started in."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from bench.core.progress import say

LOCK_NAME = "transformer-inference-benchmark.lock"


@contextmanager
def timing_lock(folder: Path | None = None) -> Iterator[None]:
    """Hold the machine-wide lock: two runs never time at once, whichever folder they run in."""
    path = (folder or Path(tempfile.gettempdir())) / LOCK_NAME
    lock = FileLock(path, mode=0o666)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say("another run is timing on this machine; waiting for it to end")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
