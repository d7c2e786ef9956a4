"""Rows under load through the front door: what `dvc repro` serves, tells, refuses and keeps."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Project, shim
from test_faults import FAULTY

from bench.core.params import load_params
from bench.core.progress import Steps
from bench.machine.repro import UNKNOWN
from bench.serving import together
from bench.serving.rounds import ServingRounds
from bench.serving.together import served_report

KEY = "ort_cpu_fp32"


def rows(project: Project) -> dict[str, dict[str, str]]:
    table = csv.DictReader(project.read("results/serving.csv").splitlines())
    return {row["variant"]: row for row in table}


def changed(**settings: Any) -> Callable[[dict[str, Any]], None]:
    def change(params: dict[str, Any]) -> None:
        params["serving"].update(settings)

    return change


def test_the_first_table_says_how_many_requests_a_second_a_row_holds(measured: Project) -> None:
    row = rows(measured)[KEY]
    assert row["status"] == "measured"
    assert float(row["requests_per_s"]) > 0
    assert float(row["null_per_s"]) > 0
    assert float(row["mean_batch"]) >= 1
    assert int(float(row["requests"])) > 459
    titles = [line for line in measured.read("results/summary_table.md").splitlines() if line.startswith("## ")]
    assert titles[0] == "## Requests per second within the latency budget"
    metrics = json.loads(measured.read(f"metrics/serving/{KEY}.json"))
    assert metrics["status"] == "measured"
    assert metrics["requests_per_s"] == pytest.approx(float(row["requests_per_s"]))
    assert (measured.folder / "results/plots/cpu_served.png").read_bytes().startswith(b"\x89PNG")
    assert f"`{KEY}` holds " in measured.read("notes/engineering_observations.md")
    assert "requests/s" in measured.python("-m", "bench.report.terminal").stdout


def test_what_was_sent_is_kept_with_every_rate(measured: Project) -> None:
    report = json.loads(measured.read(f"artifacts/served/{KEY}.json"))
    [process] = report["processes"]
    assert process["single_stream"]["queries"] >= 10
    assert process["offline"]["per_s"] > 0
    for point in process["points"]:
        assert point["queries"] >= 459 or point["is_overloaded"]
        assert point["keeps"] == (not point["is_overloaded"] and point["p99_ms"] <= report["budget_ms"])
        assert 1 <= point["mean_batch"] <= report["max_batch"]
    assert report["replayed_batches"] > 0
    assert process["late_captures"] == 0


def test_the_price_of_an_hour_gives_the_cost_of_a_million_requests(measured_copy: Project) -> None:
    measured_copy.set_params(lambda params: params["report"].update(price_per_hour={"cpu": 3.6}))
    assert "serve@ort_cpu_fp32" not in measured_copy.repro()
    row = rows(measured_copy)[KEY]
    assert float(row["cost_per_million_requests"]) == pytest.approx(1000 / float(row["requests_per_s"]))
    assert "cost of a million" in measured_copy.read("results/summary_table.md")


def test_sessions_side_by_side_and_a_delay_are_served_and_named(measured_copy: Project) -> None:
    measured_copy.set_params(changed(instances=2, max_delay_ms=1))
    assert "serve@ort_cpu_fp32" in measured_copy.repro()
    assert rows(measured_copy)[KEY]["status"] == "measured"
    table = measured_copy.read("results/summary_table.md")
    assert "that wait up to 1 ms for more, 2 sessions side by side" in table


def test_a_budget_that_no_request_can_meet_is_said_to_be_over_it_without_a_try(measured_copy: Project) -> None:
    measured_copy.set_params(changed(p99_ms={"cpu": 0.0001, "cuda": 10}))
    measured_copy.repro()
    row = rows(measured_copy)[KEY]
    assert row["status"] == "over_budget"
    assert row["reason"].startswith("holds no rate within 0.0001 ms: a request alone takes ")
    assert "over budget (holds no rate within 0.0001 ms" in measured_copy.read("results/summary_table.md")
    assert json.loads(measured_copy.read(f"metrics/serving/{KEY}.json"))["status"] == "over_budget"


def test_a_rate_that_would_take_too_long_is_not_tried_and_the_advice_helps(measured_copy: Project) -> None:
    measured_copy.set_params(changed(max_seconds=0.001))
    measured_copy.repro()
    row = rows(measured_copy)[KEY]
    assert row["status"] == "skipped"
    assert "more than serving.max_seconds = 0.001" in row["reason"]
    measured_copy.set_params(changed(max_seconds=15))
    measured_copy.repro()
    assert rows(measured_copy)[KEY]["status"] == "measured"


def test_without_loadgen_rows_are_skipped_with_the_reason_and_timed_as_before(measured_copy: Project) -> None:
    machine = shim(measured_copy, "mlcommons_loadgen.py", "raise ImportError('no wheel for this machine')\n")
    ran = measured_copy.repro(environment=machine)
    assert ran - {"check_rows"} == {"probe", "serve@ort_cpu_fp32", "summarize", "render"}
    row = rows(measured_copy)[KEY]
    assert row["status"] == "skipped"
    assert row["reason"].startswith("mlcommons-loadgen is not installed; there are wheels for ")


def test_another_loadgen_serves_again_and_times_nothing(measured_copy: Project) -> None:
    machine = shim(measured_copy, "mlcommons_loadgen.py", "__version__ = '99.0'\n")
    ran = measured_copy.repro("serve", environment=machine)
    assert ran == {"probe", "serve@ort_cpu_fp32"}


def test_no_row_need_be_served(measured_copy: Project) -> None:
    measured_copy.set_params(changed(variants=[]))
    measured_copy.repro()
    assert "Requests per second" not in measured_copy.read("results/summary_table.md")
    assert not (measured_copy.folder / "metrics/serving" / f"{KEY}.json").exists()
    assert not (measured_copy.folder / "artifacts/served" / f"{KEY}.json").exists()
    assert measured_copy.repro() == {"probe"}


def test_rows_that_die_hang_or_answer_wrongly_under_load_are_told_and_the_others_keep_their_rates(
    measured_copy: Project,
) -> None:
    shutil.copyfile(ROOT / "tests/faulty_runtime.py", measured_copy.folder / "bench/runtimes/faulty.py")
    faults = ("none", "dies under load", "hangs under load", "wrong under load", "mixed up under load")
    keys = {f"faulty_{fault.split()[0]}": {**FAULTY, "options": {"fault": fault}} for fault in faults}

    def change(params: dict[str, Any]) -> None:
        params["variants"].update(keys)
        params["serving"].update(variants=[KEY, *keys])
        params["timing"].update(worker_limit_seconds=15.0)

    measured_copy.set_params(change)
    ended = measured_copy.dvc("repro", code=None)
    assert ended.returncode != 0
    for key in keys:
        assert json.loads(measured_copy.read(f"metrics/{key}/bs001.json"))["status"] == "measured"
    table = rows(measured_copy)
    assert table[KEY]["status"] == table["faulty_none"]["status"] == "measured"
    assert table[KEY]["session"] == table["faulty_none"]["session"]
    assert {table[key]["status"] for key in ("faulty_dies", "faulty_hangs")} == {"failed"}
    assert {table[key]["status"] for key in ("faulty_wrong", "faulty_mixed")} == {"rejected"}
    assert "relative error" in table["faulty_wrong"]["reason"]
    assert "relative error" in table["faulty_mixed"]["reason"]
    said = ended.stdout + ended.stderr
    assert "- faulty_dies under load: the worker was ended by SIGKILL" in said
    assert "the driver is about to fail" in said
    assert (
        "longer than timing.worker_limit_seconds = 15 and was ended; raise the limit, or lower serving.max_sec" in said
    )
    assert "Traceback" not in said
    assert "`faulty_wrong`" in measured_copy.read("results/summary_table.md")
    again = measured_copy.dvc("repro", code=None).stdout
    assert {key for key in table if f"serve@{key}'" in again and f"Running stage 'serve@{key}'" in again} == {
        "faulty_dies",
        "faulty_hangs",
    }


def test_an_interrupt_keeps_the_rows_whose_rounds_were_complete(
    measured_copy: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = "torch_cpu_fp32"
    measured_copy.set_params(changed(variants=[KEY, other]))
    monkeypatch.chdir(measured_copy.folder)
    for name, value in measured_copy.environment.items():
        monkeypatch.setenv(name, value)
    params = load_params(Path("params.yaml"))
    monkeypatch.setattr(together, "current_request", lambda: UNKNOWN)
    monkeypatch.setattr(together, "_is_due", lambda *_arguments: True)

    class Interrupted(ServingRounds):
        def run(self) -> Any:
            with Steps("round 1", total=1) as self.steps:
                for _key, result in self._run_round(0, [KEY]):
                    assert result.is_measured()
            raise KeyboardInterrupt

    monkeypatch.setattr(together, "ServingRounds", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        served_report(other, params)
    assert not Path(f"artifacts/rounds/serve/{other}.json").exists()
    kept = json.loads(Path(f"artifacts/rounds/serve/{KEY}.json").read_text(encoding="utf-8"))["report"]
    assert kept["status"] == "measured"
    assert kept["processes"][0]["points"]
