"""The TensorRT runtime without a GPU; tests put it into a copy's bench/runtimes/tensorrt.py.

As with ONNX Runtime's provider the engine's file name does not tell weights apart, and whatever
lies under that name is run.  Here an engine is the graph itself, and the CPU runs it.
With the option `fails_with` no engine is built.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import NoReturn

from bench.core.reports import Evidence
from bench.runtimes.base.session import Session, SessionSpec
from bench.runtimes.onnxruntime import PlainSession, graph_evidence, import_libraries

LIBRARIES = ("onnxruntime", "tensorrt")
SUPPORTED = frozenset({("cuda", "tf32"), ("cuda", "fp16"), ("cuda", "int8")})
PADDINGS = ("fixed", "longest")
NO_BUILDER_RESOURCE = (
    "[libLoader.cpp::Impl::293] Error Code 6: Internal Error (Unable to load libnvinfer_builder_resource)"
)
NO_INT8 = "[graphOptimizer.cpp::convertMyelinWeightsToFp32::8001] Error Code 2: Internal Error (Assertion failed)"
OPTIONS: dict[str, tuple[str | bool | int, ...]] = {"fails_with": (NO_BUILDER_RESOURCE, NO_INT8)}

MIB = 2**20

__all__ = ["LIBRARIES", "OPTIONS", "PADDINGS", "SUPPORTED", "import_libraries", "open_session"]


def open_session(spec: SessionSpec) -> Session:
    import onnx
    import onnxruntime

    assert spec.engine is not None
    if "fails_with" in spec.options:
        _fail(str(spec.options["fails_with"]))
    names = " ".join(node.name for node in onnx.load(str(spec.graph)).graph.node)
    engine = spec.engine / f"{hashlib.sha256(names.encode()).hexdigest()[:16]}.engine"
    if not engine.exists():
        engine.write_bytes(spec.graph.read_bytes())
    return StandIn(onnxruntime.InferenceSession(str(engine), providers=["CPUExecutionProvider"]), spec)


def input_names(_graph: Path) -> list[str]:
    return ["input_ids", "attention_mask"]


def lengths_of(spec: SessionSpec) -> tuple[int, ...]:
    return (spec.sequence_length,)


def profile_options(_sizes: list[int], _lengths: tuple[int, ...], _names: list[str]) -> dict[str, str]:
    return {}


def _fail(words: str) -> NoReturn:
    """End as ONNX Runtime does: TensorRT's error in red, then an exception that does not hold it."""
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail

    sys.stderr.write(f"\x1b[1;31m[E:onnxruntime:Default, tensorrt.h:81 log] [   ERROR] {words}\x1b[m\n")
    raise Fail("TensorRT EP failed to create engine")


class StandIn(PlainSession):
    def evidence(self) -> Evidence:
        return Evidence(providers=["TensorrtExecutionProvider"], **graph_evidence(self._spec.graph))
