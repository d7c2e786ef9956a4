"""How long a CPU row works on matrix products, from the operator times of an untimed pass."""

from __future__ import annotations

import re

MATRIX_PRODUCT = re.compile(r"(^|[:_])mm$|bmm|addmm|matmul|gemm|linear|fullyconnected|attention", re.IGNORECASE)
"""Operators of PyTorch (aten::addmm, quantized::linear_dynamic, …), ONNX Runtime (FusedMatMul, MatMulInteger, …) and
OpenVINO (FullyConnected).

Fused attention counts as a whole: two matrix products and the softmax between them.
"""


def matrix_share(operators: dict[str, float]) -> float | None:
    """Return the share of the operators' time that goes into matrix products; None without any time."""
    total = sum(operators.values())
    if not total:
        return None
    return sum(time for name, time in operators.items() if MATRIX_PRODUCT.search(name)) / total
