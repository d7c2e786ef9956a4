"""Can a variant run on this machine at all, and which of a CPU's instructions decide how fast it multiplies?"""

import re
from typing import TYPE_CHECKING, Any

from bench.core.errors import DataError

if TYPE_CHECKING:  # a fleet's environment, which probes machines, has no numpy
    from bench.core.params import Params, Variant

DECIDING = (
    *("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"),
    *("asimddp", "i8mm", "bf16", "sve", "sve2", "sme"),
)
"""x86: vectors of 256 and 512 bits, INT8 and BF16 products in vectors (VNNI, BF16) and in tiles (AMX).  Arm: dot
products, INT8 and BF16 matrix products, scalable vectors and tiles."""
BF16 = ("avx512_bf16", "amx_bf16", "bf16")
"""Any of these multiplies BF16; without them it is emulated in float32."""
LEAST_CAPABILITY = {"tf32": (8, 0), "bf16": (8, 0), "fp8": (8, 9)}
"""From which compute capability on tensor cores take a precision (CUDA C++ Programming Guide)."""


def reason_to_skip(variant: "Variant", environment: dict[str, Any]) -> str:
    """Return why the variant cannot run on this machine, from what `probe` found; empty if it can be tried."""
    if variant.device == "cuda" and environment["cuda"] is None:
        return str(environment.get("gpu_fault") or "no NVIDIA GPU found")
    if variant.runtime not in environment["runtimes"]:
        raise DataError(f"metrics/env.json does not know the runtime {variant.runtime!r}: run `dvc repro probe`")
    missing = [name for name, version in environment["runtimes"][variant.runtime].items() if version is None]
    if missing:
        return f"not installed, or cannot be imported: {', '.join(missing)}"
    if variant.device == "cuda" and variant.runtime.startswith("pytorch") and not has_code(environment["cuda"]):
        gpu = environment["cuda"]
        return (
            f"this PyTorch has no code for compute capability {gpu['compute_capability']}, only {gpu['pytorch_code']}: "
            "another version of PyTorch may have"
        )
    if variant.device == "cuda":
        return _too_old(environment["cuda"], variant.precision)
    is_bf16 = variant.precision == "bf16" or variant.options.get("rest") == "bf16"
    if is_bf16 and not has_bf16(environment["cpu"].get("instructions", "")):
        return f"this CPU has no BF16 instructions (none of {', '.join(BF16)})"
    return ""


def _too_old(gpu: dict[str, Any], precision: str) -> str:
    """Return that the GPU's tensor cores do not take a precision; empty if they do, or nothing is known."""
    capability, least = gpu["compute_capability"], LEAST_CAPABILITY.get(precision)
    if least is None or capability is None or tuple(map(int, capability.split("."))) >= least:
        return ""
    return f"{precision.upper()} needs compute capability {'.'.join(map(str, least))}, this GPU has {capability}"


def has_code(gpu: dict[str, Any]) -> bool:
    """Tell whether PyTorch has code that the GPU runs; true where that is not known.

    Machine code (`sm_86`) runs on GPUs of its generation from its own revision on, PTX (`compute_90`) on all later ones
    (CUDA C++ Programming Guide, Application Compatibility).
    """
    capability, code = gpu["compute_capability"], gpu.get("pytorch_code")
    if not capability or not code:
        return True
    own = tuple(map(int, capability.split(".")))
    for kind, number in re.findall(r"(sm|compute)_(\d+)", code):
        made_for = divmod(int(number), 10)
        if made_for <= own and (kind == "compute" or made_for[0] == own[0]):
            return True
    return False


def required_graphs(params: "Params", environment: dict[str, Any]) -> set[str]:
    """Return the graphs (`onnx/NAME.onnx`, or `model`) of the rows that can run here.

    Those of a precision that is switched off stay, so that switching it makes nothing stale but its rows.
    """
    return {row.graph for row in params.all_variants().values() if not reason_to_skip(row, environment)}


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
