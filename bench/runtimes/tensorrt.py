"""ONNX Runtime with its TensorRT execution provider.

Engines come from the cache folder that `build_engine` filled; a session here never
builds one silently, because `bench.engines` checks that the folder did not change.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.runtimes.base import Logits, Session, SessionSpec, TokenArray, Unavailable
from bench.runtimes.onnxruntime import (
    ERROR_ONLY,
    CudaGraphSession,
    PlainSession,
    create_session,
    import_libraries,
    load_cuda_libraries,
)

LIBRARIES = ("onnxruntime", "tensorrt")
SUPPORTED = frozenset({("cuda", "fp32"), ("cuda", "tf32"), ("cuda", "fp16"), ("cuda", "int8")})
OPTIONS: dict[str, tuple[str | bool | int, ...]] = {"cuda_graph": (True, False), "fp16_by": ("graph", "flag")}
PROVIDER = "TensorrtExecutionProvider"
MIB = 2**20


__all__ = ["LIBRARIES", "OPTIONS", "SUPPORTED", "import_libraries", "open_session"]


def open_session(spec: SessionSpec) -> Session:
    """Load engines from `spec.engine` (or build them into it): one for all batch sizes, or one each."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(ERROR_ONLY)
    load_cuda_libraries(onnxruntime)
    if spec.engine is None:
        raise Unavailable("no engine was built for this variant")
    if spec.engine_options["profiles"] == "per_batch":
        return PerBatchSessions(spec)
    return _wrap(create_session(spec, PROVIDER, provider_options(spec, spec.batch_sizes, spec.engine)), spec)


def _wrap(session: Any, spec: SessionSpec) -> PlainSession:
    return CudaGraphSession(session, spec) if spec.options.get("cuda_graph") else PlainSession(session, spec)


def provider_options(spec: SessionSpec, batch_sizes: list[int], folder: Path) -> dict[str, str]:
    """Return the provider's options; booleans are 'True' and 'False' here, unlike the CUDA provider's."""
    precision_flags = {
        "trt_fp16_enable": spec.precision == "fp16" and spec.options.get("fp16_by", "graph") == "flag",
        "trt_int8_enable": spec.precision == "int8",
    }
    flags = {
        **precision_flags,
        "trt_engine_cache_enable": True,
        "trt_timing_cache_enable": True,
        "trt_cuda_graph_enable": bool(spec.options.get("cuda_graph")),
    }
    return {
        "device_id": "0",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_path": str(folder),
        "trt_builder_optimization_level": str(spec.engine_options["optimization_level"]),
        "trt_max_workspace_size": str(spec.engine_options["workspace_mib"] * MIB),
        **{name: str(value) for name, value in flags.items()},
        **profile_options(batch_sizes, spec.sequence_length),
    }


def profile_options(batch_sizes: list[int], sequence_length: int) -> dict[str, str]:
    """Return the explicit profile: an engine outside its range would be built again without a word."""

    def shapes(batch_size: int) -> str:
        return ",".join(f"{name}:{batch_size}x{sequence_length}" for name in ("input_ids", "attention_mask"))

    return {
        "trt_profile_min_shapes": shapes(min(batch_sizes)),
        "trt_profile_opt_shapes": shapes(max(batch_sizes)),
        "trt_profile_max_shapes": shapes(max(batch_sizes)),
    }


class PerBatchSessions:
    """One engine and session a batch size, each with a profile of exactly that size."""

    def __init__(self, spec: SessionSpec) -> None:
        if spec.engine is None:
            raise Unavailable("no engine was built for this variant")
        self._sessions: dict[int, PlainSession] = {}
        for size in spec.batch_sizes:
            folder = spec.engine / f"bs{size:03d}"
            folder.mkdir(exist_ok=True)
            session = create_session(spec, PROVIDER, provider_options(spec, [size], folder))
            self._sessions[size] = _wrap(session, spec)

    def run(self, input_ids: TokenArray, attention_mask: TokenArray) -> Logits:
        return self._sessions[len(input_ids)].run(input_ids, attention_mask)

    def free_cached_memory(self) -> None:
        """TensorRT keeps its workspace; there is nothing to free."""

    def operator_ms(self, batches: Sequence[tuple[TokenArray, TokenArray]]) -> dict[str, float]:
        """TensorRT runs on the GPU, whose kernels are looked at instead."""
        del batches
        return {}

    def evidence(self) -> dict[str, Any]:
        return next(iter(self._sessions.values())).evidence()
