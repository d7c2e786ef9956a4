"""Turn the latencies of a cell's processes into its figures: one estimator for each, whoever uses it.

p50, p95 and mean are the geometric means of the processes' medians, 95th percentiles and means: the processes are what
repeats (bench/statistics/rounds.py), and intervals, speed-ups and ranks are made of the same figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import geometric_mean
from typing import Any

import numpy as np

MIN_RUNS_FOR_P95 = 20
"""Below this, no run of a process at all lies beyond its 95th percentile: 0.05 * 20 = 1."""


def summarize_latencies(processes_ms: Sequence[Sequence[float]], batch_size: int) -> dict[str, Any]:
    """Return p50, p95, mean (ms) and samples/s of one cell from each process's runs; p95 only where all support it.

    Percentiles interpolate linearly (numpy's default, type 7 of Hyndman and Fan 1996).  Throughput is what one caller
    gets that sends the next batch when the last is back: batch size / mean latency.  ValueError without any run.
    """
    if not processes_ms or not all(len(process) for process in processes_ms):
        raise ValueError("no latencies to summarize")
    each = process_figures(processes_ms)
    figures = {name.removeprefix("process_"): geometric_mean(values) for name, values in each.items()}
    return {**figures, "samples_per_s": batch_size * 1000.0 / figures["mean_ms"], **each}


def process_figures(processes_ms: Sequence[Sequence[float]]) -> dict[str, list[float]]:
    """Return each process's median and mean, and its 95th percentile where every process has runs enough."""
    arrays = [np.asarray(process, dtype=np.float64) for process in processes_ms]
    found = {"process_p50_ms": [float(np.percentile(runs, 50)) for runs in arrays]}
    if min(len(runs) for runs in arrays) >= MIN_RUNS_FOR_P95:
        found["process_p95_ms"] = [float(np.percentile(runs, 95)) for runs in arrays]
    return {**found, "process_mean_ms": [float(runs.mean()) for runs in arrays]}
