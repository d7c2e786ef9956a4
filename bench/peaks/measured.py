"""The peaks of CPU and GPU: a large matrix product in each precision, and a large copy.

PyTorch does the work, since it is what every machine here has; on the CPU ONNX Runtime and OpenVINO are tried
too for INT8 and BF16, whose products are faster on many CPUs.  The shortest time counts: a peak is what the machine can
do, not what it does on average.
"""

import math
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.core.openvino_import import DEVICE, import_openvino, properties
from bench.machine.can_run import deciding_instructions, has_bf16

if TYPE_CHECKING:
    import torch

CPU_SIZE, CUDA_SIZE = 2048, 8192
"""Rows and columns of the square matrices."""
COPY_BYTES = 2**29
LEAST_RUNS = 5
LEAST_SECONDS = 0.5
SCALE = 0.01
"""Of one step of INT8: any will do."""
Peaks = dict[str, Any]


def measure_cpu_peaks(threads: int) -> Peaks:
    """Return operations/s for each precision that the CPU has and bytes/s of a copy, on `threads` threads."""
    import torch

    torch.set_num_threads(threads)
    products: dict[str, list[Callable[[], float]]] = {
        "fp32": [partial(_torch, "cpu", torch.float32)],
        "int8": [_torch_int8, partial(_onnxruntime_int8, threads), partial(_openvino_int8, threads)],
    }
    if has_bf16(deciding_instructions()):
        products["bf16"] = [partial(_torch, "cpu", torch.bfloat16), partial(_openvino_bf16, threads)]
    with torch.inference_mode():
        return {
            "threads": threads,
            "operations_per_s": {
                name: operations(CPU_SIZE) / min(_or_none(way, ImportError, OSError) or math.inf for way in ways)
                for name, ways in products.items()
            },
            "bytes_per_s": _copied_bytes("cpu"),
        }


def _torch(device: str, dtype: "torch.dtype") -> float:
    import torch

    size = CUDA_SIZE if device == "cuda" else CPU_SIZE
    random = torch.Generator(device).manual_seed(0)
    left, right = (torch.randn(size, size, device=device, dtype=dtype, generator=random) for _ in range(2))
    return best_seconds(lambda: torch.mm(left, right), device)


def _copied_bytes(device: str) -> float:
    """Return bytes/s of a copy, each read once and written once."""
    import torch

    copy_from = torch.zeros(COPY_BYTES, dtype=torch.uint8, device=device)
    copy_to = torch.zeros_like(copy_from)
    return 2 * COPY_BYTES / best_seconds(lambda: copy_to.copy_(copy_from), device)


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
    import onnxruntime

    model = _model("uint8", "int32", "product = MatMulInteger(left, weight)", weight=_int8_weight())
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    left = np.full((CPU_SIZE, CPU_SIZE), 3, dtype=np.uint8)
    return best_seconds(lambda: session.run(["product"], {"left": left}))


def _openvino_int8(threads: int) -> float:
    """Return the seconds of OpenVINO's product of an activation and a weight that are both quantized."""
    nodes = """
        quantized = QuantizeLinear(left, scale, zero_u8)
        activation = DequantizeLinear(quantized, scale, zero_u8)
        multiplied = DequantizeLinear(weight, scale, zero_i8)
        product = MatMul(activation, multiplied)
    """
    scale, zero_u8, zero_i8 = np.array(SCALE, np.float32), np.array(128, np.uint8), np.array(0, np.int8)
    model = _model("float", "float", nodes, weight=_int8_weight(), scale=scale, zero_u8=zero_u8, zero_i8=zero_i8)
    return _openvino(model, "f32", threads)


def _openvino_bf16(threads: int) -> float:
    weight = np.random.default_rng(0).standard_normal((CPU_SIZE, CPU_SIZE), dtype=np.float32)
    return _openvino(_model("float", "float", "product = MatMul(left, weight)", weight=weight), "bf16", threads)


