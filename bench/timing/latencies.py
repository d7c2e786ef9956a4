"""Turn latencies into the figures of the table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

MIN_RUNS_FOR_P95 = 20
"""Below this, no run at all lies beyond the 95th percentile: 0.05 * 20 = 1."""


def summarize_latencies(latencies_ms: Sequence[float], batch_size: int) -> dict[str, Any]:
    """Return p50, p95, mean (ms) and samples/s of one cell; p95 only where the runs support it.

    Percentiles interpolate linearly (numpy's default, type 7 of Hyndman and Fan 1996).
    Throughput is what one caller gets that sends the next batch when the last is back:
    batch size / mean latency.
    """
    values = np.asarray(latencies_ms, dtype=np.float64)
    if values.size == 0:
        raise ValueError("no latencies to summarize")
    mean = float(values.mean())
    figures: dict[str, Any] = {"p50_ms": float(np.percentile(values, 50))}
    if values.size >= MIN_RUNS_FOR_P95:
        figures["p95_ms"] = float(np.percentile(values, 95))
    return figures | {"mean_ms": mean, "samples_per_s": batch_size * 1000.0 / mean}
