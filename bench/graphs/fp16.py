"""Turn a graph's arithmetic into half precision, positions apart.

Positions stay in float32: rounded, one would choose another one's weight.
"""

from __future__ import annotations

from typing import Any

from bench.graphs.dynamic_shapes import nodes_of_the_length


def to_fp16(model: Any) -> Any:
    """Return the onnx.ModelProto in float16 with inputs and outputs as before."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    made = convert_float_to_float16(model, keep_io_types=True, node_block_list=nodes_of_the_length(model))
    return _in_order(made)


def fused_to_fp16(fused: Any) -> Any:
    """Return the graph of an OnnxModel of ONNX Runtime, with operators of its own, in float16 as `to_fp16` does."""
    fused.convert_float_to_float16(keep_io_types=True, node_block_list=nodes_of_the_length(fused.model))
    return _in_order(fused.model)


def _in_order(model: Any) -> Any:
    """Return what the converter made without its repeated casts, each node after those whose results it takes.

    ONNX asks for that order; the converter puts the cast of a node that it keeps in float32 after the last node.
    """
    from onnxruntime.transformers.onnx_model import OnnxModel

    _drop_repeated_casts(model)
    OnnxModel.graph_topological_sort(model.graph)
    return model


def _drop_repeated_casts(model: Any) -> None:
    """Leave of equal nodes the first: the converter casts a tensor once for each node that it keeps in float32."""
    made: set[str] = set()
    kept = []
    for node in model.graph.node:
        if not made.issuperset(node.output):
            kept.append(node)
        made.update(node.output)
    del model.graph.node[:]
    model.graph.node.extend(kept)
