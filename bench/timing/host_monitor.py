"""How busy other processes kept the CPU while a worker was timing, and whether the CPU's own speed was steady."""

from __future__ import annotations

import os
import sys
import time

import psutil


class OtherLoad:
    """Counts the CPU seconds of all processes but this one, from creation on."""

    def __init__(self) -> None:
        self._busy, self._total = _system_seconds()
        self._own = _own_seconds()

    def cores(self) -> float:
        """Return how many cores other processes used on average so far."""
        busy, total = _system_seconds()
        others = (busy - self._busy) - (_own_seconds() - self._own)
        elapsed = (total - self._total) / (psutil.cpu_count() or 1)
        return max(0.0, others / elapsed) if elapsed > 0 else 0.0


def _system_seconds() -> tuple[float, float]:
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    stolen = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    total = sum(times) - stolen
    return total - idle, total


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system


LOOP_ADDITIONS = 10_000
LOOP_REPEATS = 5


def calibration_loop_ms() -> float:
    """Return the time of a fixed Python loop in ms: the best of a few, so that an interrupt does not count.

    It fits into a core's own caches and waits for nothing, so only the core's speed changes it: its clock,
    or whoever shares the core (on a virtual machine, other guests).
    """
    best = float("inf")
    for _ in range(LOOP_REPEATS):
        total, before = 0, time.perf_counter_ns()
        for number in range(LOOP_ADDITIONS):
            total += number * number
        best = min(best, (time.perf_counter_ns() - before) / 1e6)
    return best


def peak_host_mib() -> float:
    """Return the largest resident memory of this process so far, in MiB."""
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset) / 2**20
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
