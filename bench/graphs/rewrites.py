"""Rewrite an exported graph so that runtimes fold its shapes and fuse its GELU; its logits stay the same.

Shapes.  With batch and length unknown the exporter computes the target of every Reshape from the inputs' shapes.  Where
a size is the one that the tensor has in that place anyway, ONNX's Reshape has a 0 for it.  The rest asks for the length
alone.  ONNX Runtime folds a Shape only if it knows all sizes of its input, so it is asked of one row of the batch: a
session that is told its length then computes no shape at all, as if the graph were of that length.

GELU.  Below opset 20 it has no operator of its own.  PyTorch's exporter writes x · (½ · (1 + erf(x/√2))), ONNX
Runtime's fusion knows (x · (1 + erf(x/√2))) · ½ alone; without it, GELU is five kernels that each read and write the
widest activations.  Halving is exact in binary floating point, so both forms give the same values.
"""

from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from bench.graphs.onnx_files import refill

BATCH, LENGTH = "batch", "length"
"""The names of the unknown sizes in every exported graph."""
Sizes = dict[str, list[str | int]]


def simplify_shapes(model: Any) -> None:
    """Rewrite an onnx.ModelProto in place; its logits stay the same."""
    from onnxruntime.transformers.onnx_model import OnnxModel

    graph = model.graph
    sizes: Sizes = {
        value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.value_info)
    }
    _give_reshapes_constants(graph, sizes)
    OnnxModel(model).prune_graph(allow_remove_graph_inputs=False)
    _ask_one_row_for_the_length(graph, sizes)


def _give_reshapes_constants(graph: Any, sizes: Sizes) -> None:
    maker = {output: node for node in graph.node for output in node.output}
    constants = {weight.name: numpy_helper.to_array(weight) for weight in graph.initializer}
    for node in graph.node:
        target = _constant_target(node, maker, constants, sizes) if node.op_type == "Reshape" else None
        if target is not None:
            name = f"{node.output[0]}_target"
            graph.initializer.append(numpy_helper.from_array(np.array(target, dtype=np.int64), name))
            node.input[1] = name
            node.ClearField("attribute")  # allowzero: a 0 means the size that is there


def _constant_target(node: Any, maker: dict[str, Any], constants: dict[str, Any], sizes: Sizes) -> list[int] | None:
    """Return the target of a Reshape with 0 for sizes that stay, None where another size is computed."""
    joined = maker.get(node.input[1])
    own = sizes.get(node.input[0], [])
    if joined is None or joined.op_type != "Concat":
        return None
    target: list[int] = []
    for name in joined.input:
        if name in constants:
            target += constants[name].ravel().tolist()
        elif len(target) < len(own) and own[len(target)] == _size_asked(maker.get(name), sizes):
            target.append(0)
        else:
            return None
    noted = sizes.get(node.output[0], [])
    if len(noted) != len(target):
        return target
    # the exporter leaves a size to be found out (-1) where it has noted it
    return [
        found if size == -1 and isinstance(found, int) and found > 0 else size
        for size, found in zip(target, noted, strict=True)
    ]


def _size_asked(shape: Any, sizes: Sizes) -> str | int | None:
    if shape is None or shape.op_type != "Shape":
        return None
    found = {attribute.name: attribute.i for attribute in shape.attribute}
    start = found.get("start", 0)
    known = sizes.get(shape.input[0], [])
    return known[start] if found.get("end") == start + 1 and start < len(known) else None


def _ask_one_row_for_the_length(graph: Any, sizes: Sizes) -> None:
    nodes = []
    for node in graph.node:
        if _size_asked(node, sizes) == LENGTH and sizes[node.input[0]] == [BATCH, LENGTH]:
            first, row = f"{node.output[0]}_first", f"{node.output[0]}_row"
            graph.initializer.append(numpy_helper.from_array(np.array(0, dtype=np.int64), first))
            nodes.append(helper.make_node("Gather", [node.input[0], first], [row], name=f"{node.name}_row", axis=0))
            node.input[0] = row
            node.ClearField("attribute")
        nodes.append(node)
    refill(graph.node, nodes)


def nodes_of_the_length(model: Any) -> list[str]:
    """Return the names of the nodes whose results depend on the length and on weights alone: positions and their like.

    A session of one length computes them once, when it is loaded: lower precision gains nothing there.
    """
    known = {weight.name for weight in model.graph.initializer}
    names = []
    for node in model.graph.node:
        if node.op_type == "Shape" or all(not name or name in known for name in node.input):
            known.update(node.output)
            names.append(node.name)
    return names


def order_gelu_for_fusion(model: Any) -> None:
    """Reorder the two products of every GELU of an onnx.ModelProto, in place."""
    maker = {output: node for node in model.graph.node for output in node.output}
    scalars = (weight for weight in model.graph.initializer if not weight.dims)
    halves = {weight.name for weight in scalars if float(numpy_helper.to_array(weight)) == 0.5}
    for outer in model.graph.node:
        inner = next((maker[name] for name in outer.input if _is_halved_gate(maker.get(name), maker, halves)), None)
        if outer.op_type == "Mul" and inner is not None:
            half, gate = sorted(inner.input, key=lambda name: name not in halves)
            activation = next(name for name in outer.input if name != inner.output[0])
            inner.input[:] = [activation, gate]
            outer.input[:] = [inner.output[0], half]


def _is_halved_gate(node: Any, maker: dict[str, Any], halves: set[str]) -> bool:
    """Tell whether a node is ½ · (1 + erf(…))."""
    if node is None or node.op_type != "Mul" or halves.isdisjoint(node.input):
        return False
    terms = [maker[name] for name in node.input if name in maker]
    operands = terms[0].input if len(terms) == 1 and terms[0].op_type == "Add" else []
    return any(name in maker and maker[name].op_type == "Erf" for name in operands)
