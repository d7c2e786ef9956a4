"""Load and save ONNX graphs so that their bytes depend on the model alone."""

from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from bench.core.errors import DataError
from bench.core.files import first_line, replacing_file

IR_VERSION = {17: 8, 18: 8, 19: 9, 20: 9}
"""The oldest IR version for each opset, from ONNX's table of released versions."""


def load_graph(path: Path) -> Any:
    """Return the onnx.ModelProto; DataError if the file is missing, damaged or another graph."""
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
        inputs, outputs = ([each.name for each in values] for values in (model.graph.input, model.graph.output))
        if "input_ids" not in inputs or outputs != ["logits"]:
            raise onnx.checker.ValidationError(f"another graph: from {', '.join(inputs)} to {', '.join(outputs)}")
    except FileNotFoundError:
        raise DataError(f"{path.as_posix()} is missing: `dvc repro export_onnx` writes it") from None
    except (DecodeError, onnx.checker.ValidationError) as problem:
        reason = first_line(problem) if str(problem).strip() else "not an ONNX model"
        advice = f"remove it and run `dvc repro`: {path.as_posix()} is then made anew"
        raise DataError(f"{path.as_posix()} is damaged ({reason}): {advice}") from None
    return model


def check_loads(path: Path) -> None:
    """Raise ONNX Runtime's InvalidGraph if the graph is none that any provider could run."""
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import InvalidGraph

    onnxruntime.set_default_logger_severity(4)
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    except InvalidGraph:
        raise
    except Exception:  # an operator that the CPU has no kernel for: another provider may
        return


def save_graph(model: Any, path: Path) -> None:
    with replacing_file(path) as temporary:
        onnx.save(model, str(temporary))


def strip_traces(model: Any) -> None:
    """Remove traces of machine and folder, and shape notes of weights: `quantize_dynamic` fails on those."""
    graph = model.graph
    model.ClearField("metadata_props")
    graph.ClearField("metadata_props")
    model.doc_string = graph.doc_string = ""
    graph.name = "encoder"
    for node in graph.node:
        node.ClearField("metadata_props")
        node.doc_string = ""
    weights = {weight.name for weight in graph.initializer}
    refill(graph.value_info, [note for note in graph.value_info if note.name not in weights])
    for item in (*graph.value_info, *graph.input, *graph.output, *graph.initializer):
        item.ClearField("metadata_props")


def refill(field: Any, items: list[Any]) -> None:
    """Put `items` in the place of what a repeated field of a graph holds."""
    del field[:]
    field.extend(items)
