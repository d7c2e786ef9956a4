"""Runtimes and precisions of the CPU: strict FP32, BF16 only where it is multiplied, INT8 with calibrated ranges."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, Project
from made_models import LENGTH, Made, MadeModels
from test_models import error_of

from bench.core.openvino_import import import_openvino
from bench.core.params import Variant
from bench.core.reports import Evidence
from bench.machine.can_run import DECIDING, deciding_instructions, has_bf16, reason_to_skip
from bench.runtimes import openvino, pytorch
from bench.runtimes.base import torch_model
from bench.runtimes.base.session import SessionSpec, Unavailable, Unfit
from bench.timing.evidence import contradiction

bf16_only = pytest.mark.skipif(not has_bf16(deciding_instructions()), reason="this CPU has no BF16 instructions")


@pytest.fixture
def distilbert(made: MadeModels) -> Made:
    return made("distilbert")


def test_importing_openvino_tells_nobody_and_writes_nothing_at_home(tmp_path: Path) -> None:
    code = (
        "import sys; from bench.runtimes.openvino import import_libraries; import_libraries(); import openvino\n"
        "print(openvino.Core().available_devices, [name for name in sys.modules if 'telemetry.backend' in name])"
    )
    home = {name: str(tmp_path) for name in ("HOME", "USERPROFILE", "LOCALAPPDATA", "APPDATA")}
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, **home}, check=True, capture_output=True, text=True
    ).stdout
    assert told.strip() == "['CPU'] []"
    assert not list(tmp_path.iterdir())


def row(precision: str, runtime: str = "openvino", device: str = "cpu", **options: Any) -> Variant:
    return Variant.model_validate(
        {"runtime": runtime, "device": device, "precision": precision, "graph": "model", "options": options}
    )


def evidence_of(session: Any, distilbert: Made) -> Evidence:
    session.run(distilbert.encoded.rows(np.arange(3)))
    found: Evidence = session.evidence()
    return found


def test_openvino_computes_fp32_strictly_whatever_the_cpu_could_do(distilbert: Made) -> None:
    session = distilbert.session("openvino", "fp32", "fp32.onnx")
    assert error_of(distilbert, session) < 1e-4
    evidence = evidence_of(session, distilbert)
    assert evidence.precision_hint == "f32"
    assert set(evidence.product_weights) == {"float32"}
    assert evidence.cpu_threads == 1
    assert evidence.streams == 1


@bf16_only
def test_openvinos_own_default_would_be_bf16_and_an_fp32_row_is_rejected_for_it(
    distilbert: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = openvino.properties
    monkeypatch.setattr(
        openvino,
        "properties",
        lambda spec: {**chosen(spec), "INFERENCE_PRECISION_HINT": default_precision()},
    )
    evidence = evidence_of(distilbert.session("openvino", "fp32", "fp32.onnx"), distilbert)
    assert contradiction(row("fp32"), evidence).startswith("requested fp32, observed bfloat16 in 100% of the weights")
    assert contradiction(row("bf16"), evidence) == ""


def default_precision() -> str:
    """Return the precision that OpenVINO takes for a float32 model that it is told nothing about."""
    return str(import_openvino().Core().get_property("CPU", "INFERENCE_PRECISION_HINT").get_type_name())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_quantized_graph_under_another_label_is_rejected(precision: str, distilbert: Made) -> None:
    evidence = evidence_of(distilbert.session("openvino", "int8", "int8_static.onnx"), distilbert)
    assert contradiction(row("int8"), evidence) == ""
    assert f"requested {precision}, observed int8" in contradiction(row(precision), evidence)


def test_a_dynamically_quantized_graph_is_no_int8_row_in_openvino(distilbert: Made) -> None:
    evidence = evidence_of(distilbert.session("openvino", "int8", "int8_dynamic.onnx"), distilbert)
    assert "requested int8, observed float32" in contradiction(row("int8"), evidence)


@bf16_only
@pytest.mark.parametrize(("runtime", "graph"), [("openvino", "fp32.onnx"), ("pytorch", "model")])
def test_bf16_rows_prove_it_and_are_off_by_no_more_than_its_digits(runtime: str, graph: str, distilbert: Made) -> None:
    session = distilbert.session(runtime, "bf16", graph)
    assert 1e-4 < error_of(distilbert, session) < 0.2
    evidence = evidence_of(session, distilbert)
    assert contradiction(row("bf16", runtime), evidence) == ""
    assert "observed bfloat16" in contradiction(row("fp32", runtime), evidence)


@bf16_only
def test_an_int8_row_may_compute_the_rest_in_bf16(distilbert: Made) -> None:
    session = distilbert.session("openvino", "int8", "int8_static.onnx", rest="bf16")
    evidence = evidence_of(session, distilbert)
    assert contradiction(row("int8", rest="bf16"), evidence) == ""
    assert evidence.precision_hint == "bf16"


ENVIRONMENT = {"cpu": {"instructions": "avx2 avx_vnni"}, "cuda": None, "runtimes": {"openvino": {"openvino": "1"}}}


@pytest.mark.parametrize("variant", [row("bf16"), row("int8", rest="bf16")])
def test_what_a_cpu_would_emulate_is_skipped_with_the_reason(variant: Variant) -> None:
    assert reason_to_skip(variant, ENVIRONMENT) == (
        "this CPU has no BF16 instructions (none of avx512_bf16, amx_bf16, bf16)"
    )
    able = {**ENVIRONMENT, "cpu": {"instructions": "avx2 avx512_bf16"}}
    assert reason_to_skip(variant, able) == ""
    assert reason_to_skip(row("int8"), ENVIRONMENT) == ""


def test_a_runtime_without_kernels_for_the_precision_is_unavailable(
    distilbert: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = import_openvino()

    class OldCpu(library.Core):  # type: ignore[misc, name-defined]
        def get_property(self, *names: str) -> Any:
            return ["FP32", "INT8"] if names[-1] == "OPTIMIZATION_CAPABILITIES" else super().get_property(*names)

    monkeypatch.setattr(library, "Core", OldCpu)
    with pytest.raises(Unavailable, match="OpenVINO has no BF16 kernels for this CPU"):
        distilbert.session("openvino", "bf16", "fp32.onnx")


def test_a_graph_that_openvino_does_not_take_rejects_its_row(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "m"]) for name in ("input_ids", "logits")]
    graph = helper.make_graph(
        [helper.make_node("Nothing", ["input_ids"], ["logits"], domain="own")], "g", *[[v] for v in values]
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "own.onnx")
    spec = SessionSpec("cpu", "fp32", tmp_path / "own.onnx", {}, [1], LENGTH, cpu_threads=1)
    with pytest.raises(Unfit, match="OpenVINO does not take this graph: "):
        openvino.open_session(spec)


def test_compiled_rows_of_the_cpu_are_unavailable_without_a_compiler(distilbert: Made) -> None:
    from torch._inductor import config, cpp_builder

    cpp_builder.cpp_compiler_search.cache_clear()
    with (
        config.patch("cpp.cxx", ("a-compiler-that-is-not-there",)),
        pytest.raises(Unavailable, match=r"torch.compile needs a C\+\+ compiler on the CPU, and none was found"),
    ):
        pytorch.open_session(
            SessionSpec("cpu", "fp32", distilbert.folder / "model", {"compile": "default"}, [1], LENGTH, cpu_threads=1)
        )


def failing_compiler(folder: Path, said: str) -> str:
    """Write a C++ compiler that names its version and builds nothing."""
    program = folder / "g++"
    lines = "import sys", "'-v' in sys.argv or '--version' in sys.argv or sys.exit(SAID)", "print('g++ 13.2.0')"
    program.write_text("\n".join([f"#!{sys.executable}", *lines]).replace("SAID", repr(said)))
    program.chmod(0o755)
    return str(program)


@pytest.mark.skipif(os.name == "nt", reason="a compiler that is a script")
@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("k.cpp:1:10: fatal error: Python.h: No such file", "Python's headers are missing .*: install them"),
        ("g++: error: unrecognized option '-std=c++20'", "unrecognized option .*; install a whole compiler"),
    ],
)
def test_a_row_is_skipped_where_no_line_compiles(
    said: str, reason: str, distilbert: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from torch._inductor import config, cpp_builder

    if "Python.h" not in said:
        (tmp_path / "Python.h").touch()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(sysconfig, "get_path", lambda *_, **__: str(tmp_path))
    cpp_builder.cpp_compiler_search.cache_clear()
    torch.compiler.reset()
    with config.patch("cpp.cxx", (failing_compiler(tmp_path, said),)):
        session = distilbert.session("pytorch", "fp32", "model", compile="default")
        with pytest.raises(Unavailable, match=f"torch.compile cannot build one line of code: .*{reason}"):
            session.run(distilbert.encoded.rows(np.arange(1)))


@pytest.mark.skipif(os.name == "nt", reason="PyTorch quotes these folders on Windows")
def test_compiler_and_linker_get_a_folder_with_a_space_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import cpp_builder
    from torch.utils import cpp_extension

    folder = tmp_path / "it's (1) of me"
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder))
    torch_model.quote_folders()
    torch_model.quote_folders()
    monkeypatch.setattr(cpp_extension, "TORCH_LIB_PATH", "/home/of me/torch/lib")
    monkeypatch.setattr(cpp_builder, "_get_python_related_args", lambda: ([], ["/home/it's/lib"]))
    builder = cpp_builder.CppBuilder("k", f"{folder}/k.cpp", cpp_builder.CppTorchOptions(), str(folder))
    words = shlex.split(builder.get_command_line())
    assert {"-L/home/of me/torch/lib", "-L/home/it's/lib", f"{folder}/k.cpp", f"{folder}/k.so"} <= set(words)


@pytest.mark.parametrize(("kind", "padding"), [("bart", "fixed"), ("gpt2", "longest")])
def test_kinds_that_take_no_trial_mask_are_compiled(
    kind: str, padding: Any, made: MadeModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    found = made(kind)
    session = found.session("pytorch", "fp32", "model", padding=padding, compile="default")
    assert error_of(found, session) < 1e-4


def test_static_int8_is_calibrated_without_padding_and_quantizes_the_weights_columns(distilbert: Made) -> None:
    import onnx

    graph = onnx.load(str(distilbert.graph("int8_static.onnx"))).graph
    types = {value.name: value.data_type for value in graph.initializer}
    lengths = {value.name: list(value.dims) for value in graph.initializer}
    products = [node for node in graph.node if node.op_type in ("MatMul", "Gemm")]
    sources = {node.output[0]: node for node in graph.node}
    weights = [sources[node.input[1]] for node in products if node.input[1] in sources]
    quantized = [node for node in weights if node.op_type == "DequantizeLinear" and node.input[0] in types]
    assert len(quantized) == 2 * 6 + 2
    assert all(types[node.input[0]] == onnx.TensorProto.INT8 for node in quantized)
    assert all(len(lengths[node.input[1]]) == 1 for node in quantized), "a scale a column"


def test_the_instructions_that_decide_are_told_in_one_order() -> None:
    found = deciding_instructions().split()
    assert found == [name for name in DECIDING if name in found]


def test_too_many_threads_end_the_run_before_anything_is_timed(measured_copy: Project) -> None:
    measured_copy.set_params(lambda params: params["timing"].update(cpu_threads=4096))
    ended = measured_copy.script("stages/probe.py", code=1)
    assert "params.yaml: timing.cpu_threads: got 4096, allowed: physical, or at most" in ended.stderr
