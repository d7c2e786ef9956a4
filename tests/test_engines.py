"""TensorRT without a GPU: options, names, and the refusal of an engine that was not built beforehand."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from conftest import Project

from bench.core.errors import WorkerError
from bench.core.model_inputs import Batch
from bench.core.reports import EngineRecord
from bench.inputs.encoded import load_encoded
from bench.machine.versions import _decode_tensorrt
from bench.runtimes import tensorrt
from bench.runtimes.base.session import SessionSpec, Unavailable
from bench.runtimes.onnxruntime import SessionPerBatch
from bench.runtimes.tensorrt import (
    explain_missing_tensorrt,
    is_tensorrt_8,
    lengths_of,
    open_session,
    profile_options,
    provider_options,
    with_int32_inputs,
)
from bench.workers.engines import (
    changed_engine,
    copy_engine,
    engine_folder_name,
    misfit,
    with_timing_cache,
)
from bench.workers.launcher import worker_environment
from bench.workers.protocol import Job

GPU = {"gpu": "Test GPU", "compute_capability": "9.0", "driver": "1"}
OPTIONS: dict[str, Any] = {"profiles": "range", "optimization_level": 3, "workspace_mib": 2048}


def spec(precision: str, **options: Any) -> SessionSpec:
    return SessionSpec("cuda", precision, Path("fp32.onnx"), options, [1, 16], 128, 2, engine_options=OPTIONS)


def test_a_profile_covers_all_batch_sizes_for_every_input() -> None:
    options = profile_options([4, 1, 16], (128, 128, 128), ["input_ids", "attention_mask"])
    assert options["trt_profile_min_shapes"] == "input_ids:1x128,attention_mask:1x128"
    assert options["trt_profile_opt_shapes"] == "input_ids:4x128,attention_mask:4x128"
    assert options["trt_profile_max_shapes"] == "input_ids:16x128,attention_mask:16x128"


@pytest.mark.parametrize(
    ("padding", "multiple_of", "lengths"),
    [
        ("fixed", 8, (128, 128, 128)),
        ("longest", 8, (8, 32, 128)),
        ("longest", 48, (48, 48, 128)),
        ("longest", 256, (128,) * 3),
    ],
)
def test_a_profile_covers_every_length_that_a_row_is_padded_to(padding: Any, multiple_of: int, lengths: Any) -> None:
    assert lengths_of(replace(spec("fp16"), padding=padding, multiple_of=multiple_of)) == lengths


def test_a_cuda_graph_of_tensorrt_is_not_run_with_lengths_that_differ() -> None:
    with pytest.raises(Unavailable, match="one shape alone"):
        open_session(replace(spec("fp16", cuda_graph=True), padding="longest", engine=Path("engine")))


@pytest.mark.parametrize(
    ("precision", "options", "fp16", "int8"),
    [
        ("fp32", {}, "False", "False"),
        ("fp16", {"fp16_by": "flag"}, "True", "False"),
        ("fp16", {}, "False", "False"),
        ("int8", {}, "False", "True"),
    ],
)
def test_precision_flags_follow_the_row(precision: str, options: Any, fp16: str, int8: str) -> None:
    given = provider_options(spec(precision, **options), Path("engines"))
    assert given["trt_fp16_enable"] == fp16
    assert given["trt_int8_enable"] == int8
    assert given["trt_max_workspace_size"] == str(2048 * 2**20)


@pytest.mark.parametrize(
    ("tensorrt", "precision", "flag"),
    [("8.6.1", "fp16", "True"), ("10.14.1", "fp16", "False"), (None, "fp16", "False"), ("8.6.1", "tf32", "False")],
)
def test_an_fp16_graph_gets_the_fp16_flag_where_tensorrt_would_run_it_in_tf32(
    tensorrt: str | None, precision: str, flag: str
) -> None:
    given = provider_options(spec(precision), Path("engines"), is_tensorrt_8(tensorrt))
    assert given["trt_fp16_enable"] == flag


def test_a_graph_with_int32_inputs_gives_the_same_logits(measured: Project) -> None:
    """TensorRT 8 casts INT64 inputs outside its CUDA graph, which then returns the first input's logits for ever."""
    graph = measured.folder / "artifacts/onnx/fp32.onnx"
    wide = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    narrow = onnxruntime.InferenceSession(with_int32_inputs(graph), providers=["CPUExecutionProvider"])
    encoded = load_encoded(measured.folder / "artifacts/inputs/evaluation.npz")
    feed = {"input_ids": encoded.input_ids, "attention_mask": encoded.attention_mask}
    assert {value.type for value in narrow.get_inputs()} == {"tensor(int32)"}
    logits = narrow.run(["logits"], {name: array.astype(np.int32) for name, array in feed.items()})
    np.testing.assert_allclose(logits[0], wide.run(["logits"], feed)[0], atol=1e-5)


