"""Is this machine's CPU steady?  A fixed Python loop, timed again and again on every CPU while nothing else runs.

    python run.py python validation/host_speed.py [--rounds N] [--write FILE]

The loop fits into a core's own caches and waits for nothing, so only the core's speed changes its time: its
clock, or whoever shares it (on a virtual machine, other guests).  Rows whose GPU waits for the host vary as much.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.machine.lock import timing_lock
from bench.monitors.host import host_loop_ms
from validation.found import tell

PAUSE_SECONDS = 0.25


def on_each_cpu(process: psutil.Process) -> Iterator[int | None]:
    """Move this process to one CPU after the other, and back to all; None where the system does not allow it."""
    if not hasattr(process, "cpu_affinity"):
        yield None
        return
    everywhere = process.cpu_affinity() or []
    try:
        for cpu in everywhere:
            process.cpu_affinity([cpu])
            yield cpu
    finally:
        process.cpu_affinity(everywhere)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    times: dict[str, list[float]] = {}
    with timing_lock():
        for _ in range(given.rounds):
            for cpu in on_each_cpu(psutil.Process()):
                times.setdefault("any" if cpu is None else str(cpu), []).append(host_loop_ms())
            time.sleep(PAUSE_SECONDS)
    spread = {cpu: max(values) / min(values) for cpu, values in times.items()}
    every = [value for values in times.values() for value in values]
    found = {
        "fastest_ms": min(every),
        "median_ms": float(np.median(every)),
        "slowest_ms": max(every),
        "slowest_over_fastest_of_one_cpu": {"median": float(np.median(list(spread.values()))), "cpus": spread},
    }
    tell(found, given.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
