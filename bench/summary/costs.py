"""What a row costs and how far it is from what the machine could do: limits, energy, and when an export pays."""

from __future__ import annotations

import math
from typing import Any

from bench.classifier.workload import Workload, limit_ms
from bench.core.params import Variant

Figures = dict[str, Any]
GPU_BOUND = 0.5
"""From this share of a call on, the GPU's work is the larger part of it."""


def limits(workload: Workload, variant: Variant, batch_size: int, p50_ms: float, peaks: Figures) -> Figures:
    """Return operations and bytes of a call, the time that the measured peaks allow, and its share of p50."""
    operations = workload.operations(batch_size)
    moved = workload.bytes_moved(batch_size, variant.precision)
    device = peaks.get(variant.device) or {}
    rate = device.get("operations_per_s", {}).get(variant.precision)
    found = limit_ms(operations, moved, rate, device.get("bytes_per_s"))
    share = {"limit_share": found["limit_ms"] / p50_ms} if found else {}
    return {"operations": operations, "bytes_moved": moved, **found, **share}


def bound(p50_ms: float, gpu_busy_ms: float) -> Figures:
    """Return the label `gpu-bound` or `host-bound` and the part of p50 in which the GPU does nothing."""
    label = "gpu-bound" if gpu_busy_ms >= GPU_BOUND * p50_ms else "host-bound"
    return {"bound": label, "host_ms": max(0.0, p50_ms - gpu_busy_ms)}


def energy(readings: list[Figures], samples: int, idle_w: float | None) -> Figures:
    """Return mJ a sample from the GPU's own counter around each process's runs, with and without its idle power.

    `samples` is the number of sentences in all those runs.  Empty where a process has no reading.
    """
    if not readings or not samples or any("energy_j" not in reading for reading in readings):
        return {}
    gross_j = sum(reading["energy_j"] for reading in readings)
    found: Figures = {"gross_energy_mj_per_sample": gross_j * 1000 / samples}
    if idle_w is not None:
        idle_j = idle_w * sum(reading.get("window_seconds", 0.0) for reading in readings)
        found |= {"energy_mj_per_sample": max(0.0, gross_j - idle_j) * 1000 / samples, "idle_w": idle_w}
    return found


def one_off_seconds(variant: Variant, export: Figures, conversions: dict[str, Figures], built: Figures) -> float:
    """Return what had to be done once before the row could run: export, conversion, engine build, in seconds."""
    if variant.graph == "model":
        return 0.0
    recipe = variant.graph.removeprefix("onnx/").removesuffix(".onnx")
    converted = conversions.get(recipe, {}).get("seconds", 0.0)
    return float(export.get("seconds", 0.0)) + float(converted) + float(built.get("build_seconds", 0.0))


def break_even_calls(one_off: float, baseline_mean_ms: float, mean_ms: float) -> int | None:
    """Return after how many calls the time saved is more than what was spent once; None if nothing is saved."""
    if mean_ms >= baseline_mean_ms:
        return None
    return math.ceil(one_off * 1000 / (baseline_mean_ms - mean_ms))
