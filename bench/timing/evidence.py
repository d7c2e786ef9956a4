"""Does what a session shows of itself agree with the label of its row?

Three things are looked at: where the session ran, the type of its weights, and the
arithmetic of its kernels.  (The fourth, the error against the reference, is the gate.)
"""

from bench.core.params import Variant
from bench.core.reports import Evidence, Profile
from bench.proof.kernels import arithmetic_shares, without_attention

WEIGHT_TYPES = {
    "fp32": ("float32", "float"),
    "tf32": ("float32", "float"),
    "fp16": ("float16",),
    "bf16": ("bfloat16",),
    "fp8": ("float8_e4m3fn",),
    "int8": ("qint8", "int8"),
}
"""Names of the weights' type in PyTorch and in ONNX for each precision."""
MAIN_SHARE = 0.9
"""Smallest share, in the row's type, of the elements that matrix products take as weights.  Embeddings are looked up
and not multiplied: they are no part of it, however large."""
STRICT_SHARE = 0.01
"""Largest share of matrix-product time that an fp32 row may spend in lower precision."""
SHAPE_OPERATORS = frozenset(
    {
        *("Shape", "Size", "Gather", "Unsqueeze", "Squeeze", "Concat", "Cast", "Slice"),
        *("Range", "ConstantOfShape", "Constant", "Add", "Sub", "Mul", "Div", "Equal"),
        *("Where", "Reshape", "Expand", "ReduceProd", "Min", "Max", "Greater", "Less"),
        *("Not", "And", "Or", "Identity", "Mod", "ScatterND", "ScatterElements", "NonZero"),
    }
)
"""What ONNX Runtime computes shapes and indices with, on the CPU; it leaves no other of these operators there, since
the CUDA provider has them all."""
EXECUTION_PROVIDERS = {
    ("onnxruntime", "cpu"): "CPUExecutionProvider",
    ("onnxruntime", "cuda"): "CUDAExecutionProvider",
    ("tensorrt", "cuda"): "TensorrtExecutionProvider",
}


def contradiction(variant: Variant, evidence: Evidence) -> str:
    """Return how the session's evidence contradicts the row's device, precision or options; empty if it does not."""
    calls = evidence.uncompiled_calls
    not_compiled = f"wanted compiled code, observed {calls} calls of the model without it" if calls else ""
    return _wrong_device(variant, evidence) or _wrong_weights(variant, evidence) or not_compiled


def kernel_contradiction(variant: Variant, profile: Profile | None) -> str:
    """Return how the kernels of one cell contradict its row; empty if they do not or none were recorded."""
    if variant.device != "cuda" or profile is None:
        return ""
    if not profile.kernels:
        return "wanted cuda, observed no kernel on the GPU"
    kernels = without_attention(profile.kernels) if variant.precision == "fp8" else profile.kernels  # it stays FP16
    shares = arithmetic_shares(kernels)
    readable = {name: share for name, share in shares.items() if name != "unknown"}
    if not readable:
        return ""
    observed = max(readable, key=lambda name: readable[name])
    lower = {name: share for name, share in readable.items() if name != "fp32"}
    if variant.precision == "fp32" and sum(lower.values()) > STRICT_SHARE:
        observed = max(lower, key=lambda name: lower[name])
    if observed == variant.precision:
        return ""
    share = readable[observed]
    return f"requested {variant.precision}, observed {observed} in {share:.0%} of the time in matrix products"


def proof_mark(variant: Variant, evidence: Evidence, profile: Profile | None) -> str:
    """Return which of the proofs a cell has: D device, W weights, K kernels; `-` for each that was not recorded."""
    shares = arithmetic_shares(profile.kernels) if profile else {}
    device = evidence.providers or evidence.device
    found = {"D": device, "W": evidence.product_weights, "K": set(shares) - {"unknown"}}
    letters = "".join(letter if seen else "-" for letter, seen in found.items())
    return letters if variant.device == "cuda" else letters[:2]


def _wrong_device(variant: Variant, evidence: Evidence) -> str:
    wanted = EXECUTION_PROVIDERS.get((variant.runtime, variant.device))
    if wanted and evidence.providers and evidence.providers[0] != wanted:
        return f"wanted {wanted}, observed {evidence.providers[0]}"
    elsewhere = {name: nodes for name, nodes in evidence.operators_elsewhere.items() if name not in SHAPE_OPERATORS}
    if wanted and elsewhere:
        names = ", ".join(f"{count} {name}" for name, count in sorted(elsewhere.items()))
        return f"wanted every node but those that compute shapes on {wanted}, observed elsewhere: {names}"
    if evidence.device and evidence.device != [variant.device]:
        return f"wanted weights on {variant.device}, observed {', '.join(evidence.device)}"
    return ""


def _wrong_weights(variant: Variant, evidence: Evidence) -> str:
    sizes = evidence.product_weights
    if not sizes or variant.runtime == "tensorrt":
        return ""
    share = sum(sizes.get(name, 0) for name in WEIGHT_TYPES[variant.precision]) / sum(sizes.values())
    if share >= MAIN_SHARE:
        return ""
    others = {name: size for name, size in sizes.items() if name not in WEIGHT_TYPES[variant.precision]}
    observed = max(others, key=lambda name: others[name])
    part = others[observed] / sum(sizes.values())
    return f"requested {variant.precision}, observed {observed} in {part:.0%} of the weights of matrix products"
