"""What Triton's ONNX Runtime backend is told of a row: keys and values as in its src/onnxruntime.cc."""

from __future__ import annotations

from typing import Any

from bench.deploy.settings import Settings
from bench.runtimes.base.session import SessionSpec
from bench.runtimes.tensorrt import MIB, input_names, lengths_of, profile_options

RUNTIMES = ("onnxruntime", "tensorrt")
"""Whose graphs it takes."""


def described(settings: Settings, spec: SessionSpec) -> dict[str, Any]:
    """Return what config.pbtxt.j2 is filled with; CUDA graphs stay out: the backend binds new buffers each time."""
    names = input_names(spec.graph)
    own: dict[str, str] = {}
    if settings.runtime == "tensorrt":
        options = settings.engine_options
        by_flag = settings.options.get("fp16_by") == "flag"
        own = {
            "precision_mode": "INT8" if settings.precision == "int8" else "FP16" if by_flag else "FP32",
            "max_workspace_size_bytes": str(options["workspace_mib"] * MIB),
            "trt_builder_optimization_level": str(options["optimization_level"]),
            **profile_options(settings.batch_sizes, lengths_of(spec), names),
        }
    elif settings.device == "cuda":
        own = {"use_tf32": str(int(settings.precision == "tf32"))}
    length = settings.sequence_length if settings.padding == "fixed" else -1
    return {"inputs": names, "length": length, "accelerator": own}
