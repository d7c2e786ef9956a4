"""A run is kept under a name, never lost silently, and compared only with runs of the same work."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, Project, copy_of, in_front
from made_blocks import params_of
from scipy import stats
from test_report import row, settings, table

from bench.core.errors import DataError, ParameterError
from bench.core.files import file_sha256, write_json
from bench.core.params import load_params
from bench.core.paths import SERVED
from bench.core.reports import Report, Served, ServedText
from bench.report.shown import Context
from bench.runs.hardware import render_hardware, write_hardware_plot
from bench.runs.record import check_made_with, machine_of, record
from bench.runs.recorded_runs import (
    IN_ROUNDS,
    MANIFEST,
    PARTS,
    RecordedRun,
    comparable,
    is_in_rounds,
    manifest_id,
    unpack_samples,
)
from bench.statistics.rate_curve import crossing, curve_of
from bench.summary.build import build_summary
from bench.summary.costs import Recorded
from bench.summary.over_http import SERVED_HTTP, HttpLoad, ServedHttp
from bench.summary.serving import build_serving, read_serving
from bench.summary.table_file import read_summary, write_table
from bench.timing.results import MIN_RUNS_FOR_P95, Block, figures_of

RECORD = "bench/runs/record.py"


def machine(name: str, *rows: dict[str, Any], **changes: Any) -> RecordedRun:
    environment = {
        "cpu": {"model": "A CPU", "cores": 2},
        "cuda": {"gpu": f"GPU of {name}", "memory_mib": 1024, "count": 1, "driver": "1", "cuda": "13", "cudnn": 9},
        "os": "Linux x86_64",
        "python": "3.12.3",
        "versions": {"torch": "2.13.0", "onnxruntime": "1.31.1", "tensorrt": None},
    }
    params = {"sequence_length": 128, "model": {"synthetic": {"layers": 6}}, **changes}
    provenance = {"model": "a model, seed 0", "model_is_real": False}
    serving = pd.DataFrame(columns=["variant", "device", "status", "requests_per_s"])
    context = Context(environment, provenance, {}, settings())
    return RecordedRun(name, name, context, params, table(*rows), serving)


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


def in_rounds(run: RecordedRun) -> RecordedRun:
    """Return a run as an earlier version timed it: without levels, with its rounds."""
    return replace(run, table=run.table.assign(rounds="0 1 2", p50_level=None, mean_level=None))


def test_runs_in_rounds_stand_marked_and_take_no_part_in_verdicts() -> None:
    runs = [in_rounds(machine("old", *FAST_ORT)), machine("new", *FAST_TORCH)]
    rendered = render_hardware(runs)
    assert f"- `old` is not compared: {IN_ROUNDS}." in rendered
    assert "| batch | `new` |" in rendered
    assert "No row is the fastest everywhere" not in rendered
    assert "one row is the fastest on all" not in rendered
    assert f"- `old` is not compared: {IN_ROUNDS}." in render_hardware(runs[:1])
    three = render_hardware([*runs, machine("newer", *FAST_ORT)])
    assert "- Batch 1: `torch_cuda_fp16` on `new`, `ort_cuda_fp16` on `newer`." in three


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
    assert sorted(path.name for path in kept.iterdir()) == sorted((*PARTS, MANIFEST, "README.md"))
    found = json.loads((kept / "measured_with.json").read_text())
    assert found["environment"] == json.loads(measured_copy.read("metrics/env.json"))
    assert found["params"] == measured_copy.params()
    assert "| 1 | `ort_cpu_fp32` |" in (kept / "README.md").read_text()
    assert measured_copy.repro("compare_runs") == {"compare_runs"}
    assert "`first`" in measured_copy.read("results/hardware.md")

    refused = measured_copy.script(RECORD, "first", code=1)
    assert "error: record: runs/first is there already" in refused.stderr
    measured_copy.script(RECORD, "first", "--replace")


@pytest.mark.parametrize("name", ["../away", "Capital", "", "a/b", "with space"])
def test_a_name_that_is_no_plain_folder_name_is_refused(name: str) -> None:
    with pytest.raises(ParameterError, match=f"got the name {re.escape(repr(name))}, allowed: a-z, 0-9"):
        record(name)


@pytest.mark.parametrize("name", ["nul", "con.txt", "com1", "lpt0.x", "a."])
def test_a_name_that_windows_takes_for_a_device_is_refused(name: str) -> None:
    with pytest.raises(ParameterError, match=f"got the name {name!r}, which Windows cannot have as a folder"):
        record(name)


def edit(project: Project, name: str, old: str, new: str) -> None:
    path = project.folder / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


UNLIKE: dict[str, Callable[[Project], None]] = {
    "another sequence length": lambda project: project.set_params(lambda params: params.update(sequence_length=16)),
    "an edited figure": lambda project: edit(project, "results/summary.csv", ",measured,", ",measured,1"),
    "an edited metric": lambda project: edit(project, "metrics/variants/ort_cpu_fp32.json", '"b001": ', '"b001": 1'),
    "an edited sample": lambda project: edit(project, "artifacts/samples/ort_cpu_fp32.csv", "0,1,0,", "0,1,0,1"),
    "other weights": lambda project: edit(project, "artifacts/model/config.json", "{", "{ "),
    "a row that failed": lambda project: edit(project, "results/summary.csv", ",skipped,", ",failed,"),
}
"""By what is not of the run any more: what makes it so."""
SLOW = ("an edited metric", "an edited sample")
"""Those that repeat what an edited figure shows."""


@pytest.mark.parametrize(
    "change", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in UNLIKE]
)
def test_what_is_not_of_one_run_of_this_machine_is_not_kept(change: str, measured_copy: Project) -> None:
    for path in (measured_copy.folder / "artifacts/model").iterdir():
        path.chmod(0o644)
    UNLIKE[change](measured_copy)
    refused = measured_copy.script(RECORD, "mixed", code=1)
    assert re.search(", then (record )?again", refused.stderr)
    assert "`dvc repro`" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (measured_copy.folder / "runs/mixed").exists()


def test_what_only_dvc_commit_calls_up_to_date_is_not_kept(measured_copy: Project) -> None:
    measured_copy.set_params(lambda params: params.update(sequence_length=16))
    measured_copy.dvc("commit", "-f")
    refused = measured_copy.script(RECORD, "committed", code=1).stderr
    assert "rows were timed with other parameters, files or versions than those that are here" in refused
    assert "artifacts/barriers/cpu.json" in refused
    assert "`dvc repro -f`" in refused


UNTIMED: dict[str, tuple[str, Any, str]] = {
    "dataset": ("calibration_share", 0.3, "metrics/model.json"),
    "export": ("max_abs_diff", 2e-4, "metrics/export.json"),
    "int8": ("calibration_sentences", 5, "metrics/convert/int8_dynamic.json"),
    "report": ("margin", 0.03, "results/summary.csv"),
}
"""By section of params.yaml: a key that times nothing anew by itself, another value, and what the old one made."""


def test_what_dvc_commit_says_of_the_stages_around_the_timing_is_not_believed(
    measured_copy: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(measured_copy.folder)
    check_made_with(load_params())
    for section, (key, value, made) in UNTIMED.items():
        with measured_copy.mended("params.yaml"):
            measured_copy.set_params(lambda p: p[section].update({key: value}))  # noqa: B023
            with pytest.raises(DataError, match=re.escape(made)):
                check_made_with(load_params())


def as_timed_on(project: Project, key: str, machine: str) -> None:
    """Change the machine that a row was timed on, in its report."""
    path = project.folder / f"artifacts/samples/{key}.json"
    report = json.loads(path.read_text(encoding="utf-8"))
    report["session"]["machine"] = machine
    path.write_text(json.dumps(report), encoding="utf-8")


def test_a_run_is_of_the_machine_that_timed_its_rows(measured_copy: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(measured_copy.folder)
    params = load_params()
    assert machine_of(params) == json.loads(measured_copy.read("artifacts/machine.json"))["id"]
    as_timed_on(measured_copy, "ort_cpu_fp32", "another one")
    with pytest.raises(DataError, match="rows were timed on several machines"):
        machine_of(params)


@pytest.fixture(scope="module")
def kept(measured: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A copy that keeps one run, `first`."""
    for project in copy_of(measured, tmp_path_factory.mktemp("kept") / "copy"):
        report = project.folder / SERVED / "ort_cpu_fp32.json"
        load = HttpLoad(texts=1, requests_per_s=123.0, points=[])
        over_http = ServedHttp(variant=report.stem, digest=file_sha256(report), budget_ms=1.0, loads=[load])
        write_json(project.folder / SERVED_HTTP / report.name, over_http.as_dict())
        project.script(RECORD, "first")
        yield project


