"""The GPU's own peaks, measured by PyTorch: a large matrix product in each precision, a large copy, idle power."""

from __future__ import annotations

import time
from collections.abc import Callable

from bench.machine.gpus import ask, handle_of, nvml, whole_gpu
from bench.peaks.stopwatch import COPY_BYTES, Peaks, best_seconds, operations

CUDA_SIZE = 8192
"""Rows and columns of the square matrices."""
IDLE_SECONDS = 2.0
SETTLE_SECONDS = 1.0


def measure_cuda_peaks(gpu: str) -> Peaks | None:
    """Return operations/s for each precision, bytes/s of a copy and idle watts, each only where it can be measured.

    `gpu`: its entry of CUDA_VISIBLE_DEVICES.  None where PyTorch cannot compute on it (a GPU older than it supports).
    """
    import torch

    if not torch.cuda.is_available() or _or_none(lambda: float(torch.ones(1, device="cuda").sum())) is None:
        return None
    idle = {"idle_w": _idle_watts(gpu)}
    rates = {name: rate for name, measure in CUDA_PRODUCTS.items() if (rate := _or_none(measure)) is not None}
    copied = _or_none(_copied_bytes)
    return {"operations_per_s": rates, **({"bytes_per_s": copied} if copied else {}), **idle}


def _copied_bytes() -> float:
    """Return the bytes that a large copy reads and writes in a second."""
    import torch

    copy_from = torch.zeros(COPY_BYTES, dtype=torch.uint8, device="cuda")
    copy_to = torch.zeros_like(copy_from)
    return 2 * COPY_BYTES / best_seconds(lambda: copy_to.copy_(copy_from), torch.cuda.synchronize)


def _floating_product(dtype: str, tf32: str) -> float:
    import torch

    torch.set_float32_matmul_precision(tf32)
    left, right = (torch.randn(CUDA_SIZE, CUDA_SIZE, device="cuda", dtype=getattr(torch, dtype)) for _ in range(2))
    return operations(CUDA_SIZE) / best_seconds(lambda: torch.mm(left, right), torch.cuda.synchronize)


def _int8_product() -> float:
    import torch

    left, right = (torch.ones(CUDA_SIZE, CUDA_SIZE, device="cuda", dtype=torch.int8) for _ in range(2))
    transposed = right.t()
    return operations(CUDA_SIZE) / best_seconds(lambda: torch._int_mm(left, transposed), torch.cuda.synchronize)


CUDA_PRODUCTS: dict[str, Callable[[], float]] = {
    "fp32": lambda: _floating_product("float32", "highest"),
    "tf32": lambda: _floating_product("float32", "high"),
    "fp16": lambda: _floating_product("float16", "highest"),
    "bf16": lambda: _floating_product("bfloat16", "highest"),
    "int8": _int8_product,
}


def _or_none(measure: Callable[[], float]) -> float | None:
    """Return what `measure` returns, None where this GPU or this PyTorch cannot do it."""
    try:
        return measure()
    except RuntimeError:
        return None


def _idle_watts(gpu: str) -> float | None:
    """Return the GPU's power while it has a context and nothing to do; None where it does not tell."""
    with nvml() as library:
        handle = library and whole_gpu(library, handle_of(library, gpu))
        if handle is None:
            return None
        time.sleep(SETTLE_SECONDS)
        before = ask(library, "nvmlDeviceGetTotalEnergyConsumption", handle)
        if before is None:
            return None
        time.sleep(IDLE_SECONDS)
        after = ask(library, "nvmlDeviceGetTotalEnergyConsumption", handle)
        return None if after is None else float(after - before) / 1000 / IDLE_SECONDS
