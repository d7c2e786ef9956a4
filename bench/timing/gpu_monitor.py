"""What the GPU's own counters say around a cell: clock, temperature, power, throttling, energy."""

from __future__ import annotations

import time
from typing import Any

from bench.core.reports import GpuReading
from bench.machine.gpus import ask, handle_of, whole_gpu

THROTTLE_REASONS = {
    0x0000000000000004: "power cap",
    0x0000000000000008: "hardware slowdown",
    0x0000000000000020: "thermal (software)",
    0x0000000000000040: "thermal (hardware)",
    0x0000000000000080: "power brake",
}
"""Bits of NVML's clocks event reasons that mean a slower GPU; idle and application clocks do not."""


class GpuMonitor:
    """Reads NVML between cells, never while one is timed.  Figures that the GPU does not offer are left out."""

    def __init__(self, gpu: str) -> None:
        import pynvml

        self._nvml = pynvml
        pynvml.nvmlInit()
        self._memory_handle = handle_of(pynvml, gpu)
        self._handle = whole_gpu(pynvml, self._memory_handle)
        self._memory_before = self.used_memory_mib()
        self._began_us = 0
        self._energy_mj: int | None = None
        self._began_ns = 0
        self._throttled_ns: dict[str, int] = {}

    def used_memory_mib(self) -> float | None:
        """Return the memory in use on the GPU by all processes, in MiB; None where the GPU shares the system's."""
        memory = ask(self._nvml, "nvmlDeviceGetMemoryInfo", self._memory_handle)
        return None if memory is None else float(memory.used) / 2**20

    def grown_memory_mib(self) -> float | None:
        """Return how much more memory is in use than when this monitor was made, in MiB; None if it is not known."""
        used = self.used_memory_mib()
        return None if used is None or self._memory_before is None else used - self._memory_before

    def start_cell(self) -> None:
        """Note the counters of energy and of time spent throttled before a cell."""
        self._throttled_ns = self._throttled_counters()
        self._began_ns, self._began_us = time.perf_counter_ns(), time.time_ns() // 1000
        self._energy_mj = self._ask("nvmlDeviceGetTotalEnergyConsumption")

    def end_cell(self) -> GpuReading:
        """Return what the counters say right after a cell."""
        nvml = self._nvml
        energy = self._ask("nvmlDeviceGetTotalEnergyConsumption")
        window_seconds = (time.perf_counter_ns() - self._began_ns) / 1e9
        busy = self._ask("nvmlDeviceGetUtilizationRates")  # of its last sampling period, up to a second
        power = self._ask("nvmlDeviceGetPowerUsage")
        started = self._energy_mj
        return GpuReading(
            sm_clock_mhz=self._ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM),
            temperature_c=self._ask("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
            power_w=None if power is None else power / 1000,
            energy_j=None if energy is None or started is None else (energy - started) / 1000,
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
        """Return the nanoseconds that the GPU has spent slowed down so far, by reason, where it counts them."""
        policies = {"power cap": self._nvml.NVML_PERF_POLICY_POWER, "thermal": self._nvml.NVML_PERF_POLICY_THERMAL}
        asked = {name: self._ask("nvmlDeviceGetViolationStatus", policy) for name, policy in policies.items()}
        return {name: int(status.violationTime) for name, status in asked.items() if status is not None}

    def _other_processes(self) -> int | None:
        """Return how many other processes kept the GPU's multiprocessors busy during the cell; None if it is not told.

        Processes that have a context and do nothing (a desktop's, on Windows) slow nothing down.
        """
        samples = self._ask("nvmlDeviceGetProcessUtilization", self._began_us)
        if samples is None:
            return None
        busy = {sample.pid for sample in samples if sample.smUtil > 0 and sample.timeStamp >= self._began_us}
        # In a container ours is listed under another id: one of the busy ones is we.
        return max(0, len(busy) - 1)
