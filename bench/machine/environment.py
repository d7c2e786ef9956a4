"""Find out what should make timings stale: hardware, driver and library versions.

No clock, temperature, free memory, process id or time: two probes of one machine
write the same file.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Any

from bench.machine.cores import physical_cores
from bench.machine.versions import library_version

VERSIONED_LIBRARIES = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime", "tensorrt", "numpy")


def probe_environment(runtime_libraries: dict[str, tuple[str, ...]], gpu_index: int = 0) -> dict[str, Any]:
    """Return the content of metrics/env.json.

    `cpu` and `cuda` are named as the devices of params.yaml, and `runtimes` as its
    runtimes, so that a stage can depend on just the part that concerns it.
    """
    versions = {library: library_version(library) for library in VERSIONED_LIBRARIES}
    return {
        "cpu": probe_cpu(),
        "cuda": probe_cuda(gpu_index),
        "os": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
        "runtimes": {
            runtime: {library: versions[library] for library in libraries}
            for runtime, libraries in runtime_libraries.items()
        },
    }


def probe_cpu() -> dict[str, Any]:
    """Return the CPU's model and its physical cores that this process may use."""
    return {"model": _cpu_model(), "cores": physical_cores()}


def _cpu_model() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    if sys.platform == "win32":
        import winreg

        path = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, path) as key:
            return str(winreg.QueryValueEx(key, "ProcessorNameString")[0]).strip()
    return platform.processor() or platform.machine()


def probe_cuda(gpu_index: int) -> dict[str, Any] | None:
    """Return the GPU and its software, or None where there is no NVIDIA GPU or driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        count = pynvml.nvmlDeviceGetCount()
        if gpu_index >= count:
            return None
        handle = pynvml.nvmlDeviceGetHandleByIndex(gpu_index)
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
        return {
            "gpu": _text(pynvml.nvmlDeviceGetName(handle)),
            "count": count,
            "memory_mib": pynvml.nvmlDeviceGetMemoryInfo(handle).total // 2**20,
            "compute_capability": f"{major}.{minor}",
            "driver": _text(pynvml.nvmlSystemGetDriverVersion()),
            **_cuda_software(),
        }
    finally:
        pynvml.nvmlShutdown()


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _cuda_software() -> dict[str, str | None]:
    """Return the versions of CUDA and cuDNN that PyTorch brings (None for a CPU build)."""
    import torch

    cudnn = torch.backends.cudnn.version() if torch.version.cuda else None
    return {"cuda": torch.version.cuda, "cudnn": str(cudnn) if cudnn else None}