def _openvino(model: bytes, precision: str, threads: int) -> float:
    core = import_openvino().Core()
    request = core.compile_model(core.read_model(model), DEVICE, properties(precision, threads)).create_infer_request()
    left = np.random.default_rng(1).standard_normal((CPU_SIZE, CPU_SIZE), dtype=np.float32)
    return best_seconds(lambda: request.infer([left], share_inputs=True))


def _int8_weight() -> Any:
    return np.random.default_rng(0).integers(-127, 128, (CPU_SIZE, CPU_SIZE), dtype=np.int8)


def _model(left: str, product: str, nodes: str, **constants: NDArray[Any]) -> bytes:
    """Return an ONNX model of square matrices; `left`, `product`: their types, `nodes` in ONNX's textual form."""
    from onnx import numpy_helper, parser

    shape = f"[{CPU_SIZE}, {CPU_SIZE}]"
    graph = f"product ({left}{shape} left) => ({product}{shape} product) {{ {nodes} }}"
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> {graph}')
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    return bytes(model.SerializeToString())


def measure_cuda_peaks() -> Peaks | None:
    """Return operations/s for each precision and bytes/s of a copy, each only where it can be measured.

    None where PyTorch cannot compute on it (a GPU older than it supports).
    """
    import torch

    if not torch.cuda.is_available() or _or_none(lambda: float(torch.ones(1, device="cuda").sum())) is None:
        return None
    rates = {name: rate for name, measure in CUDA_PRODUCTS.items() if (rate := _or_none(measure)) is not None}
    copied = _or_none(partial(_copied_bytes, "cuda"))
    return {"operations_per_s": rates, **({"bytes_per_s": copied} if copied else {})}


def _floating_product(dtype: str, tf32: str) -> float:
    import torch

    torch.set_float32_matmul_precision(tf32)
    return operations(CUDA_SIZE) / _torch("cuda", getattr(torch, dtype))


def _int8_product() -> float:
    import torch

    left, right = (torch.ones(CUDA_SIZE, CUDA_SIZE, device="cuda", dtype=torch.int8) for _ in range(2))
    transposed = right.t()
    return operations(CUDA_SIZE) / best_seconds(lambda: torch._int_mm(left, transposed), "cuda")


def _fp8_product() -> float:
    import torch

    random = torch.Generator("cuda").manual_seed(0)
    square = (CUDA_SIZE, CUDA_SIZE)
    left, right = (torch.randn(square, device="cuda", generator=random).to(torch.float8_e4m3fn) for _ in range(2))
    transposed, one = right.t(), torch.ones((), device="cuda")
    multiply = partial(torch._scaled_mm, out_dtype=torch.float16, use_fast_accum=True)
    return operations(CUDA_SIZE) / best_seconds(lambda: multiply(left, transposed, one, one), "cuda")


CUDA_PRODUCTS: dict[str, Callable[[], float]] = {
    "fp32": partial(_floating_product, "float32", "highest"),
    "tf32": partial(_floating_product, "float32", "high"),
    "fp16": partial(_floating_product, "float16", "highest"),
    "bf16": partial(_floating_product, "bfloat16", "highest"),
    "fp8": _fp8_product,
    "int8": _int8_product,
}


def _or_none(measure: Callable[[], float], *missing: type[Exception]) -> float | None:
    """Return what `measure` returns, None where this machine or its libraries cannot do it, by the errors raised."""
    with suppress(*missing or (RuntimeError,)):
        return measure()
    return None


def operations(size: int) -> float:
    """Return the FLOPs of a product of two square matrices: 2 n³, a multiplication and an addition each."""
    return 2.0 * size**3


def best_seconds(run: Callable[[], Any], device: str = "cpu") -> float:
    """Return the shortest time of a run, after one that does not count."""
    import torch

    def seconds() -> float:
        before = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - before

    seconds()
    times: list[float] = []
    while len(times) < LEAST_RUNS or sum(times) < LEAST_SECONDS:
        times.append(seconds())
    return min(times)