@pytest.mark.parametrize(("installed", "given"), [("8.6.1", {bytes}), ("10.14.1", {type(None)})])
def test_a_cuda_graph_row_opens_a_session_and_an_engine_folder_for_each_batch_size(
    installed: str, given: set[type], measured: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[dict[str, str], Any]] = []
    monkeypatch.setattr(tensorrt, "library_version", lambda _: installed)

    def create(_spec: Any, _provider: str, options: dict[str, str], graph: Any) -> Any:
        opened.append((options, graph))
        return SimpleNamespace(get_inputs=list)

    monkeypatch.setattr(tensorrt, "create_session", create)
    row = replace(spec("fp16", cuda_graph=True), graph=measured.folder / "artifacts/onnx/fp32.onnx", engine=tmp_path)
    session = tensorrt.open_session(row)
    assert isinstance(session, SessionPerBatch)
    for size in (1, 16):
        session.prepare(size)
    assert [options["trt_profile_max_shapes"].split(",")[0] for options, _ in opened] == [
        "input_ids:1x128",
        "input_ids:16x128",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bs001", "bs016"]
    assert {type(graph) for _, graph in opened} == given


def test_other_weights_options_versions_and_gpus_get_another_folder(tmp_path: Path) -> None:
    graph, other = tmp_path / "a.onnx", tmp_path / "b.onnx"
    graph.write_bytes(b"weights")
    other.write_bytes(b"other weights")
    names = {
        engine_folder_name(graph, OPTIONS, "10.14", GPU),
        engine_folder_name(other, OPTIONS, "10.14", GPU),
        engine_folder_name(graph, {**OPTIONS, "optimization_level": 5}, "10.14", GPU),
        engine_folder_name(graph, OPTIONS, "8.6.1", GPU),
        engine_folder_name(graph, OPTIONS, "10.14", {**GPU, "gpu": "Another GPU"}),
    }
    assert len(names) == 5
    assert engine_folder_name(graph, OPTIONS, "10.14", {**GPU, "driver": "2"}) in names


def built(folder: Path) -> Path:
    folder.mkdir()
    (folder / "a.engine").write_bytes(b"engine")
    (folder / "a.timing").write_bytes(b"timing")
    return folder


def test_a_session_that_builds_an_engine_is_refused(tmp_path: Path) -> None:
    source = built(tmp_path / "built")

    copy = tmp_path / "copy"
    before = copy_engine(source, copy)
    (copy / "b.engine").write_bytes(b"built while timing")
    found = changed_engine("ort_tensorrt_fp16", copy, before)
    assert re.match(r"ort_tensorrt_fp16: the run built an engine .*b\.engine", found)


def test_a_session_that_uses_the_built_engine_is_accepted_and_may_add_timings(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    before = copy_engine(built(tmp_path / "built"), copy)
    (copy / "a.timing").write_bytes(b"more timing")
    assert not changed_engine("ort_tensorrt_fp16", copy, before)


def job(precision: str, device: str = "cuda") -> Job:
    return Job(
        key="a",
        runtime="pytorch",
        device=device,
        precision=precision,
        graph=Path("model"),
        options={},
        batch_sizes=[1],
        padding="fixed",
        multiple_of=8,
        sequence_length=16,
        cpu_threads=2,
        gpu="3" if device == "cuda" else None,
        engine=None,
        engine_options={},
        inputs="x",
        process=0,
        warmup_runs=1,
        measure_accuracy=False,
        task="single_label",
        started_ns=0,
    )


def test_fp32_rows_switch_tf32_off_for_every_library_and_tf32_rows_do_not(tmp_path: Path) -> None:
    base = {"NVIDIA_TF32_OVERRIDE": "1", "HOME": "/home/someone"}
    assert worker_environment(job("fp32"), base, tmp_path)["NVIDIA_TF32_OVERRIDE"] == "0"
    assert "NVIDIA_TF32_OVERRIDE" not in worker_environment(job("tf32"), base, tmp_path)


def test_a_cpu_row_sees_no_gpu_and_a_gpu_row_sees_its_own(tmp_path: Path) -> None:
    assert worker_environment(job("fp32", "cpu"), {}, tmp_path)["CUDA_VISIBLE_DEVICES"] == ""
    assert worker_environment(job("fp32"), {}, tmp_path)["CUDA_VISIBLE_DEVICES"] == "3"


@pytest.mark.parametrize(("number", "version"), [(8601, "8.6.1"), (101401, "10.14.1")])
def test_tensorrts_version_number_is_decoded(number: int, version: str) -> None:
    assert _decode_tensorrt(number) == version


def test_the_words_of_a_process_that_died_are_its_last_line() -> None:
    words = "a: the worker was ended by SIGSEGV; its last words:\n         warning\n         assertion failed"
    assert WorkerError(words).last_words() == "a: the worker was ended by SIGSEGV: assertion failed"
    assert WorkerError("a: the worker ended with code 1").last_words() == "a: the worker ended with code 1"


BUILT = EngineRecord(status="built", tensorrt="8.6.1", gpu="A GPU")


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"versions": {"tensorrt": "8.6.1"}, "cuda": {"gpu": "B GPU"}}, "built for gpu A GPU, this machine has B GPU"),
        (
            {"versions": {"tensorrt": "10.14.1"}, "cuda": {"gpu": "A GPU"}},
            "for tensorrt 8.6.1, this machine has 1",
        ),
        ({"versions": {"tensorrt": "8.6.1"}, "cuda": None}, "built for gpu A GPU, this machine has none"),
    ],
)
def test_an_engine_of_another_machine_is_refused_with_what_differs(environment: Any, message: str) -> None:
    assert re.search(message, misfit("ort_tensorrt_fp16", BUILT, environment))
    assert not misfit("ort_tensorrt_fp16", BUILT, {"versions": {"tensorrt": "8.6.1"}, "cuda": {"gpu": "A GPU"}})


