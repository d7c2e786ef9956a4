"""The table of ranges for TensorRT 8's INT8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import Project
from onnxruntime.quantization.CalTableFlatBuffers.TrtTable import TrtTable

from bench.calibration_table import encode_table, read_table
from bench.errors import DataError
from bench.inputs import load_encoded


def decode(table: bytes) -> dict[str, float]:
    content = TrtTable.GetRootAsTrtTable(table, 0)
    entries = [content.Dict(index) for index in range(content.DictLength())]
    return {entry.Key().decode(): float(entry.Value()) for entry in entries}


def test_a_range_whose_lowest_value_is_the_largest_is_not_lost(measured: Project) -> None:
    onnx_folder = measured.folder / "artifacts/onnx"
    ranges = decode(read_table(onnx_folder / "int8_table.onnx"))
    sentences = load_encoded(measured.folder / "artifacts/inputs/calibration.npz")
    count = measured.params()["int8"]["calibration_sentences"]
    session = onnxruntime.InferenceSession(str(onnx_folder / "fp32.onnx"), providers=["CPUExecutionProvider"])
    ids, mask = sentences.rows(np.arange(count))
    logits = session.run(["logits"], {"input_ids": ids, "attention_mask": mask})[0]
    assert ranges["logits"] == pytest.approx(np.abs(logits).max(), rel=1e-4)
    assert len(ranges) > 20
    assert min(ranges.values()) >= 0


def test_the_table_keeps_every_range_under_its_tensors_name() -> None:
    ranges = {"a": 1.5, "b/c": 0.25, "logits": 3.0}
    assert decode(encode_table(ranges)) == ranges


def test_the_graph_with_a_table_has_the_weights_of_the_fp32_graph(measured: Project) -> None:
    folder = measured.folder / "artifacts/onnx"
    fp32, with_table = (onnx.load(str(folder / name)) for name in ("fp32.onnx", "int8_table.onnx"))
    assert with_table.graph == fp32.graph


def test_a_graph_without_a_table_is_refused_by_name(measured: Project) -> None:
    graph: Path = measured.folder / "artifacts/onnx/fp32.onnx"
    with pytest.raises(DataError, match=r"fp32\.onnx holds no calibration table"):
        read_table(graph)
