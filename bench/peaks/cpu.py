"""The CPU's own peaks, measured: a large matrix product in each precision, and a large copy.

PyTorch does the work, since it is what every machine here has; for INT8 and BF16 ONNX Runtime and OpenVINO are tried
too, whose products are faster on many CPUs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.core.openvino_import import DEVICE, import_openvino, properties
from bench.machine.can_run import deciding_instructions, has_bf16
from bench.peaks.stopwatch import COPY_BYTES, Peaks, best_seconds, operations

if TYPE_CHECKING:
    import torch

CPU_SIZE = 2048
"""Rows and columns of the square matrices."""
SCALE = 0.01
"""Of one step of INT8: any will do."""


def measure_cpu_peaks(threads: int) -> Peaks:
    """Return operations/s for each precision that the CPU has and bytes/s of a copy, on `threads` threads."""
    import torch

    torch.set_num_threads(threads)
    products: dict[str, list[Callable[[int], float]]] = {
        "fp32": [lambda _threads: _torch(torch.float32)],
        "int8": [lambda _threads: _torch_int8(), _onnxruntime_int8, _openvino_int8],
    }
    if has_bf16(deciding_instructions()):
        products["bf16"] = [lambda _threads: _torch(torch.bfloat16), _openvino_bf16]
    copy_from = torch.zeros(COPY_BYTES, dtype=torch.uint8)
    copy_to = torch.zeros_like(copy_from)
    with torch.inference_mode():
        return {
            "threads": threads,
            "operations_per_s": {
                name: operations(CPU_SIZE) / min(_seconds(measure, threads) for measure in ways)
                for name, ways in products.items()
            },
            "bytes_per_s": 2 * COPY_BYTES / best_seconds(lambda: copy_to.copy_(copy_from)),
        }


def _seconds(measure: Callable[[int], float], threads: int) -> float:
    """Return what a product takes, infinity where its runtime cannot be imported."""
    try:
        return measure(threads)
    except (ImportError, OSError):
        return float("inf")


def _torch(dtype: torch.dtype) -> float:
    import torch

    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(CPU_SIZE, CPU_SIZE, generator=generator).to(dtype) for _ in range(2))
    return best_seconds(lambda: torch.mm(left, right))


def _torch_int8() -> float:
    """Return the seconds of a layer as dynamic quantization makes it: INT8 weights, inputs quantized in each call."""
    import torch

    left = torch.randn(CPU_SIZE, CPU_SIZE, generator=torch.Generator().manual_seed(0))
    plain = torch.nn.Sequential(torch.nn.Linear(CPU_SIZE, CPU_SIZE, bias=False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        linear = torch.ao.quantization.quantize_dynamic(plain, {torch.nn.Linear}, dtype=torch.qint8)
    return best_seconds(lambda: linear(left))


def _onnxruntime_int8(threads: int) -> float:
    """Return the seconds of ONNX Runtime's integer product."""
    import onnxruntime
    from onnx import TensorProto, helper

    product = helper.make_node("MatMulInteger", ["left", "weight"], ["product"])
    model = _model([product], TensorProto.UINT8, TensorProto.INT32, {"weight": _int8_weight()})
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    left = np.full((CPU_SIZE, CPU_SIZE), 3, dtype=np.uint8)
    return best_seconds(lambda: session.run(["product"], {"left": left}))


def _openvino_int8(threads: int) -> float:
    """Return the seconds of OpenVINO's product of an activation and a weight that are both quantized."""
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("QuantizeLinear", ["left", "scale", "zero_u8"], ["quantized"]),
        helper.make_node("DequantizeLinear", ["quantized", "scale", "zero_u8"], ["activation"]),
        helper.make_node("DequantizeLinear", ["weight", "scale", "zero_i8"], ["multiplied"]),
        helper.make_node("MatMul", ["activation", "multiplied"], ["product"]),
    ]
    constants = {
        "weight": _int8_weight(),
        "scale": np.array(SCALE, dtype=np.float32),
        "zero_u8": np.array(128, dtype=np.uint8),
        "zero_i8": np.array(0, dtype=np.int8),
    }
    return _openvino(_model(nodes, TensorProto.FLOAT, TensorProto.FLOAT, constants), "f32", threads)


def _openvino_bf16(threads: int) -> float:
    """Return the seconds of OpenVINO's product in BF16."""
    from onnx import TensorProto, helper

    weight = np.random.default_rng(0).standard_normal((CPU_SIZE, CPU_SIZE), dtype=np.float32)
    product = helper.make_node("MatMul", ["left", "weight"], ["product"])
    return _openvino(_model([product], TensorProto.FLOAT, TensorProto.FLOAT, {"weight": weight}), "bf16", threads)


def _openvino(model: bytes, precision: str, threads: int) -> float:
    core = import_openvino().Core()
    request = core.compile_model(core.read_model(model), DEVICE, properties(precision, threads)).create_infer_request()
    left = np.random.default_rng(1).standard_normal((CPU_SIZE, CPU_SIZE), dtype=np.float32)
    return best_seconds(lambda: request.infer([left], share_inputs=True))


def _int8_weight() -> Any:
    return np.random.default_rng(0).integers(-127, 128, (CPU_SIZE, CPU_SIZE), dtype=np.int8)


def _model(nodes: list[Any], left_type: int, product_type: int, constants: dict[str, Any]) -> bytes:
    """Return an ONNX model of `left` and these constants to `product`, all square."""
    from onnx import helper, numpy_helper

    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("left", left_type, [CPU_SIZE, CPU_SIZE])],
        [helper.make_tensor_value_info("product", product_type, [CPU_SIZE, CPU_SIZE])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
