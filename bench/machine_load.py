"""How busy other processes kept the CPU while a worker was timing."""

from __future__ import annotations

import os
import sys

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


def peak_host_mib() -> float:
    """Return the largest resident memory of this process so far, in MiB."""
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset) / 2**20
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


OUT_OF_MEMORY_TEXTS = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "bad allocation",
    "bad_alloc",
    "failed to allocate memory",
    "cublas_status_alloc_failed",
    "unable to allocate",
)


def is_out_of_memory(problem: BaseException) -> bool:
    """Tell whether an exception of PyTorch, ONNX Runtime or numpy means that memory ran out."""
    if isinstance(problem, MemoryError) or type(problem).__name__ == "OutOfMemoryError":
        return True
    text = str(problem).lower()
    return any(phrase in text for phrase in OUT_OF_MEMORY_TEXTS)
