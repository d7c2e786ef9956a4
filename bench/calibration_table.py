"""The calibration table of TensorRT 8: the range of every tensor of the graph, for engines in INT8 without Q/DQ pairs.

It travels inside the graph's file, so that graph and ranges cannot part.
ONNX Runtime's own writer takes the largest of lowest and highest where it should take
the largest absolute value (seen in 1.31), and wants other types in other versions: hence this one.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import DataError
from bench.onnx_files import CALIBRATION_TABLE, scratch_copy

FIRST_SIZE = 1024


def put_table(model: Any, table: bytes) -> None:
    """Store a table among the properties of an onnx.ModelProto."""
    entry = model.metadata_props.add()
    entry.key, entry.value = CALIBRATION_TABLE, base64.b64encode(table).decode()


def read_table(graph: Path) -> bytes:
    """Return the table that `put_table` stored; DataError if the graph holds none."""
    import onnx

    for entry in onnx.load(str(graph)).metadata_props:
        if entry.key == CALIBRATION_TABLE:
            return base64.b64decode(entry.value)
    raise DataError(f"{graph.as_posix()} holds no calibration table: `int8_by: table` needs graph onnx/int8_table.onnx")


def tensor_ranges(graph: Path, sentences: Any) -> dict[str, float]:
    """Return the largest absolute value of every float tensor, by the tensor's name.

    `sentences` is a CalibrationDataReader; the graph runs on the CPU.
    """
    from onnxruntime.quantization import CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    with scratch_copy(graph) as (copy, augmented):
        calibrator = create_calibrator(str(copy), None, str(augmented), calibrate_method=CalibrationMethod.MinMax)
        calibrator.collect_data(sentences)
        ranges = calibrator.compute_data().data
        del calibrator  # its session holds the scratch folder's files open
    return {name: float(np.abs(data.range_value).max()) for name, data in ranges.items()}


def encode_table(ranges: dict[str, float]) -> bytes:
    """Return the table as ONNX Runtime's TensorRT provider reads it (CalTableFlatBuffers, values as text)."""
    import flatbuffers
    from onnxruntime.quantization.CalTableFlatBuffers import KeyValue, TrtTable

    builder = flatbuffers.Builder(FIRST_SIZE)
    entries = [_entry(builder, KeyValue, name, ranges[name]) for name in sorted(ranges)]
    TrtTable.TrtTableStartDictVector(builder, len(entries))
    for entry in reversed(entries):
        builder.PrependUOffsetTRelative(entry)
    dictionary = builder.EndVector()
    TrtTable.TrtTableStart(builder)
    TrtTable.TrtTableAddDict(builder, dictionary)
    builder.Finish(TrtTable.TrtTableEnd(builder))
    return bytes(builder.Output())


def _entry(builder: Any, schema: Any, name: str, largest: float) -> int:
    key, value = builder.CreateString(name), builder.CreateString(str(largest))
    schema.KeyValueStart(builder)
    schema.KeyValueAddKey(builder, key)
    schema.KeyValueAddValue(builder, value)
    return int(schema.KeyValueEnd(builder))
