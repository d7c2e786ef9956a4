"""Take the computation of shapes out of an exported graph as far as a graph of two unknown sizes can do without.

With batch and length unknown the exporter computes the target of every Reshape from the inputs' shapes.  Where a size
is the one that the tensor has in that place anyway, ONNX's Reshape has a 0 for it.  What is then left asks for the
length alone.  ONNX Runtime folds a Shape only if it knows all sizes of its input, so it is asked of one row of the
batch: a session that is told its length then computes no shape at all, as if the graph were of that length.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

BATCH, LENGTH = "batch", "length"
"""The names of the unknown sizes in every exported graph."""
Sizes = dict[str, list[str | int]]


def simplify_shapes(model: Any) -> None:
    """Rewrite an onnx.ModelProto in place; its logits stay what they are."""
    sizes = _known_sizes(model)
    _give_reshapes_constants(model, sizes)
    _drop_unused(model)
    _ask_one_row_for_the_length(model, sizes)


def _give_reshapes_constants(model: Any, sizes: Sizes) -> None:
    from onnx import numpy_helper

    maker = {output: node for node in model.graph.node for output in node.output}
    constants = {weight.name: numpy_helper.to_array(weight) for weight in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "Reshape":
            continue
        target = _constant_target(node, maker, constants, sizes)
        if target is not None:
            name = f"{node.output[0]}_target"
            model.graph.initializer.append(numpy_helper.from_array(np.array(target, dtype=np.int64), name))
            node.input[1] = name
            node.ClearField("attribute")  # allowzero: a 0 means the size that is there


def _ask_one_row_for_the_length(model: Any, sizes: Sizes) -> None:
    from onnx import helper, numpy_helper

    nodes = []
    for node in model.graph.node:
        if _size_that(node, sizes) == LENGTH and sizes[node.input[0]] == [BATCH, LENGTH]:
            first, row = f"{node.output[0]}_first", f"{node.output[0]}_row"
            model.graph.initializer.append(numpy_helper.from_array(np.array(0, dtype=np.int64), first))
            nodes.append(helper.make_node("Gather", [node.input[0], first], [row], name=f"{node.name}_row", axis=0))
            node.input[0] = row
            node.ClearField("attribute")
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


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


def _known_sizes(model: Any) -> Sizes:
    """Return the sizes of every tensor that the exporter noted, unknown ones by name."""
    graph = model.graph
    return {
        value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.value_info)
    }


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
        elif len(target) < len(own) and own[len(target)] == _size_that(maker.get(name), sizes):
            target.append(0)
        else:
            return None
    made = sizes.get(node.output[0], [])
    return [_told(size, made[place] if len(made) == len(target) else -1) for place, size in enumerate(target)]


def _told(size: int, noted: str | int) -> int:
    """Return a size of a target, or what the exporter noted for one that it left to be found out (-1)."""
    return noted if size == -1 and isinstance(noted, int) and noted > 0 else size


def _size_that(shape: Any, sizes: Sizes) -> str | int | None:
    """Return which size a Shape node of one size gives."""
    if shape is None or shape.op_type != "Shape":
        return None
    found = {attribute.name: attribute.i for attribute in shape.attribute}
    start = found.get("start", 0)
    known = sizes.get(shape.input[0], [])
    return known[start] if found.get("end") == start + 1 and start < len(known) else None


def _drop_unused(model: Any) -> None:
    """Remove nodes whose outputs nothing takes, from the last to the first, and weights that no node takes then."""
    uses = Counter(name for node in model.graph.node for name in node.input)
    uses.update(value.name for value in model.graph.output)
    kept = []
    for node in reversed(model.graph.node):
        if any(uses[name] for name in node.output):
            kept.append(node)
        else:
            uses.subtract(node.input)
    del model.graph.node[:]
    model.graph.node.extend(reversed(kept))
    weights = [weight for weight in model.graph.initializer if uses[weight.name]]
    del model.graph.initializer[:]
    model.graph.initializer.extend(weights)
