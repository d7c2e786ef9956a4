"""Make the graphs of lower precision from the fp32 graph, each by a named recipe.

fp16          all arithmetic in half precision but for positions, inputs and outputs as before
fp16_fused    as fp16, with ONNX Runtime's fused kernels for CUDA (Attention, SkipLayerNormalization, …)
int8_dynamic  weights in INT8 per channel, activations quantized while running; for ONNX Runtime on CPUs
int8_static   weights in INT8 per channel, activations in UINT8 with calibrated ranges (QDQ pairs); for CPUs
int8_qdq      weights and activations in INT8 with calibrated ranges (QDQ pairs); for TensorRT
"""

import logging
import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from bench.core.errors import BenchError
from bench.core.model_inputs import Padding
from bench.core.progress import log
from bench.graphs.onnx_files import load_graph, refill, save_graph, strip_traces
from bench.graphs.rewrites import nodes_of_the_length
from bench.inputs.batches import pad
from bench.inputs.encoded import Encoded

GEMMS = ["MatMul", "Gemm"]
SMALL = 4
"""Elements of an initializer that is no weight: an axis, a shape, a scale."""


def check_recipe(recipe: str) -> None:
    """Raise BenchError for an unknown recipe."""
    if recipe not in RECIPES:
        raise BenchError(f"unknown graph {recipe!r}, allowed: {', '.join(RECIPES)}")


def convert(recipe: str, source: Path, calibration: Encoded) -> Any:
    """Return the onnx.ModelProto that `recipe` makes of the fp32 graph in `source`; static INT8 is calibrated."""
    logging.disable(logging.WARNING)  # the converters' advice is addressed to people who call them by hand
    try:
        model = RECIPES[recipe](source, calibration)
    finally:
        logging.disable(logging.NOTSET)
    strip_traces(model)
    return model


def _to_fp16(model: Any) -> Any:
    """Return the onnx.ModelProto in float16; positions are not: rounded, one would choose another one's weight."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    made = convert_float_to_float16(model, keep_io_types=True, node_block_list=nodes_of_the_length(model))
    return _in_order(made)


def _fuse_for_cuda(model: Any) -> Any:
    """Return the model in float16 with what is found of attention, layer norms and GELU fused; a note if not all is."""
    from onnxruntime.transformers.fusion_options import FusionOptions

    _write_in_the_form_that_fusion_knows(model)
    options = FusionOptions("bert")
    options.use_raw_attention_mask(True)  # the default, where the padding starts, is wrong for other masks
    fused = _optimized(model, options)
    done, left = attention_of(fused.model).values()
    if left:
        log(f"NOTE: ONNX Runtime's optimizer fused {done} of {done + left} attentions of this model")
    fused.convert_float_to_float16(keep_io_types=True, node_block_list=nodes_of_the_length(fused.model))
    return _in_order(fused.model)


def _optimized(model: Any, options: Any) -> Any:
    """Return the fused model, or the model as it is where the optimizer breaks on an unknown architecture."""
    from onnxruntime.transformers.onnx_model import OnnxModel
    from onnxruntime.transformers.optimizer import optimize_model

    with tempfile.TemporaryDirectory() as scratch:
        graph = Path(scratch) / "graph.onnx"
        save_graph(model, graph)  # ONNX Runtime before 1.18 takes a file alone
        try:  # 0 heads and size 0, the defaults: read from the graph
            return optimize_model(str(graph), optimization_options=options, opt_level=0)
        except Exception as problem:
            name = type(problem).__name__
    log(f"NOTE: ONNX Runtime's optimizer does not know this architecture ({name}): nothing is fused")
    return OnnxModel(model)


def attention_of(model: Any) -> dict[str, int]:
    """Return how many attentions of a graph are one fused kernel, and how many still have a softmax of their own."""
    operators = Counter(node.op_type for node in model.graph.node)
    fused = sum(count for name, count in operators.items() if name.endswith("Attention"))
    return {"attention_fused": fused, "attention_unfused": operators["Softmax"]}


def _in_order(model: Any) -> Any:
    """Return the converter's graph without its repeated casts, each node after those whose results it takes."""
    from onnxruntime.transformers.onnx_model import OnnxModel

    first: dict[tuple[str, ...], Any] = {}
    for node in model.graph.node:
        first.setdefault(tuple(node.output), node)
    refill(model.graph.node, list(first.values()))
    OnnxModel.graph_topological_sort(model.graph)
    return model