def figures_in_rounds(processes_ms: list[list[float]], batch_size: int) -> dict[str, Any]:
    """Return the figures of a cell as an earlier version made them: geometric means of the processes' own."""
    figures: dict[str, Any] = {
        "p50_ms": float(stats.gmean([np.median(own) for own in processes_ms])),
        "mean_ms": float(stats.gmean([np.mean(own) for own in processes_ms])),
    }
    if min(map(len, processes_ms)) >= MIN_RUNS_FOR_P95:
        figures["p95_ms"] = float(stats.gmean([np.percentile(own, 95) for own in processes_ms]))
    return {**figures, "samples_per_s": batch_size * 1000 / figures["mean_ms"]}


def figures_in_passes(blocks_ns: list[list[int]], cell: dict[str, Any], batch_size: int) -> dict[str, Any]:
    """Return the figures of a cell from its blocks, which stand in the order of its report."""
    places = zip(cell["passes"], cell["processes"], blocks_ns, strict=True)
    figures = figures_of(
        [Block(number=number, process=process, latencies_ns=ns) for number, process, ns in places], batch_size
    )
    for name in ("block_p50_ms", "block_mean_ms", "part_p95_ms"):
        assert cell.get(name, []) == pytest.approx(figures[name], rel=1e-9)
    return figures


