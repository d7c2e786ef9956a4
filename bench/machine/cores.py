"""How many cores the processes of this project may use."""

from __future__ import annotations

import os
import sys

import psutil


def physical_cores() -> int:
    """Return the number of physical cores, at most the number of CPUs this process may use."""
    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else psutil.cpu_count() or 1
    return max(1, min(psutil.cpu_count(logical=False) or usable, usable))


def thread_count(setting: int | str) -> int:
    """Return the number of threads that `timing.cpu_threads` stands for: itself, or the physical cores."""
    return physical_cores() if setting == "physical" else int(setting)