def _write_in_the_form_that_fusion_knows(model: Any) -> None:
    """Split Unsqueeze over two axes in two, and turn attention's `* scale` into `/ (1 / scale)`, as older exporters.

    The scale is that of the graph: 1 / sqrt(head size), by which the scores are multiplied right after their GEMM.
    """
    gemms = {node.output[0] for node in model.graph.node if node.op_type == "MatMul"}
    small = (weight for weight in model.graph.initializer if math.prod(weight.dims) <= SMALL)
    constants = {weight.name: numpy_helper.to_array(weight) for weight in small}
    nodes = []
    for node in model.graph.node:
        constant = constants.get(node.input[1]) if len(node.input) > 1 else None
        if node.op_type == "Unsqueeze" and constant is not None and constant.size == 2:
            nodes.extend(_split_unsqueeze(model, node, sorted(constant.tolist())))
        elif node.op_type == "Mul" and constant is not None and constant.size == 1 and node.input[0] in gemms:
            divisor = np.array(1 / float(constant.reshape(())), dtype=np.float32)
            name = _constant(model, f"{node.output[0]}_divisor", divisor)
            nodes.append(helper.make_node("Div", [node.input[0], name], list(node.output), name=node.name))
        else:
            nodes.append(node)
    refill(model.graph.node, nodes)


def _split_unsqueeze(model: Any, node: Any, axes: list[int]) -> list[Any]:
    between = f"{node.output[0]}_between"
    first, second = (_constant(model, f"{node.output[0]}_axis{axis}", np.array([axis])) for axis in axes)
    return [
        helper.make_node("Unsqueeze", [node.input[0], first], [between], name=f"{node.name}_first"),
        helper.make_node("Unsqueeze", [between, second], list(node.output), name=f"{node.name}_second"),
    ]


def _constant(model: Any, name: str, value: np.ndarray[Any, Any]) -> str:
    model.graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def _int8_dynamic(source: Path, _calibration: Encoded) -> Any:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    options = {"weight_type": QuantType.QInt8, "nodes_to_exclude": nodes_of_the_length(load_graph(source))}
    with _scratch_copy(source) as (copy, target):
        quantize_dynamic(str(copy), str(target), per_channel=True, **options)
        return load_graph(target)


def _int8_static(source: Path, calibration: Encoded) -> Any:
    """Quantize as CPUs multiply: unsigned activations by signed weights (VNNI), one range a tensor, a scale a column.

    Ranges are those of sentences without padding, where the graph takes any length: results there are thrown away.
    """
    graph = load_graph(source)
    takes_any_length = all(value.type.tensor_type.shape.dim[1].dim_param for value in graph.graph.input)
    reader = _calibration_reader(calibration, "longest" if takes_any_length else "fixed")
    return _with_ranges(source, reader, "QUInt8", nodes_of_the_length(graph), ActivationSymmetric=False)


def _int8_qdq(source: Path, calibration: Encoded) -> Any:
    """Quantize symmetrically, Q/DQ pairs on both inputs of the GEMMs, none shared between nodes, none on the outputs.

    As ONNX Runtime's quantizer advises for TensorRT (comments in its qdq_quantizer.py).
    """
    options = {"ActivationSymmetric": True, "AddQDQPairToWeight": True, "DedicatedQDQPair": True}
    return _with_ranges(source, _calibration_reader(calibration, "fixed"), "QInt8", None, **options)


def _with_ranges(source: Path, reader: Any, activations: str, exclude: list[str] | None, **options: bool) -> Any:
    """Return the graph with Q/DQ pairs: activations calibrated on `reader`'s sentences, weights in INT8 per channel.

    GEMMs by a weight alone: attention's own stay in floating point.  A weight's channels are its columns.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    with _scratch_copy(source) as (copy, target):
        quantize_static(
            str(copy),
            str(target),
            reader,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=GEMMS,
            nodes_to_exclude=exclude,
            activation_type=QuantType[activations],
            weight_type=QuantType.QInt8,
            per_channel=True,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={
                "WeightSymmetric": True,
                "QuantizeBias": False,
                "MatMulConstBOnly": True,
                "OpTypesToExcludeOutputQuantization": GEMMS,
                "QDQOpTypePerChannelSupportToAxis": {"MatMul": 1},
                **options,
            },
        )
        return load_graph(target)


@contextmanager
def _scratch_copy(source: Path) -> Iterator[tuple[Path, Path]]:
    """Give a copy of the graph and a target in a scratch folder: the quantizers leave files beside their source."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        copy = Path(scratch) / source.name
        shutil.copyfile(source, copy)
        yield copy, Path(scratch) / "made.onnx"


def _calibration_reader(calibration: Encoded, padding: Padding) -> Any:
    """Return what ONNX Runtime reads the sentences from, one by one."""
    batches = (pad(calibration, np.array([row]), padding) for row in range(len(calibration)))
    feeds = (dict(zip(calibration.input_names, batch.arrays, strict=True)) for batch in batches)
    return SimpleNamespace(get_next=lambda: next(feeds, None))


RECIPES: dict[str, Callable[[Path, Encoded], Any]] = {
    "fp16": lambda source, _calibration: _to_fp16(load_graph(source)),
    "fp16_fused": lambda source, _calibration: _fuse_for_cuda(load_graph(source)),
    "int8_dynamic": _int8_dynamic,
    "int8_static": _int8_static,
    "int8_qdq": _int8_qdq,
}
