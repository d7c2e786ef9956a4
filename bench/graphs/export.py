"""Export the PyTorch classifier to ONNX, and compare the two on real inputs."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from bench.classifier.reference import reference_logits
from bench.core.errors import BenchError
from bench.graphs.gelu import order_gelu_for_fusion
from bench.graphs.onnx_files import IR_VERSION, strip_traces
from bench.inputs.encoded import Encoded

EXAMPLE_BATCH = 2
PARITY_BATCHES = (1, 7)
"""Batch sizes that are compared; 7 is one that the export never saw."""


def export_graph(model: Any, example: Encoded, opset: int) -> Any:
    """Return an onnx.ModelProto of `model` with a dynamic batch, made by PyTorch's dynamo exporter.

    `example` gives the traced shapes: int64 `[sentences, sequence_length]`, two sentences at least.
    """
    import torch

    ids, mask = (torch.from_numpy(array) for array in example.rows(np.arange(EXAMPLE_BATCH)))
    batch = torch.export.Dim("batch", min=1, max=65536)
    with _quiet_exporter():
        program = torch.onnx.export(
            model,
            (ids, mask),
            dynamo=True,
            opset_version=opset,
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            dynamic_shapes={"input_ids": {0: batch}, "attention_mask": {0: batch}},
        )
    if program is None:
        raise BenchError("the ONNX exporter returned nothing")
    graph = program.model_proto
    got = next(entry.version for entry in graph.opset_import if entry.domain == "")
    if got != opset:
        raise BenchError(f"params.yaml: export.opset: asked for {opset}, the exporter could only give {got}")
    order_gelu_for_fusion(graph)
    strip_traces(graph)
    graph.ir_version = IR_VERSION[opset]
    return graph


@contextlib.contextmanager
def _quiet_exporter() -> Any:
    """Hide the exporter's progress and its notes on operators that this model does not use."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def parity(model: Any, graph_file: Path, encoded: Encoded, max_abs_diff: float) -> float:
    """Return the largest logit difference between ONNX Runtime (CPU) and PyTorch.

    Raises BenchError above `max_abs_diff`, so that a wrong graph never reaches a table.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(graph_file), providers=["CPUExecutionProvider"])
    largest = 0.0
    for size in PARITY_BATCHES:
        ids, mask = encoded.rows(np.arange(size) % len(encoded))
        wanted = reference_logits(model, Encoded(ids, mask, np.zeros(size, dtype=np.int64)))
        got = session.run(["logits"], {"input_ids": ids, "attention_mask": mask})[0]
        largest = max(largest, float(np.abs(got - wanted).max()))
    if not largest <= max_abs_diff:
        raise BenchError(
            f"the exported graph differs from PyTorch by {largest:.3g} in a logit; "
            f"allowed: export.max_abs_diff = {max_abs_diff:g}"
        )
    return largest
