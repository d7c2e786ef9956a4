"""Fuse an exported encoder into ONNX Runtime's kernels for CUDA, in half precision."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.progress import say
from bench.graphs.onnx_files import save_graph


def fuse_for_cuda(model: Any, heads: int, hidden_size: int) -> Any:
    """Return the model with attention, layer norms and GELU fused as far as they are found, weights in float16.

    Says so if no attention was found: the row is then a plain fp16 row, and its evidence shows it.
    """
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    _write_in_the_form_that_fusion_knows(model, scale=1 / math.sqrt(hidden_size // heads))
    options = FusionOptions("bert")
    # The default, a 1-D index of where the padding starts, is wrong for other masks.
    options.use_raw_attention_mask(True)
    with tempfile.TemporaryDirectory() as scratch:
        graph = Path(scratch) / "graph.onnx"
        save_graph(model, graph)  # ONNX Runtime before 1.18 takes a file alone
        fused = optimize_model(
            str(graph),
            model_type="bert",
            num_heads=heads,
            hidden_size=hidden_size,
            optimization_options=options,
            opt_level=0,
        )
    if not any(node.op_type == "Attention" for node in fused.model.graph.node):
        say("NOTE: ONNX Runtime's optimizer found no attention to fuse in this model")
    fused.convert_float_to_float16(keep_io_types=True)
    return fused.model


def _write_in_the_form_that_fusion_knows(model: Any, scale: float) -> None:
    """Split Unsqueeze over two axes in two, and turn attention's `* scale` into `/ (1 / scale)`.

    Both are equal; the optimizer's patterns come from an older exporter that wrote these.
    """
    from onnx import numpy_helper

    constants = {weight.name: numpy_helper.to_array(weight) for weight in model.graph.initializer if _is_small(weight)}
    nodes = []
    for node in model.graph.node:
        constant = constants.get(node.input[1]) if len(node.input) > 1 else None
        if node.op_type == "Unsqueeze" and constant is not None and constant.size == 2:
            nodes.extend(_split_unsqueeze(model, node, sorted(constant.tolist())))
        elif node.op_type == "Mul" and constant is not None and _equals(constant, scale):
            nodes.append(_divide(model, node, 1 / scale))
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _is_small(weight: Any) -> bool:
    return bool(math.prod(weight.dims) <= 4)


def _equals(constant: np.ndarray[Any, Any], scale: float) -> bool:
    return constant.size == 1 and math.isclose(float(constant.reshape(())), scale, rel_tol=1e-6)


def _constant(model: Any, name: str, value: np.ndarray[Any, Any]) -> str:
    from onnx import numpy_helper

    model.graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def _split_unsqueeze(model: Any, node: Any, axes: list[int]) -> list[Any]:
    from onnx import helper

    between = f"{node.output[0]}_between"
    first, second = (_constant(model, f"{node.output[0]}_axis{axis}", np.array([axis])) for axis in axes)
    return [
        helper.make_node("Unsqueeze", [node.input[0], first], [between], name=f"{node.name}_first"),
        helper.make_node("Unsqueeze", [between, second], list(node.output), name=f"{node.name}_second"),
    ]


def _divide(model: Any, node: Any, divisor: float) -> Any:
    from onnx import helper

    name = _constant(model, f"{node.output[0]}_divisor", np.array(divisor, dtype=np.float32))
    return helper.make_node("Div", [node.input[0], name], list(node.output), name=node.name)
