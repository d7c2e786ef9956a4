"""The whole pipeline with the real dvc: what a first run writes, and what runs again when."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

import pytest
from conftest import STAND_INS, TINY_VARIANTS, Project, copy_of, leave_pytorch, shared_project, shim, stages_run

from bench.machine.can_run import deciding_instructions, has_bf16

INFER = {f"infer@{key}" for key in TINY_VARIANTS}
ENGINE = {"build_engine@ort_tensorrt_fp16"}
TENSORRT = {"infer_tensorrt@ort_tensorrt_fp16"}
CONVERT = {f"convert_onnx@{name}" for name in ("fp16", "fp16_fused", "int8_dynamic", "int8_static", "int8_qdq")}
REPORT = {"summarize", "render", "check_rows"}
SERVE = {"serve@ort_cpu_fp32"}
TEXT = {"serve_text@cpu", "serve_text@cuda"}
DRAWING = {"render", "compare_runs", "check_rows"}
CPU_ROWS = ["torch_cpu_fp32", "ort_cpu_fp32", "ort_cpu_int8"]


def set_in(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(params: dict[str, Any]) -> None:
        section = params
        for name in path[:-1]:
            section = section[name]
        section[path[-1]] = value

    return change


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], None], set[str]]] = {
    "nothing": (lambda _params: None, set()),
    "a batch size added": (set_in("batch_sizes", value=[1, 2, 3]), INFER | TENSORRT | ENGINE | SERVE | REPORT),
    "a precision toggled": (set_in("precisions", "int8", value=False), {"infer@ort_cpu_int8"} | REPORT),
    "timing changed": (set_in("timing", "minutes", value=0.1), INFER | TENSORRT | SERVE | REPORT),
    "one variant's option changed": (
        set_in("variants", "ort_cuda_fp16", "options", value={"cuda_graph": True}),
        {"infer@ort_cuda_fp16"} | REPORT,
    ),
    "a quality gate changed": (
        set_in("quality", "int8", "min_agreement", value=0.5),
        {"infer@ort_cpu_int8"} | REPORT,
    ),
    "the margin of verdicts changed": (set_in("report", "margin", value=0.05), REPORT),
    "the price of an hour changed": (set_in("report", "price_per_hour", value={"cpu": 0.5}), REPORT),
    "serving changed": (set_in("serving", "seconds", value=0.2), SERVE | REPORT),
    "settings searched": (set_in("serving", "search", value=True), SERVE | REPORT),
    "TensorRT's settings changed": (set_in("tensorrt", "optimization_level", value=2), ENGINE | TENSORRT | REPORT),
}


@pytest.fixture(scope="module")
def shared(measured: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A copy that is changed and mended again by one test after another; nothing runs in it but `probe`."""
    yield from copy_of(measured, tmp_path_factory.mktemp("shared") / "copy")


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_parameter_makes_just_its_stages_stale(name: str, shared: Project) -> None:
    change, expected = CHANGES[name]
    with shared.mended("params.yaml"):
        shared.set_params(change)
        assert shared.stale() == expected


def stale_on(project: Project, name: str, text: str) -> set[str]:
    """Return what is stale on a machine that has this module in front of its own."""
    machine = shim(project, name, text)
    try:
        return project.stale(environment=machine)
    finally:
        shutil.rmtree(project.folder / "shim")


def test_another_version_of_a_runtime_times_that_runtime_again(shared: Project) -> None:
    found = stale_on(shared, "sitecustomize.py", "import onnxruntime\nonnxruntime.__version__ = '9.9.9'\n")
    of_onnxruntime = {name for name in INFER if "ort_" in name}
    assert found == {"measure_peaks"} | CONVERT | of_onnxruntime | ENGINE | TENSORRT | SERVE | REPORT


def test_another_tensorrt_times_tensorrt_alone(shared: Project) -> None:
    found = stale_on(shared, "tensorrt.py", "__version__ = '99.0'\n")
    assert found == ENGINE | TENSORRT | REPORT


