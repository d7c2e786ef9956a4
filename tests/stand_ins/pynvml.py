"""NVML of a machine with a GPU that does not exist; tests put this folder in front of the installed modules."""

# ruff: noqa: N802, N816  NVML's names
from __future__ import annotations

from typing import Any

NVML_CLOCK_SM = NVML_TEMPERATURE_GPU = NVML_PERF_POLICY_POWER = NVML_PERF_POLICY_THERMAL = 0


class NVMLError(Exception):
    """What NVML raises for a question that a GPU does not answer."""


class Memory:
    total = used = free = 4096 * 2**20


def nvmlInit() -> None: ...


def nvmlShutdown() -> None: ...


def nvmlDeviceGetCount() -> int:
    return 1


def nvmlDeviceGetHandleByIndex(index: int) -> int:
    return index


def nvmlDeviceGetName(_handle: int) -> str:
    return "Another GPU"


def nvmlDeviceGetMemoryInfo(_handle: int) -> type[Memory]:
    return Memory


def nvmlDeviceGetCudaComputeCapability(_handle: int) -> tuple[int, int]:
    return 8, 0


def nvmlSystemGetDriverVersion() -> str:
    return "1.0"


def _not_supported(*_arguments: Any) -> Any:
    raise NVMLError


nvmlDeviceGetTotalEnergyConsumption = nvmlDeviceGetPowerUsage = nvmlDeviceGetClockInfo = _not_supported
nvmlDeviceGetTemperature = nvmlDeviceGetCurrentClocksThrottleReasons = _not_supported
nvmlDeviceGetViolationStatus = nvmlDeviceGetComputeRunningProcesses = _not_supported
