"""The whole pipeline with the real dvc: what a first run writes, and what runs again when."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import STAND_INS, TINY_VARIANTS, Project, make_project, shim

INFER = {f"infer@{key}" for key in TINY_VARIANTS}
ENGINE = {"build_engine@ort_tensorrt_fp16"}
TENSORRT = {"infer_tensorrt@ort_tensorrt_fp16"}
CONVERT = {f"convert_onnx@{name}" for name in ("fp16", "fp16_fused", "int8_dynamic", "int8_static", "int8_qdq")}
REPORT = {"summarize", "render", "check_rows"}
TIMED = {"gather_rows"} | REPORT
"""What follows where a row was timed."""
SERVE = {"serve@ort_cpu_fp32"}
DRAWING = {"render", "compare_runs"}
CPU_ROWS = ["torch_cpu_fp32", "ort_cpu_fp32", "ort_cpu_int8"]
GATHER = {"gather@cpu", "gather@cuda"}


def rows(project: Project) -> list[dict[str, str]]:
    return list(csv.DictReader(project.read("results/summary.csv").splitlines()))


def set_in(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(params: dict[str, Any]) -> None:
        section = params
        for name in path[:-1]:
            section = section[name]
        section[path[-1]] = value

    return change


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], None], set[str]]] = {
    "nothing": (lambda _params: None, set()),
    "a batch size added": (set_in("batch_sizes", value=[1, 2, 3]), INFER | TENSORRT | ENGINE | SERVE | TIMED),
    "a precision toggled": (set_in("precisions", "int8", value=False), {"infer@ort_cpu_int8"} | TIMED),
    "timing changed": (set_in("timing", "min_runs", value=4), INFER | TENSORRT | SERVE | TIMED),
    "one variant's option changed": (
        set_in("variants", "ort_cuda_fp16", "options", value={"cuda_graph": True}),
        {"infer@ort_cuda_fp16"} | TIMED,
    ),
    "a quality gate changed": (
        set_in("quality", "int8", "min_agreement", value=0.5),
        {"infer@ort_cpu_int8"} | TIMED,
    ),
    "the margin of verdicts changed": (set_in("report", "margin", value=0.05), REPORT),
    "the price of an hour changed": (set_in("report", "price_per_hour", value={"cpu": 0.5}), REPORT),
    "serving changed": (set_in("serving", "points", value=7), SERVE | REPORT),
    "TensorRT's settings changed": (set_in("tensorrt", "optimization_level", value=2), ENGINE | TENSORRT | TIMED),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_parameter_runs_just_what_it_makes_stale(name: str, measured_copy: Project) -> None:
    change, expected = CHANGES[name]
    measured_copy.set_params(change)
    # check_rows runs where the table reads otherwise, which timings decide
    assert measured_copy.repro() - {"check_rows"} == {"probe"} | (expected - {"check_rows"})


def test_another_version_of_a_runtime_times_that_runtime_again(measured_copy: Project) -> None:
    machine = shim(measured_copy, "sitecustomize.py", "import onnxruntime\nonnxruntime.__version__ = '9.9.9'\n")
    ran = measured_copy.repro(environment=machine)
    of_onnxruntime = {name for name in INFER if "ort_" in name}
    assert ran == {"probe", "measure_peaks"} | CONVERT | of_onnxruntime | ENGINE | TENSORRT | SERVE | TIMED


def test_another_tensorrt_times_tensorrt_alone(measured_copy: Project) -> None:
    machine = shim(measured_copy, "tensorrt.py", "__version__ = '99.0'\n")
    assert measured_copy.repro(environment=machine) == {"probe"} | ENGINE | TENSORRT | TIMED


def test_another_gpu_times_the_gpu_rows_alone_and_never_under_a_wrong_label(measured_copy: Project) -> None:
    machine = shim(measured_copy, "pynvml.py", (STAND_INS / "pynvml.py").read_text(encoding="utf-8"))
    gpu_rows = {"infer@ort_cuda_fp16", "convert_onnx@fp16_fused"} | ENGINE | TENSORRT
    assert measured_copy.repro(environment=machine) == {"probe", "measure_peaks"} | gpu_rows | GATHER | TIMED
    row = next(row for row in rows(measured_copy) if row["variant"] == "ort_cuda_fp16")
    assert row["status"] == "skipped"
    assert "CUDAExecutionProvider does not load" in row["reason"]
    assert row["p50_ms"] == ""


def edit(project: Project, name: str) -> None:
    path = project.folder / name
    path.write_text(path.read_text(encoding="utf-8") + "\n# edited\n", encoding="utf-8")


def test_edited_plots_are_drawn_again_and_nothing_is_timed(measured_copy: Project) -> None:
    edit(measured_copy, "bench/report/plots/write.py")
    assert measured_copy.repro() == {"probe"} | DRAWING


@pytest.mark.parametrize("name", ["bench/statistics/intervals.py", "bench/summary/verdicts.py"])
def test_edited_statistics_write_the_report_anew_and_nothing_is_timed(name: str, measured_copy: Project) -> None:
    edit(measured_copy, name)
    assert measured_copy.repro() == {"probe", "summarize"} | DRAWING


def test_an_edited_runtime_file_times_that_runtimes_variants_again(measured_copy: Project) -> None:
    edit(measured_copy, "bench/runtimes/pytorch.py")
    assert measured_copy.repro() == {"probe", "infer@torch_cpu_fp32"} | TIMED


def test_a_parameter_changed_and_changed_back_is_timed_anew(measured_copy: Project) -> None:
    samples = "artifacts/samples/cpu/ort_cpu_fp32.csv"
    before = measured_copy.read(samples)
    measured_copy.set_params(set_in("timing", "min_runs", value=4))
    measured_copy.repro("infer@ort_cpu_fp32")
    measured_copy.set_params(set_in("timing", "min_runs", value=3))
    assert measured_copy.repro("infer@ort_cpu_fp32") == {"probe", "infer@ort_cpu_fp32"}
    after = measured_copy.read(samples)
    assert len(after.splitlines()) == len(before.splitlines())
    assert after != before


def test_download_to_conversion_gives_the_same_bytes_in_another_folder(measured: Project, tmp_path: Path) -> None:
    other = make_project(tmp_path / "elsewhere")
    other.repro("convert_onnx")
    first, second = (yaml.safe_load(project.read("dvc.lock"))["stages"] for project in (measured, other))
    deterministic = {"download", "prepare_inputs", "export_onnx"} | CONVERT
    assert {name: artifacts(second[name]) for name in deterministic} == {
        name: artifacts(first[name]) for name in deterministic
    }


def artifacts(stage: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a stage's locked outputs but for its metrics, which hold how long it took."""
    return [out for out in stage["outs"] if out["path"].startswith("artifacts/")]


