"""A runtime that computes something else than its row is labelled; tests put it into a copy's bench/runtimes."""

from __future__ import annotations

import os
from dataclasses import replace

from bench.runtimes.base.registry import import_runtime
from bench.runtimes.base.session import Session, SessionSpec

LIBRARIES = ("torch", "onnxruntime")
SUPPORTED = frozenset({("cpu", "int8"), ("cuda", "fp32"), ("cuda", "fp16")})
PADDINGS = ("fixed",)
OPTIONS: dict[str, tuple[str | bool | int, ...]] = {
    "through": ("pytorch", "onnxruntime"),
    "precision": ("fp32", "tf32"),
    "graph": ("fp32.onnx",),
}


def import_libraries() -> None:
    """Import what the row runs with when its session is opened; until then the label's TF32 switch can be undone."""
    os.environ.pop("NVIDIA_TF32_OVERRIDE", None)


def open_session(spec: SessionSpec) -> Session:
    graph = spec.graph.with_name(str(spec.options.get("graph", spec.graph.name)))
    runtime = import_runtime(str(spec.options["through"]))
    runtime.import_libraries()
    return runtime.open_session(replace(spec, precision=str(spec.options["precision"]), graph=graph, options={}))
