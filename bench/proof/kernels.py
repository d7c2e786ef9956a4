"""Read the arithmetic of a matrix product from the name of its kernel.

Names as cuBLAS, CUTLASS, cuDNN and TensorRT give them, for instance
    sm80_xmma_gemm_f32f32_tf32f32_f32_…      TF32
    ampere_sgemm_128x64_tn, …_simt_sgemm_…   float32
    cutlass_80_tensorop_f16_s16816gemm_…     FP16
    cutlass_80_tensorop_s1688gemm_…          TF32 (float32 operands on tensor cores)
    nvjet_sm90_hsh_…                         FP16 in, FP16 out (Hopper's tensor cores; h half, s single)
    nvjet_sm90_qqhsh_…                       FP8 in, FP16 out (q: e4m3)
    sm89_xmma_gemm_e4m3f16_e4m3f32_f32_…     the same on Ada
    sm90_xmma_gemm_i8f32_i8i32_f32_…         INT8 (in i8, out f32, multiplied as i8, added up in i32)
"""

import re

MATRIX_PRODUCT = re.compile(r"gemm|gemv|cutlass|nvjet|xmma|fmha|flash|mha_fwd|imma", re.IGNORECASE)
NOT_A_PRODUCT = re.compile(r"splitkreduce|reduction", re.IGNORECASE)
ATTENTION = re.compile(r"fmha|flash|mha_fwd", re.IGNORECASE)
ARITHMETIC = (
    ("int8", re.compile(r"i8816|i16832|i8i8|i8i32|igemm|imma|s8_s8|s8s8|int8", re.IGNORECASE)),
    ("fp8", re.compile(r"e4m3|fp8|float8|nvjet_(sm\d+_)?q", re.IGNORECASE)),
    ("bf16", re.compile(r"bf16|bfloat16|nvjet_(sm\d+_)?t", re.IGNORECASE)),
    ("tf32", re.compile(r"tf32|tensorop_s1688|nvjet_(sm\d+_)?s(?!m\d)", re.IGNORECASE)),
    ("fp16", re.compile(r"fp16|f16|h1688|h16816|h884|half|nvjet_(sm\d+_)?h", re.IGNORECASE)),
    ("fp32", re.compile(r"sgemm|simt|f32|float", re.IGNORECASE)),
)
"""The first pattern that a name holds decides; `float` alone is the weakest sign and comes last."""


def arithmetic_of(kernel: str) -> str:
    """Return fp32, tf32, fp16, bf16, fp8 or int8 for a matrix product, `unknown` for one that cannot be read, or ``."""
    if not MATRIX_PRODUCT.search(kernel) or NOT_A_PRODUCT.search(kernel):
        return ""
    return next((name for name, pattern in ARITHMETIC if pattern.search(kernel)), "unknown")


def without_attention(kernels: dict[str, float]) -> dict[str, float]:
    """Return the kernels but those that compute attention as one."""
    return {kernel: milliseconds for kernel, milliseconds in kernels.items() if not ATTENTION.search(kernel)}


def arithmetic_shares(kernels: dict[str, float]) -> dict[str, float]:
    """Return each arithmetic's share of the time in matrix products, largest first; empty if there are none."""
    times: dict[str, float] = {}
    for kernel, milliseconds in kernels.items():
        kind = arithmetic_of(kernel)
        if kind:
            times[kind] = times.get(kind, 0.0) + milliseconds
    total = sum(times.values())
    return {kind: times[kind] / total for kind in sorted(times, key=lambda name: -times[name])} if total else {}