def test_the_machines_own_peaks_are_measured_once(measured: Project) -> None:
    peaks = json.loads(measured.read("metrics/peaks.json"))
    assert peaks["cuda"] is None
    assert peaks["cpu"]["threads"] == 1
    assert min(peaks["cpu"]["bytes_per_s"], *peaks["cpu"]["operations_per_s"].values()) > 1e8


def test_every_measured_row_says_how_far_it_is_from_the_limit_and_what_it_waits_for(measured: Project) -> None:
    timed = [row for row in rows(measured) if row["status"] == "measured"]
    assert timed
    for row in timed:
        assert 0 < float(row["limit_share"]) < 1
        assert row["limited_by"] in ("compute", "memory")
        assert 0 < float(row["matrix_share"]) < 1
        assert float(row["host_loop_max_ms"]) >= float(row["host_loop_min_ms"]) > 0
    exported = next(row for row in timed if row["variant"] == "ort_cpu_int8")
    assert float(exported["one_off_seconds"]) > 0


def test_rows_are_timed_together_with_the_baseline_twice_in_each_round(measured: Project) -> None:
    reports = [json.loads(measured.read(f"artifacts/samples/cpu/{key}.json")) for key in CPU_ROWS]
    assert len({report["session"]["id"] for report in reports}) == 1
    [order] = reports[0]["session"]["order"]
    assert sorted(order) == sorted([*CPU_ROWS, "a/a"])
    baseline = [row for row in rows(measured) if row["variant"] == "ort_cpu_fp32"]
    assert all(float(row["aa_ratio"]) > 0 for row in baseline)
    assert all(float(row["margin"]) >= float(row["noise_floor"]) >= 0 for row in baseline)
    assert "A/A row: `ort_cpu_fp32` against itself" in measured.read("notes/engineering_observations.md")
    assert not list((measured.folder / "artifacts/rounds").rglob("*.json")), "every part was taken"


def test_one_process_gives_no_verdict_and_says_why(measured: Project) -> None:
    table = measured.read("results/summary_table.md")
    assert "inconclusive: one process" in table
    assert "| faster" not in table


def test_the_metrics_are_the_results_table_and_nothing_else(measured: Project) -> None:
    shown = json.loads(measured.dvc("metrics", "show", "--json").stdout)
    files = shown[""]["data"]
    expected = {f"metrics/{key}/bs{size:03d}.json" for key in [*TINY_VARIANTS, "ort_tensorrt_fp16"] for size in (1, 2)}
    assert set(files) == expected | {"metrics/serving/ort_cpu_fp32.json"}
    cell = files["metrics/ort_cpu_fp32/bs001.json"]["data"]
    assert cell["status"] == "measured"
    assert set(cell) <= {"status", "p50_ms", "p95_ms", "mean_ms", "samples_per_s"}