def test_another_gpu_makes_the_gpu_rows_alone_stale(shared: Project) -> None:
    found = stale_on(shared, "pynvml.py", (STAND_INS / "pynvml.py").read_text(encoding="utf-8"))
    gpu_rows = {"infer@ort_cuda_fp16", "convert_onnx@fp16_fused"} | ENGINE | TENSORRT
    assert found == {"measure_peaks"} | gpu_rows | REPORT


EDITS: dict[str, set[str]] = {
    "bench/report/charts/write.py": DRAWING,
    "bench/statistics/intervals.py": INFER | TENSORRT | SERVE | TEXT | REPORT | DRAWING,
    "bench/summary/comparisons.py": {"summarize"} | DRAWING,
    "bench/runtimes/pytorch.py": {"infer@torch_cpu_fp32"} | REPORT,
}
"""Files that are edited, and what that makes stale."""


@pytest.mark.parametrize("name", EDITS)
def test_edited_code_makes_just_its_stages_stale(name: str, shared: Project) -> None:
    with shared.mended(name):
        edit(shared, name)
        assert shared.stale() == EDITS[name]


def edit(project: Project, name: str) -> None:
    path = project.folder / name
    path.write_text(path.read_text(encoding="utf-8") + "\n# edited\n", encoding="utf-8")


def change_much(params: dict[str, Any]) -> None:
    """Time more, take variants away, serve otherwise and name a price."""
    params["timing"]["minutes"] = 0.06
    leave_pytorch(params)
    params["variants"].pop("ort_cpu_int8")
    params["serving"] |= {"instances": 2, "max_delay_ms": 1}
    params["report"]["price_per_hour"] = {"cpu": 3.6}


