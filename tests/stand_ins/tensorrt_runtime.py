"""The TensorRT runtime without a GPU; tests put it into a copy's bench/runtimes/tensorrt.py.

As with ONNX Runtime's provider the engine's file name does not tell weights apart, and whatever
lies under that name is run.  Here an engine is the graph itself, and the CPU runs it.
"""

from __future__ import annotations

import hashlib
from typing import Any

from bench.runtimes.base import Session, SessionSpec
from bench.runtimes.onnxruntime import PlainSession, graph_evidence, import_libraries

LIBRARIES = ("onnxruntime", "tensorrt")
SUPPORTED = frozenset({("cuda", "tf32"), ("cuda", "fp16")})
OPTIONS: dict[str, tuple[str | bool | int, ...]] = {}

__all__ = ["LIBRARIES", "OPTIONS", "SUPPORTED", "import_libraries", "open_session"]


def open_session(spec: SessionSpec) -> Session:
    import onnx
    import onnxruntime

    assert spec.engine is not None
    names = " ".join(node.name for node in onnx.load(str(spec.graph)).graph.node)
    engine = spec.engine / f"{hashlib.sha256(names.encode()).hexdigest()[:16]}.engine"
    if not engine.exists():
        engine.write_bytes(spec.graph.read_bytes())
    return StandIn(onnxruntime.InferenceSession(str(engine), providers=["CPUExecutionProvider"]), spec)


class StandIn(PlainSession):
    def evidence(self) -> dict[str, Any]:
        return {"providers": ["TensorrtExecutionProvider"], **graph_evidence(self._spec.graph)}