def test_layer_timings_of_one_build_reach_the_next(tmp_path: Path) -> None:
    first, second, shared = tmp_path / "first", tmp_path / "second", tmp_path / "shared"
    (first / "bs001").mkdir(parents=True)
    second.mkdir()
    with with_timing_cache(first, shared):
        (first / "bs001" / "sm90.timing").write_bytes(b"timings")
    with with_timing_cache(second, shared):
        assert (second / "sm90.timing").read_bytes() == b"timings"


WRONG_MAJOR = "this ONNX Runtime needs TensorRT 10, installed is 8.6.1"


@pytest.mark.parametrize(
    ("message", "installed", "expected"),
    [
        (
            "libnvinfer.so.10: cannot open shared object",
            "8.6.1",
            "this ONNX Runtime needs TensorRT 10, installed is 8.6.1",
        ),
        ("nvinfer_10.dll: LoadLibrary failed", "8.6.1", "this ONNX Runtime needs TensorRT 10, installed is 8.6.1"),
        ("libnvinfer.so.10: cannot open shared object", None, "libnvinfer.so.10: cannot open shared object"),
        ("libcudnn.so.9: cannot open shared object", "8.6.1", "libcudnn.so.9: cannot open shared object"),
    ],
)
def test_a_tensorrt_of_the_wrong_major_version_is_named(message: str, installed: str | None, expected: str) -> None:
    assert explain_missing_tensorrt(message, installed) == expected


def test_a_graph_captured_for_one_shape_is_never_replayed_for_another() -> None:
    opened: list[int] = []

    def open_one(size: int) -> Any:
        opened.append(size)
        return SimpleNamespace(run=lambda batch: (size, len(batch)))

    sessions = SessionPerBatch(open_one)
    sessions.prepare(1)
    sessions.prepare(1)
    assert opened == [1], "a session is opened once, when it is needed"
    assert sessions.run(Batch(np.zeros((4, 8), dtype=np.int64), np.zeros((4, 8), dtype=np.int64))) == (4, 4)
