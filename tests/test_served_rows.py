"""Rows under load through the front door: what `dvc repro` serves, tells, refuses and keeps."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Project, shim

from bench.core.params import load_params
from bench.serving import coordinator, group
from bench.serving.coordinator import served_report
from bench.serving.passes import LoadPasses
from bench.timing.repro import UNKNOWN, Place

KEY = "ort_cpu_fp32"


def serve(project: Project, **settings: Any) -> dict[str, str]:
    """Serve the row and write the tables, without DVC; return its line."""
    project.python("stages/serve.py", KEY, **settings)
    for stage in ("summarize", "render"):
        project.script(f"stages/{stage}.py")
    [row] = project.rows("results/serving.csv")
    return row


def changed(**settings: Any) -> Callable[[dict[str, Any]], None]:
    def change(params: dict[str, Any]) -> None:
        params["serving"].update(settings)

    return change


def test_the_first_table_says_how_many_requests_a_second_a_row_holds(measured: Project) -> None:
    [row] = measured.rows("results/serving.csv")
    assert (row["variant"], row["status"]) == (KEY, "measured")
    assert float(row["requests_per_s"]) > 0
    assert float(row["null_per_s"]) > 0
    assert float(row["mean_batch"]) >= 1
    assert int(float(row["requests"])) > 153
    titles = [line for line in measured.read("results/summary_table.md").splitlines() if line.startswith("## ")]
    assert titles[0] == "## Requests per second within the latency budget"
    metrics = json.loads(measured.read(f"metrics/variants/{KEY}.json"))
    assert metrics["requests_per_s"] == pytest.approx(float(row["requests_per_s"]), rel=5e-4)
    assert (measured.folder / "results/plots/cpu_served.png").read_bytes().startswith(b"\x89PNG")
    [found] = json.loads(measured.read("results/findings.json"))["panels"][-1]["served"]["rows"]
    assert found["variant"] == KEY
    assert found["requests_per_s"] == float(row["requests_per_s"])
    assert "requests/s" in measured.python("-m", "bench.report.terminal").stdout


def test_what_was_sent_is_kept_with_every_rate(measured: Project) -> None:
    report = json.loads(measured.read(f"artifacts/served/{KEY}.json"))
    first, *others = report["processes"]
    assert first["single_stream"]["queries"] >= 10
    assert first["offline"]["per_s"] > 0
    assert not any("offline" in each for each in others)
    points = [point for process in report["processes"] for point in process["points"]]
    for point in points:
        assert point["queries"] >= 153 or point["is_overloaded"]
        assert point["keeps"] == (not point["is_overloaded"] and point["p99_ms"] <= report["budget_ms"])
        assert 1 <= point["mean_batch"] <= report["max_batch"]
    assert report["replayed_batches"] > 0
    assert all(process["late_captures"] == 0 for process in report["processes"])
    passes = {each["number"] for each in report["session"]["passes"]}
    assert {point["number"] for point in points} <= passes


def test_the_best_row_of_a_device_is_served_from_text_too(measured: Project) -> None:
    report = json.loads(measured.read("artifacts/served_text/cpu.json"))
    assert (report["variant"], report["status"], report["input"]) == (KEY, "measured", "text")
    assert report["agreement"] == 1
    assert report["replayed_batches"] > 0
    assert [each["batch_size"] for each in report["tokenizing"]] == [1, 2]
    [row] = measured.rows("results/serving.csv")
    assert float(row["text_per_s"]) > 0
    assert 0 < float(row["tokenizing_share"]) < 1
    for name in ("results/summary_table.md", "notes/engineering_observations.md", "results/report.html"):
        assert re.search(rf"From text `?{KEY}`? sustains (at least )?[\d.]+/s", measured.read(name))
    assert f"From text {KEY} sustains" in measured.python("-m", "bench.report.terminal").stdout
    none = json.loads(measured.read("artifacts/served_text/cuda.json"))
    assert (none["status"], none["reason"]) == ("skipped", "no row sustains a rate from tokens")


def test_with_text_as_input_every_row_is_served_from_it_and_the_last_stage_says_so(measured_copy: Project) -> None:
    measured_copy.set_params(changed(input="text", tokenizer_threads=2))
    assert {f"serve@{KEY}", "serve_text@cpu"} <= measured_copy.stale()
    row = serve(measured_copy)
    assert row["status"] == "measured"
    report = json.loads(measured_copy.read(f"artifacts/served/{KEY}.json"))
    assert (report["input"], report["tokenizer_threads"]) == ("text", 2)
    measured_copy.script("stages/text_barrier.py", "cpu")
    told = measured_copy.script("stages/serve_text.py", "cpu").stdout
    assert "cpu from text: skipped: serving.input is text: every row is served from text" in told


def test_a_tokenizer_without_a_fast_form_skips_what_needs_it_with_that_reason(measured_copy: Project) -> None:
    reason = "the model's tokenizer has no fast form: SlowTokenizer is Python code"
    (measured_copy.folder / "artifacts/inputs/tokenizer.json").write_text(f"not made: {reason}\n", encoding="utf-8")
    told = measured_copy.script("stages/serve_text.py", "cpu").stdout
    assert f"{KEY} from text: skipped: {reason}" in told
    measured_copy.set_params(changed(input="text"))
    assert serve(measured_copy)["reason"] == reason


def test_only_what_tokenizes_is_stale_after_a_change_of_its_threads(measured_copy: Project) -> None:
    measured_copy.set_params(changed(tokenizer_threads=2))
    text = {"serve_text@cpu", "serve_text@cuda"}
    assert measured_copy.stale() == text | {"summarize", "render", "check_rows"}


def test_the_processes_of_a_row_take_turns(measured: Project) -> None:
    report = json.loads(measured.read(f"artifacts/served/{KEY}.json"))
    turns = {point["number"]: each["process"] for each in report["processes"] for point in each["points"]}
    assert [turns[number] for number in sorted(turns)] == [number % 2 for number in range(len(turns))]


def test_a_budget_that_no_request_can_meet_is_said_to_be_over_it_without_a_try(measured_copy: Project) -> None:
    measured_copy.set_params(changed(p99_ms={"cpu": 0.0001, "cuda": 10}))
    row = serve(measured_copy)
    assert row["status"] == "over_budget"
    assert row["reason"].startswith("holds no rate within 0.0001 ms: a request alone takes ")
    assert "misses the SLO (holds no rate within 0.0001 ms" in measured_copy.read("results/summary_table.md")
    assert "requests_per_s" not in json.loads(measured_copy.read(f"metrics/variants/{KEY}.json"))


def test_a_rate_that_would_take_too_long_is_not_tried(measured_copy: Project) -> None:
    measured_copy.set_params(changed(minutes=0.00001))
    row = serve(measured_copy)
    assert row["status"] == "skipped"
    assert "6 trials more than serving.minutes = 1e-05" in row["reason"]


def test_without_loadgen_rows_are_skipped_with_the_reason(measured_copy: Project) -> None:
    machine = shim(measured_copy, "mlcommons_loadgen.py", "raise ImportError('no wheel for this machine')\n")
    assert measured_copy.stale(environment=machine) == {f"serve@{KEY}", "summarize", "render", "check_rows"}
    row = serve(measured_copy, environment=machine)
    assert row["status"] == "skipped"
    assert row["reason"].startswith("mlcommons-loadgen is not installed; there are wheels for ")


def test_another_loadgen_serves_again_and_times_nothing(measured_copy: Project) -> None:
    machine = shim(measured_copy, "mlcommons_loadgen.py", "__version__ = '99.0'\n")
    assert measured_copy.stale(environment=machine) == {f"serve@{KEY}", "summarize", "render", "check_rows"}


def test_no_row_need_be_served(measured_copy: Project) -> None:
    measured_copy.set_params(changed(variants=[]))
    assert measured_copy.stale() == {"serve_text@cpu", "summarize", "render", "check_rows"}
    for stage in ("summarize", "render"):
        measured_copy.script(f"stages/{stage}.py")
    assert "Requests per second" not in measured_copy.read("results/summary_table.md")
    assert "requests_per_s" not in measured_copy.read(f"metrics/variants/{KEY}.json")
    assert not (measured_copy.folder / "artifacts/served" / f"{KEY}.json").exists()


def test_ctrl_c_ends_the_load_and_what_was_cut_short_is_reported_and_served_again(
    measured_copy: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = "ort_cpu_int8"
    measured_copy.set_params(changed(variants=[KEY, other], minutes=5))
    monkeypatch.chdir(measured_copy.folder)
    for name, value in measured_copy.environment.items():
        monkeypatch.setenv(name, value)
    params = load_params(Path("params.yaml"))
    monkeypatch.setattr(coordinator, "current_request", lambda: UNKNOWN)
    monkeypatch.setattr(Place, "is_due", lambda *_arguments: True)

    class Interrupted(LoadPasses):
        def _run_pass(self, number: int, began: float) -> None:
            super()._run_pass(number, began)
            if all(len(row.points) == 2 for row in self.rows.values()):
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(group, "LoadPasses", Interrupted)
    taken = served_report(other, params)
    kept = json.loads(Path(f"artifacts/rounds/serve/{KEY}.json").read_text(encoding="utf-8"))["report"]
    tried = []
    for report in (taken.as_dict(), kept):
        assert report["status"] == "measured", report["reason"]
        tried.append([point["number"] for each in report["processes"] for point in each["points"]])
        assert report["session"]["cut_short"] == "cut short by Ctrl-C"
        assert "null" not in report["session"]
    assert tried[0] == tried[1], "the pass that Ctrl-C was pressed in is the last, and whole"
    assert len(tried[0]) == 2
    for key, report in ((other, taken.as_dict()), (KEY, kept)):
        Path(f"artifacts/served/{key}.json").write_text(json.dumps(report), encoding="utf-8")
    for stage in ("summarize", "render"):
        measured_copy.script(f"stages/{stage}.py")
    served = measured_copy.rows("results/serving.csv")
    assert {row["variant"]: row["cut_short"] for row in served} == dict.fromkeys((KEY, other), "cut short by Ctrl-C")
    told = measured_copy.script("stages/check_rows.py").stdout
    assert f"cut short, and served again by the next `dvc repro`: {KEY}, {other}" in told
    assert not Path(f"artifacts/served/{KEY}.json").exists()