def check_figures(folder: Path) -> None:
    """Compute p50, p95, mean and throughput of every measured row of a kept run anew."""
    content = unpack_samples(folder)
    table = read_summary(folder / "summary.csv")
    for measured_row in table[table["status"] == "measured"].itertuples():
        size, kept = str(measured_row.batch_size), content[measured_row.variant]
        runs_ns = kept["latency_ns"][size]
        if is_in_rounds(table):
            figures = figures_in_rounds([[ns / 1e6 for ns in own] for own in runs_ns], measured_row.batch_size)
        else:
            figures = figures_in_passes(runs_ns, kept["report"]["cells"][size], measured_row.batch_size)
        for figure, value in figures.items():
            if isinstance(value, float):
                assert getattr(measured_row, figure) == pytest.approx(value, rel=1e-9), figure
        assert measured_row.runs == sum(map(len, runs_ns))


RECORDED = sorted(path.name for path in (ROOT / "runs").iterdir() if path.is_dir())
SERVED_IN = [name for name in RECORDED if len(read_serving(ROOT / "runs" / name / "serving.csv"))]


@pytest.mark.parametrize("name", RECORDED)
def test_every_latency_of_the_recorded_runs_is_of_their_single_runs(name: str) -> None:
    assert RecordedRun.read(ROOT / "runs" / name).machine
    assert (ROOT / "runs" / name / "samples.json.xz").stat().st_size < 2**20
    check_figures(ROOT / "runs" / name)


