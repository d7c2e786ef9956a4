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
from bench.core.model_inputs import Padding
from bench.graphs.fp16 import fuse_for_cuda, to_fp16
from bench.graphs.onnx_files import load_graph, strip_traces
from bench.graphs.rewrites import nodes_of_the_length
from bench.inputs.batches import pad
from bench.inputs.encoded import Encoded

GEMMS = ["MatMul", "Gemm"]


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

    GEMMs by a weight alone: attention's own stay in floating point.  Ranges are those of sentences without padding,
    where the graph takes any length: results in padded places are thrown away.
    """
    graph = load_graph(source)
    takes_any_length = all(value.type.tensor_type.shape.dim[1].dim_param for value in graph.graph.input)
    return _with_ranges(
        source,
        _calibration_reader(calibration, "longest" if takes_any_length else "fixed"),
        activations="QUInt8",
        options={"ActivationSymmetric": False},
        exclude=nodes_of_the_length(graph),
    )


def _int8_qdq(source: Path, calibration: Encoded) -> Any:
    """Quantize symmetrically, with Q/DQ pairs on both inputs of the GEMMs.

    As ONNX Runtime's quantizer advises for TensorRT (comments in its qdq_quantizer.py): a pair on the weights too, none
    on the outputs of GEMMs, no pair shared between nodes; a weight's channels are its columns.
    """
    options = {"ActivationSymmetric": True, "AddQDQPairToWeight": True, "DedicatedQDQPair": True}
    return _with_ranges(source, _calibration_reader(calibration, "fixed"), activations="QInt8", options=options)


def _with_ranges(
    source: Path, reader: Any, *, activations: str, options: dict[str, Any], exclude: list[str] | None = None
) -> Any:
    """Return the graph with Q/DQ pairs: activations calibrated on `reader`'s sentences, weights in INT8 per channel."""
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
    """Return ONNX Runtime's reader of the sentences, one by one."""
    from onnxruntime.quantization import CalibrationDataReader

    batches = (pad(calibration, np.array([row]), padding) for row in range(len(calibration)))
    feeds = (dict(zip(calibration.input_names, batch.arrays, strict=True)) for batch in batches)

    class Sentences(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Any] | None:
            return next(feeds, None)

    return Sentences()


RECIPES: dict[str, Callable[[Path, Encoded], Any]] = {
    "fp16": lambda source, _calibration: to_fp16(load_graph(source)),
    "fp16_fused": lambda source, _calibration: fuse_for_cuda(load_graph(source)),
    "int8_dynamic": _int8_dynamic,
    "int8_static": _int8_static,
    "int8_qdq": _int8_qdq,
}
