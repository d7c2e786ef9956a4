"""How busy other processes kept the CPU while a worker was timing, and whether the CPU itself held still."""

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


def host_loop_ms() -> float:
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
    return _phrase_at(str(problem)) is not None


def describe_out_of_memory(problem: BaseException) -> str:
    """Return the sentence of the message that says so, without the call stack before it."""
    text = str(problem).strip() or type(problem).__name__
    place = _phrase_at(text) or 0
    start = max((text.rfind(mark, 0, place) + len(mark) for mark in SENTENCE_ENDS if mark in text[:place]), default=0)
    return text[start:].splitlines()[0][:200]


SENTENCE_ENDS = (". ", ") ", "] ", ": ", "\n")


def _phrase_at(text: str) -> int | None:
    """Return where a message says that memory ran out, None if it does not."""
    found = [place for phrase in OUT_OF_MEMORY_TEXTS if (place := text.lower().find(phrase)) >= 0]
    return min(found, default=None)
