"""The machine's own peaks, measured: a large matrix product in each precision, a large copy, and the GPU's idle power.

PyTorch does the work, since it is what every machine here has; for INT8 on the CPU ONNX Runtime is tried too, whose
product is faster on many CPUs.  The best of several runs counts: a peak is what the machine can do, not what it does
on average.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

CPU_SIZE, CUDA_SIZE = 2048, 8192
"""Rows and columns of the square matrices."""
COPY_BYTES = 2**29
LEAST_RUNS = 5
LEAST_SECONDS = 0.5
IDLE_SECONDS = 2.0
SETTLE_SECONDS = 1.0

Peaks = dict[str, Any]
Wait = Callable[[], None]


def measure_cpu_peaks(threads: int) -> Peaks:
    """Return operations/s for fp32 and int8 and bytes/s of a copy, on `threads` threads."""
    import torch

    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(CPU_SIZE, CPU_SIZE, generator=generator) for _ in range(2))
    linear = _int8_linear(right)
    copy_from = torch.zeros(COPY_BYTES, dtype=torch.uint8)
    copy_to = torch.zeros_like(copy_from)
    with torch.inference_mode():
        return {
            "threads": threads,
            "operations_per_s": {
                "fp32": _operations(CPU_SIZE) / _best_seconds(lambda: torch.mm(left, right)),
                "int8": max(_operations(CPU_SIZE) / _best_seconds(lambda: linear(left)), _onnxruntime_int8(threads)),
            },
            "bytes_per_s": 2 * COPY_BYTES / _best_seconds(lambda: copy_to.copy_(copy_from)),
        }


def _int8_linear(weight: torch.Tensor) -> Any:
    """Return a linear layer as dynamic quantization makes it: INT8 weights, inputs quantized in each call."""
    import torch

    plain = torch.nn.Sequential(torch.nn.Linear(*weight.shape, bias=False))
    with torch.no_grad():
        plain[0].weight.copy_(weight)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(plain, {torch.nn.Linear}, dtype=torch.qint8)


def _onnxruntime_int8(threads: int) -> float:
    """Return operations/s of ONNX Runtime's integer product, 0.0 where it is not installed."""
    try:
        import onnxruntime
        from onnx import TensorProto, helper, numpy_helper
    except (ImportError, OSError):
        return 0.0
    weight = np.random.default_rng(0).integers(-127, 128, (CPU_SIZE, CPU_SIZE), dtype=np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["left", "weight"], ["product"])],
        "product",
        [helper.make_tensor_value_info("left", TensorProto.UINT8, [CPU_SIZE, CPU_SIZE])],
        [helper.make_tensor_value_info("product", TensorProto.INT32, [CPU_SIZE, CPU_SIZE])],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    left = np.full((CPU_SIZE, CPU_SIZE), 3, dtype=np.uint8)
    return _operations(CPU_SIZE) / _best_seconds(lambda: session.run(["product"], {"left": left}))


def measure_cuda_peaks(nvml_index: int) -> Peaks | None:
    """Return operations/s for each precision, bytes/s of a copy and idle watts; None where PyTorch has no GPU."""
    import torch

    if not torch.cuda.is_available():
        return None
    torch.zeros(1, device="cuda")
    idle = {"idle_w": _idle_watts(nvml_index)}
    rates = {name: rate for name, measure in CUDA_PRODUCTS.items() if (rate := _or_none(measure)) is not None}
    copy_from = torch.zeros(COPY_BYTES, dtype=torch.uint8, device="cuda")
    copy_to = torch.zeros_like(copy_from)
    seconds = _best_seconds(lambda: copy_to.copy_(copy_from), torch.cuda.synchronize)
    return {"operations_per_s": rates, "bytes_per_s": 2 * COPY_BYTES / seconds, **idle}


def _floating_product(dtype: str, tf32: str) -> float:
    import torch

    torch.set_float32_matmul_precision(tf32)
    left, right = (torch.randn(CUDA_SIZE, CUDA_SIZE, device="cuda", dtype=getattr(torch, dtype)) for _ in range(2))
    return _operations(CUDA_SIZE) / _best_seconds(lambda: torch.mm(left, right), torch.cuda.synchronize)


def _int8_product() -> float:
    import torch

    left, right = (torch.ones(CUDA_SIZE, CUDA_SIZE, device="cuda", dtype=torch.int8) for _ in range(2))
    transposed = right.t()
    return _operations(CUDA_SIZE) / _best_seconds(lambda: torch._int_mm(left, transposed), torch.cuda.synchronize)


CUDA_PRODUCTS: dict[str, Callable[[], float]] = {
    "fp32": lambda: _floating_product("float32", "highest"),
    "tf32": lambda: _floating_product("float32", "high"),
    "fp16": lambda: _floating_product("float16", "highest"),
    "int8": _int8_product,
}


def _or_none(measure: Callable[[], float]) -> float | None:
    """Return what `measure` returns, None where this GPU or this PyTorch cannot do it."""
    try:
        return measure()
    except RuntimeError:
        return None


def _operations(size: int) -> float:
    return 2.0 * size**3


def _best_seconds(run: Callable[[], Any], wait: Wait = lambda: None) -> float:
    """Return the shortest time of a run, after one that does not count."""
    run()
    wait()
    best, spent, runs = float("inf"), 0.0, 0
    while runs < LEAST_RUNS or spent < LEAST_SECONDS:
        before = time.perf_counter()
        run()
        wait()
        elapsed = time.perf_counter() - before
        best, spent, runs = min(best, elapsed), spent + elapsed, runs + 1
    return best


def _idle_watts(nvml_index: int) -> float | None:
    """Return the GPU's power while it has a context and nothing to do; None where it does not tell."""
    import pynvml

    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(nvml_index)
    time.sleep(SETTLE_SECONDS)
    try:
        before = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        time.sleep(IDLE_SECONDS)
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) - before) / 1000 / IDLE_SECONDS
    except pynvml.NVMLError:
        return None
