"""OpenVINO on the CPU, fed the same ONNX graphs."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from bench.core.errors import WorkerError
from bench.core.model_inputs import AnyBatch, Padding
from bench.core.openvino_import import DEVICE, import_openvino
from bench.core.openvino_import import properties as latency_properties
from bench.core.reports import Evidence
from bench.runtimes.base.session import Logits, Session, SessionSpec, Unavailable, Unfit

LIBRARIES = ("openvino",)
SUPPORTED = frozenset({("cpu", "fp32"), ("cpu", "bf16"), ("cpu", "int8")})
PADDINGS: tuple[Padding, ...] = ("fixed", "longest")
OPTIONS: dict[str, tuple[str | bool | int, ...]] = {"rest": ("fp32", "bf16")}
"""`rest`: the precision of all that is not quantized in an INT8 row."""
HINTS = {"fp32": "f32", "bf16": "bf16"}
"""`INFERENCE_PRECISION_HINT`.  Never left out: on CPUs with BF16 units OpenVINO runs float32 models in BF16 unless told
otherwise."""
GEMMS = frozenset({"FullyConnected", "Convolution"})
"""Types of executed nodes that multiply by a weight; a MatMul multiplies two results."""
EXECUTED = {"f32": "float32", "bf16": "bfloat16", "f16": "float16", "u8": "int8", "i8": "int8"}
"""This project's names of a node's `runtimePrecision`; of an INT8 GEMM it is the type of its activations."""


def import_libraries() -> None:
    import_openvino()


def open_session(spec: SessionSpec) -> Session:
    """Compile `spec.graph` for the CPU in exactly the precision asked for, for one request at a time (LATENCY).

    Unfit if OpenVINO does not take the graph, Unavailable if the CPU does not compute that precision.
    """
    return OpenVinoSession(compiled(spec), spec)


def compiled(spec: SessionSpec, **more: Any) -> Any:
    """Return the openvino.CompiledModel; `more`: further properties."""
    core = import_openvino().Core()
    settings = properties(spec)
    can = core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
    if settings["INFERENCE_PRECISION_HINT"] == "bf16" and "BF16" not in can:
        raise Unavailable("OpenVINO has no BF16 kernels for this CPU")
    try:
        model = core.read_model(str(spec.graph))
        if spec.padding == "fixed":
            model.reshape({value.any_name: [-1, spec.sequence_length] for value in model.inputs})
        return core.compile_model(model, DEVICE, settings | more)
    except RuntimeError as problem:
        raise Unfit(f"OpenVINO does not take this graph: {' '.join(str(problem).split())}") from problem


def properties(spec: SessionSpec) -> dict[str, Any]:
    """Return what OpenVINO is told for a row."""
    precision = spec.options.get("rest", "fp32") if spec.precision == "int8" else spec.precision
    return latency_properties(HINTS[str(precision)], spec.cpu_threads)


class OpenVinoSession(Session):
    """One compiled model and one infer request."""

    def __init__(self, model: Any, spec: SessionSpec) -> None:
        self._model = model
        self._spec = spec
        self._names = [value.any_name for value in model.inputs]
        self._request = model.create_infer_request()
        threads = model.get_property("INFERENCE_NUM_THREADS")
        if threads != spec.cpu_threads:
            raise WorkerError(f"asked OpenVINO for {spec.cpu_threads} threads, it took {threads}")

    def run(self, batch: AnyBatch) -> Logits:
        self._request.infer(dict(zip(self._names, batch.arrays, strict=True)), share_inputs=True)
        logits: Logits = self._request.get_output_tensor(0).data.copy()
        return logits

    def operator_ms(self, batches: Sequence[AnyBatch]) -> dict[str, float]:
        """Measure with a second model: one that counts is slower."""
        counting = OpenVinoSession(compiled(self._spec, PERF_COUNT=True), self._spec)
        profile = []
        for batch in batches:
            counting.run(batch)
            profile += counting._request.get_profiling_info()
        attention = _attention_nodes(counting._model)
        times: Counter[str] = Counter()
        for node in profile:
            kind = "Attention" if node.node_name in attention else node.node_type
            times[kind] += node.real_time.total_seconds() * 1000
        return dict(times)

    def evidence(self) -> Evidence:
        read = self._model.get_property
        return Evidence(
            device=[device.lower() for device in read("EXECUTION_DEVICES")],
            product_weights=_executed_gemms(self._model),
            precision_hint=str(read("INFERENCE_PRECISION_HINT").get_type_name()),
            streams=int(read("NUM_STREAMS")),
            cpu_threads=int(read("INFERENCE_NUM_THREADS")),
            nodes=len(self._model.get_runtime_model().get_ops()),
        )


def _attention_nodes(model: Any) -> set[str]:
    """Return the names of executed nodes that are attention: two GEMMs with the mask and the softmax between them.

    OpenVINO compiles it to one node of the type Subgraph, as other chains of operators; only into attention go two
    arrays `[batch, heads, …, …]`.
    """
    return {
        node.friendly_name
        for node in model.get_runtime_model().get_ops()
        if _text(node.get_rt_info(), "layerType") == "Subgraph"
        and sum(len(value.get_partial_shape()) == 4 for value in node.inputs()) > 1
    }


def _executed_gemms(model: Any) -> dict[str, int]:
    """Return the elements of the weights that nodes multiplied by when they ran, by the type of the multiplication."""
    elements: Counter[str] = Counter()
    for node in model.get_runtime_model().get_ops():
        facts = node.get_rt_info()
        if _text(facts, "layerType") in GEMMS:
            kind = _text(facts, "runtimePrecision")
            elements[EXECUTED.get(kind, kind)] += math.prod(node.input(1).get_shape())
    return dict(elements)


def _text(facts: Any, name: str) -> str:
    return str(facts[name].astype(str)) if name in facts else ""
