"""Make the graphs of lower precision from the fp32 graph, each by a named recipe.

fp16          all arithmetic in half precision, inputs and outputs as before
fp16_fused    as fp16, with ONNX Runtime's fused kernels for CUDA (Attention, SkipLayerNormalization, …)
int8_dynamic  weights in INT8 per channel, activations quantized while running; for ONNX Runtime on CPUs
int8_static   weights in INT8 per channel, activations in UINT8 with calibrated ranges (QDQ pairs); for CPUs
int8_qdq      weights and activations in INT8 with calibrated ranges (QDQ pairs); for TensorRT
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.errors import BenchError
from bench.graphs.dynamic_shapes import nodes_of_the_length
from bench.graphs.fp16 import to_fp16
from bench.graphs.fusion import fuse_for_cuda
from bench.graphs.onnx_files import load_graph, strip_traces
from bench.inputs.encoded import Encoded

QUANTIZED = ["MatMul", "Gemm"]


def convert(recipe: str, source: Path, calibration: Encoded) -> Any:
    """Return the onnx.ModelProto that `recipe` makes of the fp32 graph in `source`.

    The `calibration` sentences are used by int8_static and int8_qdq.
    """
    with _quiet_converters():
        model = RECIPES[recipe](source, calibration)
    strip_traces(model)
    return model


def _fp16(source: Path, _calibration: Encoded) -> Any:
    return to_fp16(load_graph(source))


def _fp16_fused(source: Path, _calibration: Encoded) -> Any:
    return fuse_for_cuda(load_graph(source))


def _int8_dynamic(source: Path, _calibration: Encoded) -> Any:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _scratch_copy(source) as (copy, target):
        positions = nodes_of_the_length(load_graph(source))
        quantize_dynamic(
            str(copy), str(target), weight_type=QuantType.QInt8, per_channel=True, nodes_to_exclude=positions
        )
        return load_graph(target)


def _int8_static(source: Path, calibration: Encoded) -> Any:
    """Quantize as CPUs multiply: unsigned activations by signed weights (VNNI), one range a tensor, a scale a column.

    Only the products by a weight: attention's own stay in floating point.  The ranges are those of sentences without
    padding, where the graph takes any length: what stands in padded places is thrown away.
    """
    graph = load_graph(source)
    reader = _calibration_reader(calibration, is_padded=not takes_any_length(graph))
    return _with_ranges(
        source,
        reader,
        activations="QUInt8",
        options={"ActivationSymmetric": False},
        exclude=nodes_of_the_length(graph),
    )


def takes_any_length(graph: Any) -> bool:
    """Tell whether the graph's inputs `[batch, length]` have no fixed length."""
    return all(bool(value.type.tensor_type.shape.dim[1].dim_param) for value in graph.graph.input)


def _int8_qdq(source: Path, calibration: Encoded) -> Any:
    return quantize_qdq(source, calibration)


def quantize_qdq(source: Path, calibration: Encoded, nodes: list[str] | None = None) -> Any:
    """Return symmetric INT8 with Q/DQ pairs on both inputs of the matrix products (or of `nodes` alone).

    As ONNX Runtime's quantizer advises for TensorRT (comments in its qdq_quantizer.py): a pair on the weights too, none
    on the outputs of products, no pair shared between nodes; a weight's channels are its columns.
    """
    options = {"ActivationSymmetric": True, "AddQDQPairToWeight": True, "DedicatedQDQPair": True}
    return _with_ranges(source, _calibration_reader(calibration), activations="QInt8", options=options, nodes=nodes)


def _with_ranges(
    source: Path,
    reader: Any,
    *,
    activations: str,
    options: dict[str, Any],
    nodes: list[str] | None = None,
    exclude: list[str] | None = None,
) -> Any:
    """Return the graph with Q/DQ pairs: calibrated activations of a type, weights in INT8 per channel.

    Ranges are from the smallest to the largest value that `reader`'s sentences give; `nodes`: these products alone.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    with _scratch_copy(source) as (copy, target):
        quantize_static(
            str(copy),
            str(target),
            reader,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=QUANTIZED,
            nodes_to_quantize=nodes,
            nodes_to_exclude=exclude,
            activation_type=QuantType[activations],
            weight_type=QuantType.QInt8,
            per_channel=True,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={
                "WeightSymmetric": True,
                "QuantizeBias": False,
                "MatMulConstBOnly": True,
                "OpTypesToExcludeOutputQuantization": QUANTIZED,
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


def _calibration_reader(calibration: Encoded, is_padded: bool = True) -> Any:
    """Return what feeds the sentences one by one to ONNX Runtime's calibration, as they are padded or without."""
    from onnxruntime.quantization import CalibrationDataReader

    class Sentences(CalibrationDataReader):  # type: ignore[misc]
        """Feeds the calibration sentences one by one."""

        def __init__(self) -> None:
            self.rows = iter(range(len(calibration)))

        def get_next(self) -> dict[str, Any] | None:
            row = next(self.rows, None)
            if row is None:
                return None
            length = None if is_padded else int(calibration.lengths[row])
            arrays = (np.ascontiguousarray(array[:, :length]) for array in calibration.rows(np.array([row])).arrays)
            return dict(zip(calibration.input_names, arrays, strict=True))

    return Sentences()


@contextmanager
def _quiet_converters() -> Iterator[None]:
    """Hide the converters' advice, which is addressed to people who call them by hand."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


RECIPES: dict[str, Callable[[Path, Encoded], Any]] = {
    "fp16": _fp16,
    "fp16_fused": _fp16_fused,
    "int8_dynamic": _int8_dynamic,
    "int8_static": _int8_static,
    "int8_qdq": _int8_qdq,
}


def check_recipe(recipe: str) -> None:
    """Raise BenchError for an unknown recipe."""
    if recipe not in RECIPES:
        raise BenchError(f"unknown graph {recipe!r}, allowed: {', '.join(RECIPES)}")