def test_gpu_rows_are_skipped_with_a_reason_on_a_machine_without_one(measured: Project) -> None:
    gpu = [row for row in rows(measured) if row["device"] == "cuda"]
    assert {(row["status"], row["reason"]) for row in gpu} == {("skipped", "no NVIDIA GPU found")}


def test_raw_runs_give_the_published_median(measured: Project) -> None:
    samples = list(csv.DictReader(measured.read("artifacts/samples/cpu/ort_cpu_fp32.csv").splitlines()))
    latencies = sorted(float(row["latency_ms"]) for row in samples if row["batch"] == "2")
    cell = json.loads(measured.read("metrics/ort_cpu_fp32/bs002.json"))
    assert len(latencies) == 3
    assert cell["p50_ms"] == pytest.approx(latencies[1], abs=1e-6)


def test_the_report_names_hardware_versions_and_that_the_weights_are_random(measured: Project) -> None:
    table = measured.read("results/summary_table.md")
    environment = json.loads(measured.read("metrics/env.json"))
    assert environment["cpu"]["model"] in table
    assert f"onnxruntime {environment['versions']['onnxruntime']}" in table
    assert "The weights are random" in table
    assert "synthetic distilbert, seed 0" in measured.read("notes/engineering_observations.md")
    for name in ("cpu_latency_by_batch.png", "cpu_throughput_by_batch.png", "cpu_causes.png", "cpu_distribution.png"):
        assert (measured.folder / "results/plots" / name).read_bytes().startswith(b"\x89PNG")


def test_dvc_plots_draw_the_measured_rows(measured: Project) -> None:
    drawn = json.loads(measured.dvc("plots", "show", "--json").stdout)["data"]
    cells = {point["cell"] for point in drawn["p50_ms"][0]["content"]["data"]["values"]}
    assert "ort_cpu_fp32 batch 001" in cells
    assert not any("cuda" in cell for cell in cells)


def test_the_page_of_dvc_plots_needs_no_network(measured_copy: Project) -> None:
    measured_copy.dvc("plots", "show")
    page = measured_copy.read("dvc_plots/index.html")
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=.https?:", page)
    assert page.count("<script") >= 3
    assert "vegaEmbed" in page
    assert "ort_cpu_fp32 batch 001" in page


def test_the_results_are_shown_on_the_terminal(measured: Project) -> None:
    output = measured.python("-m", "bench.report.terminal").stdout
    assert "ort_cpu_fp32" in output
    assert "For a latency budget" in output
    assert "written: results/summary_table.md" in output


def test_an_experiment_turns_a_precision_off_and_the_diffs_show_it(measured_copy: Project) -> None:
    measured_copy.dvc("exp", "run", "-S", "precisions.int8=false")
    assert json.loads(measured_copy.read("metrics/ort_cpu_int8/bs001.json")) == {"status": "off"}
    params = measured_copy.dvc("params", "diff", "HEAD").stdout
    assert "precisions.int8" in params
    metrics = json.loads(measured_copy.dvc("metrics", "diff", "HEAD", "--json").stdout)
    assert "metrics/ort_cpu_int8/bs001.json" in metrics
    assert "infer@ort_cpu_int8" in measured_copy.dvc("dag").stdout


def test_a_removed_variant_leaves_the_table(measured_copy: Project) -> None:
    measured_copy.set_params(lambda params: params["variants"].pop("ort_cpu_int8"))
    measured_copy.repro()
    assert "ort_cpu_int8" not in measured_copy.read("results/summary_table.md")


def test_a_removed_variant_leaves_no_metrics_and_samples_that_would_be_committed(measured_copy: Project) -> None:
    kept = measured_copy.folder / "metrics/notes"
    kept.mkdir()
    (kept / "mine.json").write_text("{}", encoding="utf-8")
    measured_copy.set_params(lambda params: params["variants"].pop("ort_cpu_int8"))
    told = measured_copy.dvc("repro").stdout
    assert "removed metrics/ort_cpu_int8: no row of that name is configured" in told
    left = {path.as_posix() for path in measured_copy.folder.rglob("*ort_cpu_int8*") if ".dvc" not in path.parts}
    assert not left
    assert (kept / "mine.json").is_file(), "what this project did not write is not its to remove"
    assert measured_copy.repro() == {"probe"}