@pytest.mark.parametrize("name", SERVED_IN)
def test_every_rate_of_the_recorded_runs_is_of_what_was_sent_and_answered(name: str, tmp_path: Path) -> None:
    folder = ROOT / "runs" / name
    content = unpack_samples(folder)
    served = {key: Served.model_validate(each["served"]) for key, each in content.items() if "served" in each}
    table = read_serving(folder / "serving.csv")
    if "process_per_s" in table:  # served in rounds: the figures are those of the processes' curves
        for row in table[table["status"] == "measured"].itertuples():
            found = [crossing(curve_of(each.points), row.budget_ms) for each in served[row.variant].processes]
            rates = [each.rate for each in found if each]
            assert rates == pytest.approx([float(each) for each in row.process_per_s.split()], rel=1e-5)
            assert row.requests_per_s == pytest.approx(geometric_mean(rates))
        return
    texts = {
        key: ServedText.model_validate(each["served_text"]) for key, each in content.items() if "served_text" in each
    }
    again = build_serving(params_of(RecordedRun.read(folder)), read_summary(folder / "summary.csv"), served, texts)
    write_table(again, tmp_path / "serving.csv")
    pd.testing.assert_frame_equal(read_serving(tmp_path / "serving.csv"), table, check_dtype=False, rtol=1e-9)