@pytest.fixture(scope="session")
def changed(measured: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that ran again after many changes; what it said is in told.txt.  Read it, do not change it."""

    def run(project: Project) -> None:
        (project.folder / "metrics/notes").mkdir()
        (project.folder / "metrics/notes/mine.json").write_text("{}", encoding="utf-8")
        project.set_params(change_much)
        (project.folder / "told.txt").write_text(project.dvc("repro").stdout, encoding="utf-8")

    return shared_project(tmp_path_factory, "changed", run, measured)


def test_dvc_runs_what_status_says_and_no_more(changed: Project, measured_copy: Project) -> None:
    measured_copy.set_params(change_much)
    ran = {name for name in stages_run(changed.read("told.txt")) if "barrier" not in name}
    assert ran == {"probe", "serve_text@cpu"} | measured_copy.stale()


def test_a_removed_variant_leaves_nothing_that_would_be_committed(changed: Project) -> None:
    assert "ort_cpu_int8" not in changed.read("results/summary_table.md")
    left = {path.as_posix() for path in changed.folder.rglob("*ort_cpu_int8*") if ".dvc" not in path.parts}
    assert not left
    assert "ort_cpu_int8.csv: no row of that name is configured" in changed.read("told.txt")
    assert (changed.folder / "metrics/notes/mine.json").is_file(), (
        "what this project did not write is not its to remove"
    )


def test_sessions_side_by_side_a_delay_and_a_price_are_told(changed: Project) -> None:
    [row] = changed.rows("results/serving.csv")
    assert row["status"] == "measured"
    assert float(row["cost_per_million_requests"]) == pytest.approx(1000 / float(row["requests_per_s"]))
    table = changed.read("results/summary_table.md")
    assert "that wait up to 1 ms for more, 2 sessions side by side" in table
    assert "cost per million requests" in changed.read("results/report.html")


def test_a_parameter_changed_and_changed_back_is_timed_anew(changed: Project, tmp_path: Path) -> None:
    for copied in copy_of(changed, tmp_path / "copy"):
        assert not copied.stale()
        before = copied.report("ort_cpu_fp32")["session"]["id"]
        copied.set_params(set_in("timing", "minutes", value=0.05))
        assert "infer@ort_cpu_fp32" in copied.repro("infer@ort_cpu_fp32")
        assert copied.report("ort_cpu_fp32")["session"]["id"] > before


def test_download_to_conversion_gives_the_same_bytes_in_another_folder(measured: Project, project: Project) -> None:
    for stage in ("probe", "download", "prepare_inputs", "export_onnx"):
        project.script(f"stages/{stage}.py")
    for graph in CONVERT:
        project.script("stages/convert_onnx.py", graph.split("@")[1])
    for folder in ("model", "sentences", "inputs", "onnx"):
        files = sorted((measured.folder / "artifacts" / folder).iterdir())
        assert files
        for path in files:
            again = project.folder / "artifacts" / folder / path.name
            assert again.read_bytes() == path.read_bytes(), path.name


def pad_less(params: dict[str, Any]) -> None:
    """Time rows of OpenVINO, and rows that pad to the longest sentence of a batch."""
    rows: dict[str, dict[str, Any]] = {
        "ort_cpu_fp32_longest": {"runtime": "onnxruntime", "padding": "longest"},
        "openvino_cpu_fp32": {},
        "openvino_cpu_bf16_longest": {"precision": "bf16", "padding": "longest"},
        "openvino_cpu_int8_longest": {"precision": "int8", "graph": "onnx/int8_static.onnx", "padding": "longest"},
    }
    common = {"runtime": "openvino", "device": "cpu", "precision": "fp32", "graph": "onnx/fp32.onnx"}
    params["variants"] = {key: TINY_VARIANTS[key] for key in ("ort_cpu_fp32", "ort_cuda_fp16")}
    params["variants"] |= {key: {**common, **own} for key, own in rows.items()}
    params["tensorrt_variants"] = {}
    params["serving"]["variants"] = ["openvino_cpu_int8_longest"]
    params["quality"]["int8"]["synthetic"]["min_agreement"] = 0.5  # so small a random model is often in doubt


@pytest.fixture(scope="session")
def padded(measured: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with rows that pad less.  Read it, do not change it."""

    def run(project: Project) -> None:
        project.set_params(pad_less)
        project.repro()

    return shared_project(tmp_path_factory, "padded", run, measured)


def at_batch_2(project: Project) -> dict[str, dict[str, str]]:
    return {row["variant"]: row for row in project.rows() if row["batch_size"] == "2"}


def test_rows_of_openvino_are_timed_proved_and_served(padded: Project) -> None:
    table = at_batch_2(padded)
    assert table["openvino_cpu_fp32"]["status"] == table["openvino_cpu_int8_longest"]["status"] == "measured"
    wanted = "measured" if has_bf16(deciding_instructions()) else "skipped"
    assert table["openvino_cpu_bf16_longest"]["status"] == wanted
    assert float(table["openvino_cpu_fp32"]["relative_error"]) < 1e-4
    assert [row["status"] for row in padded.rows("results/serving.csv")] == ["measured"]


def test_a_row_that_pads_less_computes_less(padded: Project) -> None:
    table = at_batch_2(padded)
    longest, fixed = table["ort_cpu_fp32_longest"], table["ort_cpu_fp32"]
    assert float(fixed["tokens_computed"]) == 32.0
    assert float(longest["tokens_given"]) == float(fixed["tokens_given"])
    assert float(longest["tokens_given"]) < float(longest["tokens_computed"]) < 32.0
    assert float(fixed["limit_without_padding_share"]) < float(fixed["limit_share"])
    assert float(longest["runs"]) % 8 == 0, "a block holds whole sets of eight batches, each length equally often"
    assert json.loads(padded.read("metrics/lengths.json"))["longest_tokens"] <= 32
    summary = padded.read("results/summary_table.md")
    assert "THE LENGTHS ARE THOSE OF BUILT-IN SENTENCES" in summary
    assert "| 2 | `ort_cpu_fp32_longest` |" in summary
    assert (padded.folder / "results/plots/lengths.png").stat().st_size > 5000


def test_a_change_of_lengths_or_batches_makes_the_rows_stale_that_it_touches(padded: Project, tmp_path: Path) -> None:
    for copied in copy_of(padded, tmp_path / "copy"):
        with copied.mended("params.yaml"):
            copied.set_params(set_in("lengths", "multiple_of", value=16))
            assert {name for name in copied.stale() if name.startswith("infer")} == {
                f"infer@{key}" for key in copied.params()["variants"] if key.endswith("longest")
            }
        copied.set_params(set_in("batch_sizes", value={"cpu": [1, 2], "cuda": [1, 64]}))
        assert {name for name in copied.stale() if name.startswith("infer")} == {"infer@ort_cuda_fp16"}


def test_the_machines_own_peaks_are_measured_once(measured: Project) -> None:
    peaks = json.loads(measured.read("metrics/peaks.json"))
    assert peaks["cuda"] is None
    assert peaks["cpu"]["threads"] == 1
    assert min(peaks["cpu"]["bytes_per_s"], *peaks["cpu"]["operations_per_s"].values()) > 0


def test_every_measured_row_says_how_far_it_is_from_the_limit_and_what_it_waits_for(measured: Project) -> None:
    timed = [row for row in measured.rows() if row["status"] == "measured"]
    assert timed
    for row in timed:
        assert float(row["limit_share"]) > 0
        assert row["limited_by"] in ("compute", "memory")
        if row["cold_start_seconds"]:  # ran alone, as a row that may be a pick does
            assert 0 <= float(row["matrix_share"]) <= 1
        assert float(row["host_loop_max_ms"]) >= float(row["host_loop_min_ms"]) > 0
    assert any(row["cold_start_seconds"] for row in timed if row["variant"] == "ort_cpu_fp32"), "it always did"
    exported = next(row for row in timed if row["variant"] == "ort_cpu_int8")
    assert float(exported["one_off_seconds"]) > 0


def test_rows_are_timed_in_the_same_passes_with_the_baseline_twice(measured: Project) -> None:
    reports = {key: measured.report(key) for key in CPU_ROWS}
    [session] = {report["session"]["id"]: report["session"] for report in reports.values()}.values()
    baseline = reports["ort_cpu_fp32"]["cells"]["2"]
    assert set(session["twin"]["2"]["passes"]) == set(baseline["passes"])
    turns = list(zip(baseline["passes"], baseline["processes"], strict=True))
    assert len(set(turns)) == len(turns), "parts of a block are one"
    counted = {each["number"] for each in session["passes"]}
    assert all(counted >= set(report["cells"]["1"]["passes"]) for report in reports.values())
    assert min(session["seconds"].values()) > 0
    rows = [row for row in measured.rows() if row["variant"] == "ort_cpu_fp32"]
    assert all(float(row["aa_ratio"]) > 0 for row in rows)
    assert all(float(row["margin"]) >= float(row["noise_floor"]) >= 0 for row in rows)
    assert "A/A row: `ort_cpu_fp32` against itself" in measured.read("notes/engineering_observations.md")
    assert not list((measured.folder / "artifacts/rounds").rglob("*.json")), "every part was taken"


def test_one_pass_gives_a_complete_table_and_no_verdict(measured: Project, tmp_path: Path) -> None:
    for copied in copy_of(measured, tmp_path / "copy"):
        copied.set_params(leave_pytorch)
        copied.set_params(set_in("timing", "minutes", value=0.0))
        copied.repro("render")
        timed = [row for row in copied.rows() if row["device"] == "cpu"]
        assert {(row["status"], row["passes"]) for row in timed} == {("measured", "1.0")}
        assert {row["verdict"] for row in timed if row["variant"] != "ort_cpu_fp32"} == {"inconclusive"}
        assert "too few passes" in copied.read("results/summary_table.md")


def test_the_metrics_are_the_results_table_and_nothing_else(measured: Project) -> None:
    shown = json.loads(measured.dvc("metrics", "show", "--json").stdout)
    files = shown[""]["data"]
    assert set(files) == {f"metrics/variants/{key}.json" for key in [*TINY_VARIANTS, "ort_tensorrt_fp16"]}
    found = files["metrics/variants/ort_cpu_fp32.json"]["data"]
    assert found["status"] == "measured"
    assert set(found) == {"status", "p50_ms", "requests_per_s"}
    assert set(found["p50_ms"]) == {"b001", "b002"}


def test_gpu_rows_are_skipped_with_a_reason_on_a_machine_without_one(measured: Project) -> None:
    gpu = [row for row in measured.rows() if row["device"] == "cuda"]
    assert {(row["status"], row["reason"]) for row in gpu} == {("skipped", "no NVIDIA GPU found")}


def test_raw_calls_give_the_published_figure(measured: Project) -> None:
    samples = list(csv.DictReader(measured.read("artifacts/samples/ort_cpu_fp32.csv").splitlines()))
    blocks: dict[str, list[float]] = {}
    for row in samples:
        if row["batch"] == "2":
            assert row["process"] == "0", "the baseline's second process is the A/A row"
            blocks.setdefault(row["pass"], []).append(float(row["latency_ms"]))
    expected = geometric_mean(median(calls) for calls in blocks.values())
    metrics = json.loads(measured.read("metrics/variants/ort_cpu_fp32.json"))
    assert metrics["p50_ms"]["b002"] == pytest.approx(expected, rel=5e-4)


def test_the_report_names_hardware_versions_and_that_the_weights_are_random(measured: Project) -> None:
    table = measured.read("results/summary_table.md")
    environment = json.loads(measured.read("metrics/env.json"))
    assert environment["cpu"]["model"] in table
    assert f"onnxruntime {environment['versions']['onnxruntime']}" in table
    assert "The weights are random" in table
    assert "synthetic distilbert, seed 0" in measured.read("notes/engineering_observations.md")
    for name in ("latency_by_batch", "throughput_by_batch", "time_breakdown", "distribution"):
        assert (measured.folder / f"results/plots/cpu_{name}.png").read_bytes().startswith(b"\x89PNG")


def test_dvc_plots_draw_the_measured_rows(measured: Project) -> None:
    drawn = json.loads(measured.dvc("plots", "show", "--json").stdout)["data"]
    cells = {point["cell"] for point in drawn["p50_ms"][0]["content"]["data"]["values"]}
    assert "ort_cpu_fp32 batch 001" in cells
    assert not any("cuda" in cell for cell in cells)


def test_dvc_plots_show_writes_the_measured_rows(measured_copy: Project) -> None:
    measured_copy.dvc("plots", "show")
    page = measured_copy.read("dvc_plots/index.html")
    assert "vegaEmbed" in page
    assert "ort_cpu_fp32 batch 001" in page


def test_the_results_are_shown_on_the_terminal(measured: Project) -> None:
    output = measured.python("-m", "bench.report.terminal").stdout
    assert "ort_cpu_fp32" in output
    assert "For a latency budget" in output
    assert "written: results/summary_table.md" in output


@pytest.mark.slow
def test_a_clone_that_pulls_times_every_row_anew(measured_copy: Project, tmp_path: Path) -> None:
    measured_copy.dvc("remote", "add", "-d", "storage", str(tmp_path / "storage"))
    measured_copy.dvc("push")
    measured_copy.set_params(leave_pytorch)
    measured_copy.commit("Share")
    measured_copy.run("git", "clone", "--quiet", str(measured_copy.folder), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    ran = clone.repro("--pull")
    rows = INFER - {"infer@torch_cpu_fp32"}
    assert rows | {"serve@ort_cpu_fp32", "summarize", "render"} <= ran
    assert not {"download", "prepare_inputs", "export_onnx"} & ran
    sessions = {project.report("ort_cpu_fp32")["session"]["id"] for project in (measured_copy, clone)}
    assert len(sessions) == 2
    assert {row["status"] for row in clone.rows() if row["device"] == "cpu"} == {"measured"}


@pytest.mark.slow
def test_an_experiment_turns_a_precision_off_and_the_diffs_show_it(measured_copy: Project) -> None:
    measured_copy.dvc("exp", "run", "-S", "precisions.int8=false")
    assert json.loads(measured_copy.read("metrics/variants/ort_cpu_int8.json")) == {"status": "off"}
    params = measured_copy.dvc("params", "diff", "HEAD").stdout
    assert "precisions.int8" in params
    metrics = json.loads(measured_copy.dvc("metrics", "diff", "HEAD", "--json").stdout)
    assert "metrics/variants/ort_cpu_int8.json" in metrics
    assert "infer@ort_cpu_int8" in measured_copy.dvc("dag").stdout
