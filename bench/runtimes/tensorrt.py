"""ONNX Runtime with its TensorRT execution provider.

Engines come from the cache folder that `build_engine` filled; a session here never builds one silently, because
`bench.workers.engines` checks that the folder did not change.
"""

import re
from functools import partial
from pathlib import Path
from typing import Any

from bench.core.model_inputs import Padding
from bench.machine.versions import library_version
from bench.runtimes.base.session import Session, SessionSpec, Unavailable
from bench.runtimes.onnxruntime import (
    CudaGraphSession,
    PlainSession,
    SessionPerBatch,
    create_session,
    damaged_graph,
    import_libraries,
    load_cuda_libraries,
)

LIBRARIES = ("onnxruntime", "tensorrt")
SUPPORTED = frozenset({("cuda", "fp32"), ("cuda", "tf32"), ("cuda", "fp16"), ("cuda", "int8")})
PADDINGS: tuple[Padding, ...] = ("fixed", "longest")
OPTIONS: dict[str, tuple[str | bool | int, ...]] = {"cuda_graph": (True, False), "fp16_by": ("graph", "flag")}
"""`flag` lets TensorRT choose FP16 layer by layer, beside INT8 too."""
PROVIDER = "TensorrtExecutionProvider"
MIB = 2**20
LIBRARY_MAJOR = re.compile(r"nvinfer\.so\.(\d+)|nvinfer_(\d+)\.dll")

__all__ = ["LIBRARIES", "OPTIONS", "PADDINGS", "SUPPORTED", "import_libraries", "open_session"]


def open_session(spec: SessionSpec) -> Session:
    """Load engines from `spec.engine` (or build them into it): one for all batch sizes, or one each."""
    import_libraries()
    load_cuda_libraries()
    folder = spec.engine
    if folder is None:
        raise Unavailable("no engine was built for this variant")
    if spec.padding != "fixed" and spec.options.get("cuda_graph"):
        raise Unavailable("TensorRT's CUDA graph is good for one shape alone: take padding fixed, or no cuda_graph")
    installed = library_version("tensorrt")
    needs_int32 = is_tensorrt_8(installed) and spec.options.get("cuda_graph")
    open_one = partial(_open, spec, installed, with_int32_inputs(spec.graph) if needs_int32 else None)
    if spec.engine_options["profiles"] == "per_batch" or spec.options.get("cuda_graph"):
        return SessionPerBatch(lambda size: open_one([size], folder / f"bs{size:03d}"))
    return open_one(spec.batch_sizes, folder)


def _open(
    spec: SessionSpec, installed: str | None, graph: bytes | None, batch_sizes: list[int], folder: Path
) -> PlainSession:
    """Open one session; Unavailable says which TensorRT this ONNX Runtime looks for and which one is here."""
    folder.mkdir(exist_ok=True)
    options = provider_options(spec, folder, is_tensorrt_8(installed))
    options |= profile_options(batch_sizes, lengths_of(spec), input_names(spec.graph))
    try:
        session = create_session(spec, PROVIDER, options, graph=graph)
    except Unavailable as problem:
        raise Unavailable(explain_missing_tensorrt(str(problem), installed)) from problem
    return CudaGraphSession(session, spec) if spec.options.get("cuda_graph") else PlainSession(session, spec)


def is_tensorrt_8(version: str | None) -> bool:
    """Tell TensorRT 8 (seen with 8.6.1) from newer versions; an unknown one counts as new.

    There the types of a graph are only a hint: without the FP16 flag an FP16 graph runs in TF32.  INT64 inputs are cast
    outside the engine and its CUDA graph: replays return the first input's logits for ever.
    """
    return (version or "").split(".")[0] == "8"


def explain_missing_tensorrt(message: str, installed: str | None) -> str:
    """Return the loader's message, or which major version is required and which is installed if they differ."""
    found = LIBRARY_MAJOR.search(message)
    required = found[1] or found[2] if found else None
    if not required or not installed or installed.split(".")[0] == required:
        return message
    return f"this ONNX Runtime needs TensorRT {required}, installed is {installed}"


