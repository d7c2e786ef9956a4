"""Which instructions decide how fast a CPU multiplies, by the names that Linux gives them."""

from __future__ import annotations

DECIDING = (
    *("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"),
    *("asimddp", "i8mm", "bf16", "sve", "sve2", "sme"),
)
"""x86: vectors of 256 and 512 bits, INT8 and BF16 products in vectors (VNNI, BF16) and in tiles (AMX).  Arm: dot
products, INT8 and BF16 matrix products, scalable vectors and tiles."""
BF16 = ("avx512_bf16", "amx_bf16", "bf16")
"""Any of these multiplies BF16; without them it is emulated in float32."""


def deciding_instructions() -> str:
    """Return those of `DECIDING` that this CPU has, in that order; empty where nothing is known.

    What the system tells counts (a virtual machine may hide some), on Apple's chips what is known of the model.
    """
    from archspec import cpu

    found = set(cpu.host().features) | set(cpu.detect.detected_info().features)
    return " ".join(name for name in DECIDING if name in found)


def has_bf16(instructions: str) -> bool:
    """Tell whether a CPU with these instructions multiplies BF16."""
    return not set(BF16).isdisjoint(instructions.split())
