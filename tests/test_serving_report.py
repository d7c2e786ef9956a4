"""What is said of rows under load: rates, who serves most, the generator; each comes out the other way, too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from conftest import ROOT
from test_report import row
from test_report import table as summary_table

from bench.core.errors import DataError
from bench.core.params import Params
from bench.core.reports import Served as Report
from bench.findings.assumptions import assumptions
from bench.findings.models import Served
from bench.findings.served import served
from bench.report.document import plain
from bench.report.words import serve_with
from bench.summary.serving import build_serving, compare_served, read_served, read_serving
from bench.summary.table_file import write_table

BUDGET_MS = 10.0
FIRST, SECOND = "ort_cpu_fp32", "torch_cpu_fp32"
SUMMARY = summary_table(row(FIRST, 4, (1.0, 1.1, 1.2)))
CLAIM = "The row with the most samples/s serves most requests"


def params() -> Params:
    content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    content["serving"]["variants"] = [FIRST, SECOND]
    content["report"]["price_per_hour"] = {"cpu": 3.6}
    return Params.model_validate(content)


def point(rate: float, p99_ms: float, **more: Any) -> dict[str, Any]:
    return {
        "rate": rate,
        "sent_per_s": rate,
        "keeps": p99_ms <= BUDGET_MS,
        "is_overloaded": False,
        "queries": 500,
        "late": 0 if p99_ms <= BUDGET_MS else 100,
        "p50_ms": p99_ms / 4,
        "p95_ms": p99_ms / 2,
        "p99_ms": p99_ms,
        "mean_batch": 2.0,
        "busy_share": 0.8,
        "tokens_computed": 128.0,
        **more,
    }


def around(rate: float) -> list[dict[str, Any]]:
    """Return points whose p99 is the budget at `rate`."""
    return [point(rate * 0.9, BUDGET_MS / 2), point(rate / 0.9, BUDGET_MS * 2)]


def report(rates: list[float], closed_loop_per_s: float, null_per_s: float = 1e6, **more: Any) -> dict[str, Any]:
    processes = [
        {
            "process": number,
            "points": around(rate),
            "single_stream": {**point(1.0, 2.0), "p50_ms": 1.0, "p95_ms": 1.5},
            "offline": {**point(rate, 1.0), "per_s": rate},
            "late_captures": 0,
        }
        for number, rate in enumerate(rates)
    ]
    null = {"status": "measured", "points": around(null_per_s)}
    return {
        "status": "measured",
        "processes": processes,
        "budget_ms": BUDGET_MS,
        "max_batch": 4,
        "max_delay_ms": 0,
        "instances": 1,
        "closed_loop_per_s": closed_loop_per_s,
        "session": {"id": "1.000", "seed": 1, "null": null},
        "requests": 5000,
        **more,
    }


def table(folder: Path, first: dict[str, Any], second: dict[str, Any]) -> pd.DataFrame:
    for key, content in ((FIRST, first), (SECOND, second)):
        (folder / f"{key}.json").write_text(json.dumps(content), encoding="utf-8")
    return build_serving(params(), SUMMARY, read_served([FIRST, SECOND], folder))


STEADY = [1000.0, 1010.0, 990.0, 1005.0]
HALF = [each / 2 for each in STEADY]


def seen(rows: pd.DataFrame) -> Served:
    """Return what made-up rows under load show."""
    found = served(list(rows.itertuples()), list(SUMMARY.itertuples()), {}, None)
    assert found is not None
    return found


def kinds(found: Served) -> dict[str, list[tuple[str, Any]]]:
    """Return the remarks on each row: kind and value."""
    return {row.variant: [(each.kind, each.value) for each in row.remarks] for row in found.rows}


def claimed(rows: pd.DataFrame) -> str:
    """Return the result of the assumption about samples/s."""
    results = {each.claim: each.result for each in assumptions([], list(rows.itertuples()))}
    return str(results[CLAIM])


def test_the_rate_is_the_mean_of_the_processes_with_an_interval_for_another_run(tmp_path: Path) -> None:
    rows = table(tmp_path, report(STEADY, 2000.0), report(HALF, 1000.0)).set_index("variant")
    first = rows.loc[FIRST]
    assert first.requests_per_s == pytest.approx(1001.2, rel=1e-3)
    assert first.requests_per_s_low < first.requests_per_s < first.requests_per_s_high
    assert first.closed_loop_peak_share == pytest.approx(1.0, rel=0.01)
    assert first.cost_per_million_requests == pytest.approx(1.0, rel=0.01)
    assert first.confirmed_per_s == pytest.approx(0.9 * 990, rel=0.03)


def test_the_first_row_holds_surely_more_where_processes_agree_and_not_where_they_do_not(tmp_path: Path) -> None:
    sure = table(tmp_path, report(STEADY, 2000.0), report(HALF, 1000.0))
    first, second = sure.itertuples()
    assert compare_served(first, second).verdict == "faster"
    assert [row.vs_best.verdict for row in seen(sure).rows if row.vs_best] == ["slower"]
    unsure = table(tmp_path, report([1000.0, 600.0, 1500.0], 2000.0), report([500.0, 1100.0, 800.0], 1000.0))
    first, second = unsure.itertuples()
    assert compare_served(first, second).verdict == "inconclusive"
    assert [row.vs_best.verdict for row in seen(unsure).rows if row.vs_best] == ["inconclusive"]


def test_rows_of_other_rounds_are_not_compared(tmp_path: Path) -> None:
    apart = report(HALF, 1000.0)
    apart["session"]["id"] = "2.000"
    first, second = table(tmp_path, report(STEADY, 2000.0), apart).itertuples()
    assert compare_served(first, second).reason == "served in different sessions"


def test_the_assumption_about_samples_is_refuted_and_upheld_by_the_rates(tmp_path: Path) -> None:
    refuting = table(tmp_path, report(HALF, 2000.0), report(STEADY, 1500.0))
    assert claimed(refuting) == "refuted"
    found = seen(refuting)
    assert [row.variant for row in found.rows] == [SECOND, FIRST]
    assert found.most_samples == FIRST
    assert len(list(serve_with(found))) == 2
    upholding = table(tmp_path, report(STEADY, 2000.0), report(HALF, 1500.0))
    assert claimed(upholding) == "upheld"
    assert seen(upholding).rows[0].variant == seen(upholding).most_samples
    [line] = serve_with(seen(upholding))
    assert plain(line).endswith("significantly more than any other row.")


def test_a_row_near_the_generator_ceiling_is_marked(tmp_path: Path) -> None:
    bound = table(tmp_path, report(STEADY, 2000.0, null_per_s=1100.0), report(HALF, 1000.0, null_per_s=1100.0))
    marked = {name: [kind for kind, _ in found] for name, found in kinds(seen(bound)).items()}
    assert marked == {FIRST: ["generator-bound"], SECOND: []}
    free = table(tmp_path, report(STEADY, 2000.0), report(HALF, 1000.0))
    assert kinds(seen(free)) == {FIRST: [], SECOND: []}


def test_closed_loop_peak_is_that_of_the_same_processes(tmp_path: Path) -> None:
    faster = report(STEADY, 500.0)
    for process in faster["processes"]:
        process["offline"]["per_s"] *= 1.25
    rows = table(tmp_path, faster, report(HALF, 1000.0)).set_index("variant")
    assert rows.loc[FIRST].closed_loop_peak_share == pytest.approx(0.8, rel=0.01)
    assert rows.loc[FIRST].requests_per_s > rows.loc[FIRST].closed_loop_per_s


def test_a_queue_before_a_request_alone_is_remarked() -> None:
    slow = report(STEADY, 2000.0)
    for process in slow["processes"]:
        process["single_stream"]["p50_ms"] = 3.3
    batch_1 = summary_table(row(FIRST, 1, (1.0, 1.1, 1.2)))
    served_rows = {key: Report.model_validate(each) for key, each in ((FIRST, slow), (SECOND, report(HALF, 1000.0)))}
    rows = build_serving(params(), batch_1, served_rows)
    [(kind, value)] = kinds(seen(rows))[FIRST]
    assert kind == "queue"
    assert value == pytest.approx(3.0)


def test_a_process_that_keeps_the_budget_nowhere_leaves_the_row_without_a_rate(tmp_path: Path) -> None:
    lost = report(STEADY, 2000.0)
    lost["processes"][1]["points"] = [point(300.0, 50.0), point(30.0, 11.0)]
    rows = table(tmp_path, lost, report(HALF, 1000.0)).set_index("variant")
    assert rows.loc[FIRST].status == "over_budget"
    assert rows.loc[FIRST].reason == (
        "holds no rate within 10 ms: 1 of 4 processes kept it at none that was tried, down to 30.0/s"
    )
    assert rows.loc[SECOND].status == "measured"


def test_a_budget_that_is_kept_above_a_rate_that_misses_it_is_told_with_both(tmp_path: Path) -> None:
    mixed = report(STEADY, 2000.0)
    mixed["processes"][0]["points"] = [point(2000.0, 12.0), point(4000.0, 9.0)]
    mixed["processes"][1]["points"] = [point(3000.0, 12.0)]
    mixed["processes"][2]["points"] = [point(2000.0, 50.0, is_overloaded=True), point(5000.0, 9.0)]
    reason = table(tmp_path, mixed, report(HALF, 1000.0)).set_index("variant").loc[FIRST].reason
    assert "1 of 4 processes kept it at 4000/s (p99 9.00 ms), not at 2000/s (p99 12.00 ms)" in reason
    assert "1 of 4 processes kept it at 5000/s (p99 9.00 ms), not at 2000/s (overloaded)" in reason
    assert "1 of 4 processes kept it at none that was tried, down to 3000/s" in reason


def test_a_cliff_and_rates_that_were_never_too_much_are_remarked(tmp_path: Path) -> None:
    cliff, least = report(STEADY, 2000.0), report(HALF, 1000.0)
    for process in cliff["processes"]:
        process["points"][1]["is_overloaded"] = True
    least["processes"][0]["points"].pop()
    for process in least["processes"]:
        process["late_captures"] = 2
    assert kinds(seen(table(tmp_path, cliff, least))) == {
        FIRST: [("saturates", None)],
        SECOND: [("lower bound", None), ("late captures", 2.0)],
    }


def test_the_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = table(tmp_path, report(STEADY, 2000.0), report(HALF, 1000.0))
    write_table(rows, tmp_path / "serving.csv")
    again = read_serving(tmp_path / "serving.csv")
    assert seen(again) == seen(rows)


@pytest.mark.parametrize("name", ["sent_per_s", "p99_ms", "late"])
def test_a_damaged_report_names_the_file_the_key_and_what_renews_it(name: str, tmp_path: Path) -> None:
    damaged = report(STEADY, 2000.0)
    del damaged["processes"][0]["points"][0][name]
    with pytest.raises(DataError) as raised:
        table(tmp_path, damaged, report(HALF, 1000.0))
    assert f"{FIRST}.json" in str(raised.value)
    assert name in str(raised.value)
    assert f"dvc repro -f serve@{FIRST}" in str(raised.value)
