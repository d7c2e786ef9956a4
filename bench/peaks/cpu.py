"""The CPU's own peaks, measured: a large matrix product in each precision, and a large copy.

PyTorch does the work, since it is what every machine here has; for INT8 ONNX Runtime is tried too, whose product is
faster on many CPUs.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.peaks.stopwatch import COPY_BYTES, Peaks, best_seconds, operations

if TYPE_CHECKING:
    import torch

CPU_SIZE = 2048
"""Rows and columns of the square matrices."""


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
                "fp32": operations(CPU_SIZE) / best_seconds(lambda: torch.mm(left, right)),
                "int8": max(operations(CPU_SIZE) / best_seconds(lambda: linear(left)), _onnxruntime_int8(threads)),
            },
            "bytes_per_s": 2 * COPY_BYTES / best_seconds(lambda: copy_to.copy_(copy_from)),
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
    return operations(CPU_SIZE) / best_seconds(lambda: session.run(["product"], {"left": left}))