def test_every_figure_of_a_kept_run_can_be_recomputed_from_its_single_runs(
    kept: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert RECORDED
    assert SERVED_IN
    folder = kept.folder / "runs/first"
    check_figures(folder)
    content = unpack_samples(folder)
    monkeypatch.chdir(kept.folder)
    params = load_params()
    reports = {key: Report.model_validate(content[key]["report"]) for key in params.all_variants()}
    again = build_summary(params, reports, Recorded.read())
    write_table(again, tmp_path / "summary.csv")
    assert (tmp_path / "summary.csv").read_text() == (folder / "summary.csv").read_text()
    read = RecordedRun.read(folder)
    for name in ("p50", "mean"):
        levels = [level and level.value for level in read.table[f"{name}_level"]]
        assert levels == [level and level.value for level in again[f"{name}_level"]]
    limits = [name for name in again.columns if name.endswith(("_low_ms", "_high_ms"))]
    pd.testing.assert_frame_equal(read.table[limits], again[limits], check_dtype=False)


def test_what_a_row_sustains_over_http_is_kept_with_the_run_that_it_belongs_to(kept: Project) -> None:
    [load] = RecordedRun.read(kept.folder / "runs/first").over_http["ort_cpu_fp32"].loads
    assert load.requests_per_s == 123
    assert "Over HTTP, 1 text a request, `ort_cpu_fp32` sustains 123/s" in kept.read("runs/first/README.md")


def test_the_same_run_is_kept_in_the_same_bytes(kept: Project) -> None:
    before = {path.name: path.read_bytes() for path in (kept.folder / "runs/first").iterdir()}
    kept.script(RECORD, "first", "--replace")
    assert {path.name: path.read_bytes() for path in (kept.folder / "runs/first").iterdir()} == before


FAULTS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "an edited figure": (
        "summary.csv",
        lambda path: path.write_text(path.read_text().replace(",measured,", ",measured,1")),
    ),
    "another run's parameters": ("measured_with.json", lambda path: path.write_text(path.read_text() + "\n")),
    "an edited rate": ("serving.csv", lambda path: path.write_text(path.read_text() + "\n")),
    "a part that it has not": ("peaks.json", lambda path: path.write_text("{}")),
    "no manifest": ("run.json", lambda path: path.unlink()),
    "a missing part": ("samples.json.xz", lambda path: path.unlink()),
    "another machine": (
        "run.json",
        lambda path: path.write_text(path.read_text().replace('"machine": "', '"machine": "f')),
    ),
    "a run without its columns": ("summary.csv", lambda path: path.write_text("variant,batch_size\na,1\n")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_kept_run_whose_parts_are_not_of_it_is_refused(
    fault: str, kept: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, damage = FAULTS[fault]
    shutil.copytree(kept.folder / "runs/first", tmp_path / "first")
    damage(tmp_path / "first" / name)
    monkeypatch.chdir(kept.folder)
    with pytest.raises(DataError, match=re.escape(name)) as refused:
        RecordedRun.read(tmp_path / "first")
    assert "restore it with git, or record the run again" in str(refused.value)


HAND_MADE: dict[str, tuple[str, Callable[[str], str], str]] = {
    "no columns": ("summary.csv", lambda _text: "variant,batch_size\na,1\n", ""),
    "a text for a figure": (
        "summary.csv",
        lambda _text: "variant,runtime,device,precision,batch_size,status,p50_ms\na,b,cpu,fp32,1,measured,x\n",
        "p50_ms",
    ),
    "a figure outside its interval": (
        "summary.csv",
        lambda _text: (
            "variant,runtime,device,precision,batch_size,status,p50_ms,mean_ms,samples_per_s,runs,"
            "p50_low_ms\na,b,cpu,fp32,1,measured,1,1,1,1,2\n"
        ),
        "p50_ms",
    ),
    "no parameters": ("measured_with.json", lambda text: without(text, "params"), "params"),
    "parameters that are none": ("measured_with.json", lambda text: without(text, "params", [1, 2]), "params"),
    "another environment": ("measured_with.json", lambda text: without(text, "environment", {}), "environment.cpu"),
}
"""By fault: the part, how it comes to be, and the key that is named."""


def without(text: str, key: str, value: Any = None) -> str:
    """Return a JSON object with another value for a key, or without it."""
    content = json.loads(text)
    del content[key]
    return json.dumps(content if value is None else {**content, key: value})


@pytest.mark.parametrize("fault", HAND_MADE)
def test_a_run_made_by_hand_is_refused_with_the_key(fault: str, kept: Project, tmp_path: Path) -> None:
    name, change, key = HAND_MADE[fault]
    folder = tmp_path / "first"
    shutil.copytree(kept.folder / "runs/first", folder)
    (folder / name).write_text(change((folder / name).read_text(encoding="utf-8")), encoding="utf-8")
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["parts"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    write_json(folder / MANIFEST, {**manifest, "id": manifest_id(manifest)})
    with pytest.raises(DataError, match=rf"first/{name} is damaged \(.*{key}"):
        RecordedRun.read(folder)


def test_machines_of_one_kind_stand_with_how_far_they_differ(kept: Project) -> None:
    whole = RecordedRun.read(kept.folder / "runs/first")

    def on_another(number: int, factor: float) -> RecordedRun:
        table = whole.table.assign(p50_ms=whole.table["p50_ms"] * factor)
        return replace(whole, name=f"node-{number}", machine=str(number), table=table)

    three = [on_another(number, factor) for number, factor in enumerate((1.0, 1.1, 1.21))]
    text = render_hardware(three)
    assert "Machines of one kind (`node-0`, `node-1`, `node-2`):" in text
    expected = math.expm1(stats.t.ppf(0.975, 2) * math.log(1.1) * math.sqrt(4 / 3))
    assert f"±{expected:.1%}" in text
    same_machine = [replace(run, machine="one") for run in three]
    assert "Machines of one kind" not in render_hardware(same_machine)
    other = three[1].context.environment | {"os": "another"}
    other_driver = replace(three[1], context=replace(three[1].context, environment=other))
    assert "(`node-0`, `node-2`)" in render_hardware([three[0], other_driver, three[2]])


def test_seconds_and_peaks_of_another_machine_of_the_same_kind_are_not_this_ones(
    measured_copy: Project,
) -> None:
    machine = measured_copy.folder / "shim"
    machine.mkdir()
    (machine / "sitecustomize.py").write_text(
        "import bench.machine.environment as i\ni._system_id = lambda: 'another'\n"
    )
    ran = measured_copy.repro("summarize", environment=in_front(measured_copy, machine, measured_copy.folder))
    assert "measure_peaks" in ran
    assert not {"export_onnx", "infer@ort_cpu_fp32"} & ran
    table = read_summary(measured_copy.folder / "results/summary.csv").set_index(["variant", "batch_size"])
    assert math.isnan(table.loc[("ort_cpu_fp32", 1), "one_off_seconds"])
    assert table.loc[("torch_cpu_fp32", 1), "one_off_seconds"] == 0
    assert math.isnan(table.loc[("ort_cpu_fp32", 1), "break_even_calls"])
