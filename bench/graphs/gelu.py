"""Write GELU in the form that ONNX Runtime fuses when it loads a graph.

Below opset 20 GELU has no operator of its own.  PyTorch's exporter writes
x · (½ · (1 + erf(x/√2))), ONNX Runtime's fusion knows (x · (1 + erf(x/√2))) · ½ alone; without
it, GELU is five kernels that each read and write the widest activations.  Halving is exact
in binary floating point, so both forms give the same values.
"""

from __future__ import annotations

from typing import Any


def order_gelu_for_fusion(model: Any) -> int:
    """Reorder the two products of every GELU of an onnx.ModelProto, in place; return how many there are."""
    maker = {output: node for node in model.graph.node for output in node.output}
    halves = _halves(model)
    found = 0
    for outer in model.graph.node:
        inner = next((maker[name] for name in outer.input if _is_halved_gate(maker.get(name), maker, halves)), None)
        if outer.op_type != "Mul" or inner is None:
            continue
        half, gate = sorted(inner.input, key=lambda name: name not in halves)
        activation = next(name for name in outer.input if name != inner.output[0])
        inner.input[:] = [activation, gate]
        outer.input[:] = [inner.output[0], half]
        found += 1
    return found


def _halves(model: Any) -> set[str]:
    """Return the names of the constants ½."""
    from onnx import numpy_helper

    scalars = (weight for weight in model.graph.initializer if not weight.dims)
    return {weight.name for weight in scalars if float(numpy_helper.to_array(weight)) == 0.5}


def _is_halved_gate(node: Any, maker: dict[str, Any], halves: set[str]) -> bool:
    """Tell whether a node is ½ · (1 + erf(…))."""
    if node is None or node.op_type != "Mul" or not any(name in halves for name in node.input):
        return False
    terms = [maker[name] for name in node.input if name in maker]
    if len(terms) != 1 or terms[0].op_type != "Add":
        return False
    return any(name in maker and maker[name].op_type == "Erf" for name in terms[0].input)
