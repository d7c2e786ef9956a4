"""Make fp16 graphs: of plain operators, or fused into ONNX Runtime's kernels for CUDA.

Positions stay in float32: rounded, one would choose another one's weight.
"""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from bench.core.progress import log
from bench.graphs.onnx_files import refill, save_graph
from bench.graphs.rewrites import nodes_of_the_length

SMALL = 4
"""Elements of an initializer that is no weight: an axis, a shape, a scale."""


def to_fp16(model: Any) -> Any:
    """Return the onnx.ModelProto in float16 with inputs and outputs as before."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    made = convert_float_to_float16(model, keep_io_types=True, node_block_list=nodes_of_the_length(model))
    return _in_order(made)


def fuse_for_cuda(model: Any) -> Any:
    """Return the model with attention, layer norms and GELU fused as far as they are found, weights in float16.

    Notes where not all attention was fused: the row is then in part a plain fp16 row; `attention_of` tells how far.
    """
    from onnxruntime.transformers.fusion_options import FusionOptions

    _write_in_the_form_that_fusion_knows(model)
    options = FusionOptions("bert")
    # The default, a 1-D index of where the padding starts, is wrong for other masks.
    options.use_raw_attention_mask(True)
    fused = _optimized(model, options)
    found = attention_of(fused.model)
    if found["attention_unfused"]:
        total = found["attention_fused"] + found["attention_unfused"]
        log(f"NOTE: ONNX Runtime's optimizer fused {found['attention_fused']} of {total} attentions of this model")
    fused.convert_float_to_float16(keep_io_types=True, node_block_list=nodes_of_the_length(fused.model))
    return _in_order(fused.model)


def _optimized(model: Any, options: Any) -> Any:
    """Return the fused model, or the model as it is where the optimizer breaks on an unknown architecture."""
    from onnxruntime.transformers.onnx_model import OnnxModel
    from onnxruntime.transformers.optimizer import optimize_model

    with tempfile.TemporaryDirectory() as scratch:
        graph = Path(scratch) / "graph.onnx"
        save_graph(model, graph)  # ONNX Runtime before 1.18 takes a file alone
        try:
            # 0 heads and size 0: read from the graph
            return optimize_model(
                str(graph), model_type="bert", num_heads=0, hidden_size=0, optimization_options=options, opt_level=0
            )
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
    """Return the converter's graph without its repeated casts, each node after those whose results it takes.

    The converter casts a tensor once for each node that it keeps in float32, behind the last node; ONNX asks for order.
    """
    from onnxruntime.transformers.onnx_model import OnnxModel

    first: dict[tuple[str, ...], Any] = {}
    for node in model.graph.node:
        first.setdefault(tuple(node.output), node)
    refill(model.graph.node, list(first.values()))
    OnnxModel.graph_topological_sort(model.graph)
    return model


def _write_in_the_form_that_fusion_knows(model: Any) -> None:
    """Split Unsqueeze over two axes in two, and turn attention's `* scale` into `/ (1 / scale)`.

    Both are equal; the optimizer's patterns come from an older exporter that wrote these.  The scale is that of the
    graph: 1 / sqrt(head size), by which the scores are multiplied right after their GEMM.
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
            nodes.append(_divide(model, node, 1 / float(constant.reshape(()))))
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


def _divide(model: Any, node: Any, divisor: float) -> Any:
    name = _constant(model, f"{node.output[0]}_divisor", np.array(divisor, dtype=np.float32))
    return helper.make_node("Div", [node.input[0], name], list(node.output), name=node.name)


def _constant(model: Any, name: str, value: np.ndarray[Any, Any]) -> str:
    model.graph.initializer.append(numpy_helper.from_array(value, name))
    return name
