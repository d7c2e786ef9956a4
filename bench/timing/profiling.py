"""The kernels that ran on the GPU, seen by CUPTI in a pass of its own that is never timed.

torch.profiler records what any library of the process launches, so it sees the
kernels of ONNX Runtime and TensorRT too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.core.reports import Profile
from bench.inputs.batches import IndexedBatch
from bench.timing.measure import Run

KEPT_KERNELS = 40
COPIES = ("Memcpy", "Memset")
Span = tuple[float, float]


def can_profile() -> bool:
    """Tell whether there is a PyTorch with CUDA here, whose profiler can watch the GPU."""
    try:
        import torch
    except (ImportError, OSError):
        return False
    return bool(torch.cuda.is_available())


def profile_runs(run: Run, batches: Sequence[IndexedBatch]) -> Profile:
    """Run these batches under the profiler and return, for an average run,

    `kernel_launches` (copies not counted), `gpu_busy_ms` (time in which a kernel or a copy was
    running) and `kernels`: milliseconds by kernel name, the longest 40.
    """
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for batch in batches:
            run(batch.inputs)
    runs = len(batches)
    events = [
        event
        for event in profiler.events() or []
        if event.device_type == DeviceType.CUDA and not getattr(event, "is_user_annotation", False)
    ]
    milliseconds: dict[str, float] = {}
    launches = 0
    for event in events:
        if event.name.startswith(COPIES):
            continue
        launches += 1
        elapsed = (event.time_range.end - event.time_range.start) / 1000
        milliseconds[event.name] = milliseconds.get(event.name, 0.0) + elapsed / runs
    longest = sorted(milliseconds, key=lambda name: -milliseconds[name])[:KEPT_KERNELS]
    busy_us = covered((event.time_range.start, event.time_range.end) for event in events)
    return Profile(
        kernel_launches=launches / runs,
        gpu_busy_ms=busy_us / 1000 / runs,
        kernels={name: milliseconds[name] for name in longest},
    )


def covered(intervals: Iterable[Span]) -> float:
    """Return the length of the union of intervals: time in which two overlap counts once."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
