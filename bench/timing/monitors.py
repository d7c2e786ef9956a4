"""What is seen of the machine around and beside a cell: the GPU's counters, other load on the CPU, and kernels.

The kernels are seen by CUPTI in a pass of its own that is never timed.  torch.profiler records what any library of the
process launches, so it sees the kernels of ONNX Runtime and TensorRT too.
"""

import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import psutil

from bench.core.reports import GpuReading, Profile
from bench.inputs.batches import IndexedBatch
from bench.machine.gpus import ask, handle_of, whole_gpu
from bench.timing.measure import Run

THROTTLE_REASONS = {
    0x0000000000000004: "power cap",
    0x0000000000000008: "hardware slowdown",
    0x0000000000000020: "thermal (software)",
    0x0000000000000040: "thermal (hardware)",
    0x0000000000000080: "power brake",
}
"""Bits of NVML's clocks event reasons that mean a slower GPU; idle and application clocks do not."""
LOOP_ADDITIONS = 10_000
LOOP_REPEATS = 5
KEPT_KERNELS = 40
CLOCK_SET_NS = 20_000_000
COPIES = ("Memcpy", "Memset")


class GpuMonitor:
    """Reads NVML between cells, never while one is timed.  Figures that the GPU does not offer are left out."""

    def __init__(self, gpu: str) -> None:
        import pynvml

        self._nvml = pynvml
        pynvml.nvmlInit()
        self._memory_handle = handle_of(pynvml, gpu)
        self._handle = whole_gpu(pynvml, self._memory_handle)
        self._memory_before = self.memory_mib("used")
        self.start_cell()

    def memory_mib(self, kind: Literal["used", "free"]) -> float | None:
        """Return the GPU's free memory, or what all processes use, in MiB; None where it shares the system's."""
        memory = ask(self._nvml, "nvmlDeviceGetMemoryInfo", self._memory_handle)
        return None if memory is None else float(getattr(memory, kind)) / 2**20

    def grown_memory_mib(self) -> float | None:
        """Return how much more memory is in use than when this monitor was made, in MiB; None if it is not known."""
        used = self.memory_mib("used")
        return None if used is None or self._memory_before is None else used - self._memory_before

    def start_cell(self) -> None:
        """Note the counters of energy and of time spent throttled before a cell."""
        self._throttled_ns = self._throttled_counters()
        self._began_ns, self._began_us = time.perf_counter_ns(), time.time_ns() // 1000
        self._clock = ClockCheck()
        self._energy_mj = self._ask("nvmlDeviceGetTotalEnergyConsumption")

    def end_cell(self) -> GpuReading:
        """Return what the counters say right after a cell."""
        energy = self._ask("nvmlDeviceGetTotalEnergyConsumption")
        window_seconds = (time.perf_counter_ns() - self._began_ns) / 1e9
        busy = self._ask("nvmlDeviceGetUtilizationRates")  # of its last sampling period, up to a second
        power = self._ask("nvmlDeviceGetPowerUsage")
        return GpuReading(
            sm_clock_mhz=self._ask("nvmlDeviceGetClockInfo", self._nvml.NVML_CLOCK_SM),
            temperature_c=self._ask("nvmlDeviceGetTemperature", self._nvml.NVML_TEMPERATURE_GPU),
            power_w=None if power is None else power / 1000,
            energy_j=None if energy is None or self._energy_mj is None else (energy - self._energy_mj) / 1000,
            window_seconds=window_seconds,
            busy_percent=None if busy is None else float(busy.gpu),
            throttling=self._throttling(),
            other_gpu_processes=self._other_processes(),
        )

    def _ask(self, function: str, *arguments: Any) -> Any:
        return ask(self._nvml, function, self._handle, *arguments)

    def _throttling(self) -> str | None:
        """Return why the GPU is slowed down right now, or was during the cell; empty if it was not."""
        bits = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        counters = self._throttled_counters()
        if bits is None and not counters:
            return None
        now = [text for bit, text in THROTTLE_REASONS.items() if (bits or 0) & bit]
        grown = [name for name, nanoseconds in counters.items() if nanoseconds > self._throttled_ns.get(name, 0)]
        return ", ".join(dict.fromkeys([*now, *grown]))

    def _throttled_counters(self) -> dict[str, int]:
        policies = {"power cap": self._nvml.NVML_PERF_POLICY_POWER, "thermal": self._nvml.NVML_PERF_POLICY_THERMAL}
        asked = {name: self._ask("nvmlDeviceGetViolationStatus", policy) for name, policy in policies.items()}
        return {name: int(status.violationTime) for name, status in asked.items() if status is not None}

    def _other_processes(self) -> int | None:
        """Return how many other processes kept the GPU's multiprocessors busy in the cell; None if it is not told."""
        samples = self._ask("nvmlDeviceGetProcessUtilization", self._began_us)
        if samples is None or self._clock.was_set():  # NVML tells the time of day
            return None
        busy = {sample.pid for sample in samples if sample.smUtil > 0 and sample.timeStamp >= self._began_us}
        # In a container ours is listed under another id: one of the busy ones is we.
        return max(0, len(busy) - 1)


class ClockCheck:
    """Whether the system's clock was set, or the system slept, from creation on."""

    def __init__(self) -> None:
        self._ahead_ns = time.time_ns() - time.perf_counter_ns()

    def was_set(self) -> bool:
        """Tell whether the time of day moved by more than a clock that is kept in step with others ever does."""
        return abs(time.time_ns() - time.perf_counter_ns() - self._ahead_ns) > CLOCK_SET_NS


class OtherLoad:
    """Counts the CPU seconds of all processes but this one, from creation on."""

    def __init__(self) -> None:
        self._busy, self._total = _system_seconds()
        self._own = sum(os.times()[:2])

    def cores(self) -> float:
        """Return how many cores other processes used on average so far."""
        busy, total = _system_seconds()
        others = (busy - self._busy) - (sum(os.times()[:2]) - self._own)
        elapsed = (total - self._total) / (psutil.cpu_count() or 1)
        return max(0.0, others / elapsed) if elapsed > 0 else 0.0


def _system_seconds() -> tuple[float, float]:
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    stolen = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    total = sum(times) - stolen
    return total - idle, total


def calibration_loop_ms() -> float:
    """Return the best time of a fixed Python loop in ms: only its core's clock, and who shares it, change that."""
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


def can_profile() -> bool:
    """Tell whether there is a PyTorch with CUDA here, whose profiler can watch the GPU."""
    try:
        import torch
    except (ImportError, OSError):
        return False
    return bool(torch.cuda.is_available())


def profile_runs(run: Run, batches: Sequence[IndexedBatch]) -> Profile:
    """Run these batches under the profiler; return the figures of an average run.

    `kernel_launches` without copies, `gpu_busy_ms` with them, `kernels`: milliseconds by name, the longest 40.
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
    launches = [event for event in events if not event.name.startswith(COPIES)]
    milliseconds: dict[str, float] = defaultdict(float)
    for event in launches:
        milliseconds[event.name] += (event.time_range.end - event.time_range.start) / 1000 / runs
    longest = sorted(milliseconds, key=lambda name: -milliseconds[name])[:KEPT_KERNELS]
    busy_us = covered((event.time_range.start, event.time_range.end) for event in events)
    return Profile(
        kernel_launches=len(launches) / runs,
        gpu_busy_ms=busy_us / 1000 / runs,
        kernels={name: milliseconds[name] for name in longest},
    )


def covered(intervals: Iterable[tuple[float, float]]) -> float:
    """Return the length of the union of intervals: time in which two overlap counts once."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
