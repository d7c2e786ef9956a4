"""Find out what should make timings stale: hardware, driver and library versions.

No clock, temperature, free memory, process id or time: two probes of one machine
write the same file.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import platform
import sys
from pathlib import Path
from typing import Any

import psutil

from bench.files import read_json
from bench.paths import ENVIRONMENT

VERSIONED_LIBRARIES = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime", "tensorrt", "numpy")
TENSORRT_LIBRARIES = ("libnvinfer.so.10", "libnvinfer.so.8", "nvinfer_10.dll", "nvinfer.dll")


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


def physical_cores() -> int:
    """Return the number of physical cores, at most the number of CPUs this process may use."""
    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else psutil.cpu_count() or 1
    return max(1, min(psutil.cpu_count(logical=False) or usable, usable))


def thread_count(setting: int | str) -> int:
    """Return the number of threads that `timing.cpu_threads` stands for: itself, or the physical cores."""
    return physical_cores() if setting == "physical" else int(setting)


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


def library_version(name: str) -> str | None:
    """Return the version that the imported library states, None where it cannot be imported.

    The module is asked, not the package metadata: several packages may offer one module.
    """
    if name == "tensorrt":
        return _tensorrt_version()
    try:
        return str(importlib.import_module(name).__version__)
    except (ImportError, OSError, AttributeError):
        return None


def _tensorrt_version() -> str | None:
    """Return TensorRT's version from its Python package or, without one, from its library."""
    for module in ("tensorrt", "tensorrt_libs"):
        try:
            package = importlib.import_module(module)
        except (ImportError, OSError):
            continue
        if hasattr(package, "__version__"):
            return str(package.__version__)
    for library in TENSORRT_LIBRARIES:
        try:
            number = int(ctypes.CDLL(library).getInferLibVersion())
        except OSError:
            continue
        return _decode_tensorrt(number)
    return None


def _decode_tensorrt(number: int) -> str:
    """Decode NvInferVersion.h's number: 1000 major + 100 minor + patch up to 9, 10000 major from 10 on."""
    if number < 10_000:
        return f"{number // 1000}.{number // 100 % 10}.{number % 100}"
    return f"{number // 10_000}.{number // 100 % 100}.{number % 100}"


def read_environment() -> dict[str, Any]:
    """Read metrics/env.json as `probe` wrote it; DataError if it is missing or damaged."""
    return read_json(ENVIRONMENT, mend="`dvc repro probe` writes it anew")
