"""A run is kept under a name, never lost silently, and compared only with runs of the same work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Project
from test_report import row, table

from bench.runs.hardware import render_hardware
from bench.runs.hardware_plot import write_hardware_plot
from bench.runs.recorded_runs import RecordedRun, comparable


def machine(name: str, *rows: dict[str, Any], **changes: Any) -> RecordedRun:
    environment = {
        "cpu": {"model": "A CPU", "cores": 2},
        "cuda": {"gpu": f"GPU of {name}"},
        "os": "Linux x86_64",
        "versions": {"torch": "2.13.0", "onnxruntime": "1.31.1", "tensorrt": None},
    }
    params = {"sequence_length": 128, "model": {"synthetic": {"layers": 6}}, **changes}
    provenance = {"model": "a model, seed 0", "model_is_real": False}
    return RecordedRun(name, environment, provenance, params, table(*rows))


FAST_ORT = row("ort_cuda_fp16", 1, (0.3, 0.301, 0.302)), row("torch_cuda_fp16", 1, (4.0, 4.1, 4.2))
FAST_TORCH = row("ort_cuda_fp16", 1, (9.0, 9.1, 9.2)), row("torch_cuda_fp16", 1, (4.0, 4.1, 4.2))


def test_the_winner_of_each_machine_and_where_it_changes_are_named() -> None:
    rendered = render_hardware([machine("large", *FAST_ORT), machine("small", *FAST_TORCH)])
    assert "No row is the fastest everywhere, ties counted, at these batch sizes:" in rendered
    assert "- Batch 1: `ort_cuda_fp16` on `large`, `torch_cuda_fp16` on `small`." in rendered
    same = render_hardware([machine("large", *FAST_ORT), machine("again", *FAST_ORT)])
    assert "At every batch size one row is the fastest on all of them" in same


def test_a_tie_is_not_called_another_winner() -> None:
    tied = row("ort_cuda_fp16", 1, (4.0, 4.1, 4.3)), row("torch_cuda_fp16", 1, (3.9, 4.1, 4.2))
    rendered = render_hardware([machine("large", *FAST_ORT), machine("small", *tied)])
    assert "no significant difference to `" in rendered
    assert "No row is the fastest everywhere" not in rendered


def test_the_same_row_stands_side_by_side_on_all_machines() -> None:
    rendered = render_hardware([machine("large", *FAST_ORT), machine("small", *FAST_TORCH)])
    assert "| 1 | ort_cuda_fp16 | 0.301 | 9.100 |" in rendered


def test_a_run_of_other_work_is_named_with_the_reason_and_not_compared() -> None:
    runs = [machine("a", *FAST_ORT), machine("b", *FAST_ORT), machine("long", *FAST_ORT, sequence_length=256)]
    compared, others = comparable(runs)
    assert [run.name for run in compared] == ["a", "b"]
    assert others == {"long": "sequence length 256, the others: 128"}
    assert "- `long` is not compared: sequence length 256, the others: 128." in render_hardware(runs)


@pytest.mark.parametrize("runs", [[], [machine("a", *FAST_ORT)], [machine("a", *FAST_ORT), machine("b", *FAST_TORCH)]])
def test_the_picture_is_drawn_for_any_number_of_runs(runs: list[RecordedRun], tmp_path: Path) -> None:
    write_hardware_plot(runs, tmp_path / "hardware.png")
    assert (tmp_path / "hardware.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_is_kept_and_compared_and_never_written_over_silently(measured_copy: Project) -> None:
    measured_copy.python("-m", "bench.runs.record", "first")
    kept = measured_copy.folder / "runs/first"
    assert json.loads((kept / "env.json").read_text())["python"]
    assert (kept / "metrics/ort_cpu_fp32/bs001.json").is_file()
    assert measured_copy.repro("compare_runs") == {"compare_runs"}
    assert "`first`" in measured_copy.read("results/hardware.md")

    refused = measured_copy.python("-m", "bench.runs.record", "first", code=1)
    assert "error: record: runs/first is there already" in refused.stderr
    measured_copy.python("-m", "bench.runs.record", "first", "--replace")


@pytest.mark.parametrize("name", ["../away", "Capital", "", "a/b", "with space"])
def test_a_name_that_is_no_plain_folder_name_is_refused(name: str, measured_copy: Project) -> None:
    refused = measured_copy.python("-m", "bench.runs.record", name, code=1)
    assert f"error: record: got the name {name!r}, allowed: a-z, 0-9" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_run_of_other_parameters_than_params_yaml_is_not_kept(measured_copy: Project) -> None:
    measured_copy.set_params(lambda params: params.update(batch_sizes=[1, 2, 3]))
    refused = measured_copy.python("-m", "bench.runs.record", "mixed", code=1)
    assert "results/summary.csv is of other parameters than params.yaml" in refused.stderr
    assert not (measured_copy.folder / "runs/mixed").exists()
