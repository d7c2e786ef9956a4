"""What the GPU's own counters say around a cell: clock, temperature, power, throttling, energy."""

from __future__ import annotations

import os
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
        self._energy_mj: int | None = None

    def used_memory_mib(self) -> float:
        """Return the memory in use on the GPU by all processes, in MiB."""
        return float(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used) / 2**20

    def grown_memory_mib(self) -> float:
        """Return how much more memory is in use than when this monitor was made, in MiB."""
        return self.used_memory_mib() - self._memory_before

    def start_cell(self) -> None:
        """Note the energy counter before a cell."""
        self._energy_mj = self._ask("nvmlDeviceGetTotalEnergyConsumption")

    def end_cell(self) -> dict[str, Any]:
        """Return what the counters say right after a cell."""
        nvml = self._nvml
        power = self._ask("nvmlDeviceGetPowerUsage")
        energy = self._ask("nvmlDeviceGetTotalEnergyConsumption")
        started = self._energy_mj
        found = {
            "sm_clock_mhz": self._ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM),
            "temperature_c": self._ask("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
            "power_w": None if power is None else power / 1000,
            "energy_j": None if energy is None or started is None else (energy - started) / 1000,
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
        bits = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        if bits is None:
            return None
        return ", ".join(text for bit, text in THROTTLE_REASONS.items() if bits & bit)

    def _other_processes(self) -> int | None:
        processes = self._ask("nvmlDeviceGetComputeRunningProcesses")
        if processes is None:
            return None
        return len([process for process in processes if process.pid != os.getpid()])