def provider_options(spec: SessionSpec, folder: Path, is_weakly_typed: bool = False) -> dict[str, str]:
    """Return the provider's options but for the profile; booleans are 'True' and 'False' here."""
    by_flag = spec.options.get("fp16_by", "graph") == "flag"
    needs_flag = spec.precision == "fp16" and is_weakly_typed
    options = {
        "device_id": 0,
        "trt_engine_cache_path": folder,
        "trt_timing_cache_path": spec.engine or folder,
        "trt_builder_optimization_level": spec.engine_options["optimization_level"],
        "trt_max_workspace_size": spec.engine_options["workspace_mib"] * MIB,
        "trt_fp16_enable": by_flag or needs_flag,
        "trt_int8_enable": spec.precision == "int8",
        "trt_engine_cache_enable": True,
        "trt_timing_cache_enable": True,
        "trt_cuda_graph_enable": bool(spec.options.get("cuda_graph")),
    }
    return {name: str(value) for name, value in options.items()}


def lengths_of(spec: SessionSpec) -> tuple[int, int, int]:
    """Return the shortest, the usual and the longest length of a variant's batches.

    Usual, for which an engine is made the fastest, is a quarter of the limit: most sentences are far shorter than it.
    """
    longest = spec.sequence_length
    if spec.padding == "fixed":
        return longest, longest, longest
    step = min(spec.multiple_of, longest)
    return step, max(step, longest // 4 // step * step), longest


def profile_options(batch_sizes: list[int], lengths: tuple[int, int, int], names: list[str]) -> dict[str, str]:
    """Return the explicit profile, the fastest at the batch size in the middle: outside it engines are built anew."""
    ordered = sorted(batch_sizes)
    sizes = (ordered[0], ordered[len(ordered) // 2], ordered[-1])
    return {
        f"trt_profile_{bound}_shapes": ",".join(f"{name}:{size}x{length}" for name in names)
        for bound, size, length in zip(("min", "opt", "max"), sizes, lengths, strict=True)
    }


def input_names(path: Path) -> list[str]:
    """Return what a graph takes, in its order; DataError if it cannot be read."""
    return [value.name for value in _load(path).graph.input]


def _load(path: Path) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.load(str(path))
    except (DecodeError, OSError) as problem:
        raise damaged_graph(path, problem) from None


def with_int32_inputs(path: Path) -> bytes:
    """Return the graph's bytes with INT32 inputs instead of INT64; what follows from them is left to be inferred."""
    import onnx

    model = _load(path)
    for value in model.graph.input:
        value.type.tensor_type.elem_type = onnx.TensorProto.INT32
    _widen_where_needed(model)
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def _widen_where_needed(model: Any) -> None:
    """Cast an input back to INT64, inside the graph, for the nodes that compare or add it to INT64.

    RoBERTa's positions are counted from where the tokens are not the padding token.
    """
    import onnx

    graph, opset = model.graph, next(each.version for each in model.opset_import if each.domain == "")
    names = {value.name for value in graph.input}
    widened: dict[str, Any] = {}
    for node in graph.node:
        types = _type_names(node, opset)
        for place, name in enumerate(node.input):
            others = [other for other, kind in zip(node.input, types, strict=True) if kind == types[place]]
            if name in names and not names.issuperset(others):
                wide = f"{name}_int64"
                widened[name] = onnx.helper.make_node("Cast", [name], [wide], to=onnx.TensorProto.INT64, name=wide)
                node.input[place] = wide
    nodes = [*widened.values(), *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _type_names(node: Any, opset: int) -> list[str]:
    """Return a name for the type of each of a node's inputs: those of one name are of one type."""
    import onnx

    formal = onnx.defs.get_schema(node.op_type, opset, node.domain).inputs
    return [formal[min(place, len(formal) - 1)].type_str for place in range(len(node.input))]
