"""What the GPU's own counters say around a cell: clock, temperature, power, throttling, energy."""

from __future__ import annotations

import os
import time
from typing import Any

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

    def __init__(self, nvml_index: int) -> None:
        import pynvml

        self._nvml = pynvml
        pynvml.nvmlInit()
        self._handle = pynvml.nvmlDeviceGetHandleByIndex(nvml_index)
        self._memory_before = self.used_memory_mib()
        self._processes_before = len(self._processes() or [])
        self._energy_mj: int | None = None
        self._began_ns = 0
        self._throttled_ns: dict[str, int] = {}

    def used_memory_mib(self) -> float:
        """Return the memory in use on the GPU by all processes, in MiB."""
        return float(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used) / 2**20

    def grown_memory_mib(self) -> float:
        """Return how much more memory is in use than when this monitor was made, in MiB."""
        return self.used_memory_mib() - self._memory_before

    def start_cell(self) -> None:
        """Note the counters of energy and of time spent throttled before a cell."""
        self._throttled_ns = self._throttled_counters()
        self._began_ns = time.perf_counter_ns()
        self._energy_mj = self._ask("nvmlDeviceGetTotalEnergyConsumption")

    def end_cell(self) -> dict[str, Any]:
        """Return what the counters say right after a cell."""
        nvml = self._nvml
        energy = self._ask("nvmlDeviceGetTotalEnergyConsumption")
        window_seconds = (time.perf_counter_ns() - self._began_ns) / 1e9
        power = self._ask("nvmlDeviceGetPowerUsage")
        started = self._energy_mj
        found = {
            "sm_clock_mhz": self._ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM),
            "temperature_c": self._ask("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
            "power_w": None if power is None else power / 1000,
            "energy_j": None if energy is None or started is None else (energy - started) / 1000,
            "window_seconds": window_seconds,
            "throttling": self._throttling(),
            "other_gpu_processes": self._other_processes(),
        }
        return {name: value for name, value in found.items() if value is not None}

    def _ask(self, function: str, *arguments: Any) -> Any:
        try:
            return getattr(self._nvml, function)(self._handle, *arguments)
        except self._nvml.NVMLError:
            return None

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

    def _processes(self) -> list[int] | None:
        """Return the ids of the processes that compute on the GPU, None where it does not tell."""
        processes = self._ask("nvmlDeviceGetComputeRunningProcesses")
        return None if processes is None else [process.pid for process in processes]

    def _other_processes(self) -> int | None:
        """Return how many other processes compute on the GPU.

        In a container ours may be listed under another id; so whichever came first is counted out.
        """
        processes = self._processes()
        if processes is None:
            return None
        others = [pid for pid in processes if pid != os.getpid()]
        ours_is_hidden = len(others) == len(processes) > self._processes_before
        return len(others) - int(ours_is_hidden)
