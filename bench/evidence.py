"""Does what a session shows of itself agree with the label of its row?"""

from __future__ import annotations

from typing import Any

from bench.params import Variant

WEIGHT_TYPES = {
    "fp32": ("float32", "float"),
    "tf32": ("float32", "float"),
    "fp16": ("float16",),
    "int8": ("qint8", "int8"),
}
"""Names of the weights' type in PyTorch and in ONNX for each precision."""
MAIN_SHARE = 0.3
"""Smallest share of weight bytes in the row's type.  INT8 rows keep their embeddings, a large part, in float32."""
EXECUTION_PROVIDERS = {
    ("onnxruntime", "cpu"): "CPUExecutionProvider",
    ("onnxruntime", "cuda"): "CUDAExecutionProvider",
    ("tensorrt", "cuda"): "TensorrtExecutionProvider",
}


def contradiction(variant: Variant, evidence: dict[str, Any]) -> str:
    """Return how the evidence contradicts the row's device or precision; empty if it does not."""
    return _wrong_device(variant, evidence) or _wrong_weights(variant, evidence)


def _wrong_device(variant: Variant, evidence: dict[str, Any]) -> str:
    wanted = EXECUTION_PROVIDERS.get((variant.runtime, variant.device))
    providers = evidence.get("providers")
    if wanted and providers and providers[0] != wanted:
        return f"wanted {wanted}, observed {providers[0]}"
    devices = evidence.get("device")
    if devices and devices != [variant.device]:
        return f"wanted weights on {variant.device}, observed {', '.join(devices)}"
    return ""


def _wrong_weights(variant: Variant, evidence: dict[str, Any]) -> str:
    sizes: dict[str, int] = evidence.get("weight_bytes", {})
    if not sizes or variant.runtime == "tensorrt":
        return ""
    share = sum(sizes.get(name, 0) for name in WEIGHT_TYPES[variant.precision]) / sum(sizes.values())
    if share >= MAIN_SHARE:
        return ""
    observed = max(sizes, key=lambda name: sizes[name])
    return f"requested {variant.precision}, observed weights mostly {observed}"
