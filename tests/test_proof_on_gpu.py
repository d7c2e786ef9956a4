"""Can the proof of device and precision fail?  Rows that run as something else than their label, through the pipeline.

One CPU row shows everywhere that such a row is rejected; the CUDA rows need an NVIDIA GPU (`-m gpu`).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Project
from test_engine_lifecycle import widen

CUDA_LIBRARIES = ("libcublas.so", "libcublasLt.so", "libcudnn.so", "libcudart.so")


def cells(project: Project, device: str, row: dict[str, Any], **environment: str) -> list[dict[str, Any]]:
    """Time one row in a project and return what came of it at each batch size."""
    shutil.copyfile(ROOT / "tests/mislabelled_runtime.py", project.folder / "bench/runtimes/mislabelled.py")
    project.set_params(lambda params: params["variants"].update(row={"device": device, **row}))
    project.repro("infer@row")
    if environment:
        project.python("stages/infer.py", "row", environment=environment)
    return list(project.cells("row").values())


def mislabelled(precision: str, graph: str, /, **options: str) -> dict[str, Any]:
    return {"runtime": "mislabelled", "precision": precision, "graph": graph, "options": options}


def check_rejected(project: Project, device: str, row: dict[str, Any], reason: str) -> None:
    for cell in cells(project, device, row):
        assert cell["status"] == "rejected", cell
        assert cell["reason"].startswith(reason)


def test_an_int8_cpu_row_that_runs_in_fp32_is_rejected(measured_copy: Project) -> None:
    row = mislabelled("int8", "onnx/int8_dynamic.onnx", graph="fp32.onnx", precision="fp32", through="onnxruntime")
    check_rejected(measured_copy, "cpu", row, "requested int8, observed float in 100% of the weights")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        pytest.param(
            mislabelled("fp32", "model", precision="tf32", through="pytorch"),
            "requested fp32, observed tf32 in ",
            id="PyTorch fp32 with TF32 on",
        ),
        pytest.param(
            mislabelled("fp32", "onnx/fp32.onnx", precision="tf32", through="onnxruntime"),
            "requested fp32, observed tf32 in ",
            id="ONNX Runtime fp32 with TF32 on",
        ),
        pytest.param(
            mislabelled("fp16", "onnx/fp16_fused.onnx", graph="fp32.onnx", precision="fp32", through="onnxruntime"),
            "requested fp16, observed float in 100% of the weights",
            id="fused fp16 given the fp32 graph",
        ),
    ],
)
@pytest.mark.gpu
def test_a_mislabelled_cuda_row_is_rejected(project: Project, row: dict[str, Any], reason: str) -> None:
    project.set_params(widen)
    check_rejected(project, "cuda", row, reason)


@pytest.mark.gpu
def test_a_cuda_row_with_broken_libraries_is_skipped(project: Project, tmp_path: Path) -> None:
    for stem in CUDA_LIBRARIES:
        for major in range(8, 15):
            (tmp_path / f"{stem}.{major}").touch()
    row = {"runtime": "onnxruntime", "precision": "fp32", "graph": "onnx/fp32.onnx"}
    for cell in cells(project, "cuda", row, LD_LIBRARY_PATH=str(tmp_path)):
        assert cell["status"] == "skipped", cell
        assert "CUDAExecutionProvider does not load" in cell["reason"]
