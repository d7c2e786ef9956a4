"""What is said of rows under load: rates, who serves most, the generator; each comes out the other way, too."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import geometric_mean
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
from bench.core.reports import ServedText
from bench.findings.assumptions import claims
from bench.findings.models import Served
from bench.findings.served import over_http as summed
from bench.findings.served import served
from bench.report.document import plain
from bench.report.words import MORE, over_http, searched, serve_with
from bench.runs.recorded_runs import RecordedRun
from bench.serving import from_text as text_stage
from bench.statistics.served_together import proved_settings
from bench.summary.over_http import HttpLoad, ServedHttp, Used
from bench.summary.serving import build_serving, compare_served, read_served, read_serving, with_rates
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


def around(rates: list[float], steep: float = 2.0) -> list[dict[str, Any]]:
    """Return trials of two processes in turn, each two of one of which straddle a rate: p99 is the budget there."""
    edge = geometric_mean(rates)
    met, missed = edge / 1.05, edge * 1.05
    points = []
    for number, rate in enumerate(rates):
        is_met = number // 2 % 2
        own = point(met if is_met else missed, BUDGET_MS / steep if is_met else BUDGET_MS * steep)
        points.append({**own, "sent_per_s": own["rate"] * rate / edge, "number": number + 1})
    return points


def report(rates: list[float], closed_loop_per_s: float, null_per_s: float = 1e6, **more: Any) -> dict[str, Any]:
    points = around(rates)
    ends = {
        "single_stream": {**point(1.0, 2.0), "p50_ms": 1.0, "p95_ms": 1.5},
        "offline": {**point(rates[0], 1.0), "per_s": geometric_mean(rates)},
    }
    processes = [
        {"process": turn, "points": points[turn::2], "late_captures": 0, **(ends if turn == 0 else {})}
        for turn in range(2)
    ]
    null = {"status": "measured", "points": around([null_per_s] * 4)}
    condition = {"seconds": 1.0, "other_load_cores": 0.0, "quota_throttled_seconds": 0.0, "host_loop_ms": 1.0}
    passes = [{"number": each["number"], **condition} for each in points]
    return {
        "status": "measured",
        "processes": processes,
        "budget_ms": BUDGET_MS,
        "max_batch": 4,
        "max_delay_ms": 0,
        "instances": 1,
        "closed_loop_per_s": closed_loop_per_s,
        "session": {"id": "1.000", "seed": 1, "null": null, "passes": passes},
        "requests": 5000,
        **more,
    }


def trials(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the trials of a report in their order, to be changed."""
    found = [each for process in content["processes"] for each in process["points"]]
    return sorted(found, key=lambda each: int(each["number"]))


def table(folder: Path, first: dict[str, Any], second: dict[str, Any]) -> pd.DataFrame:
    for key, content in ((FIRST, first), (SECOND, second)):
        (folder / f"{key}.json").write_text(json.dumps(content), encoding="utf-8")
    return build_serving(params(), SUMMARY, read_served([FIRST, SECOND], folder), {})


STEADY = [1000.0, 1010.0, 990.0, 1005.0, 995.0, 1008.0, 992.0, 1000.0, 1004.0, 997.0, 1003.0, 996.0]
HALF = [each / 2 for each in STEADY]
RESTLESS = [1000.0, 990.0, 600.0, 610.0, 1500.0, 1480.0, 700.0, 690.0, 1400.0, 1420.0, 800.0, 810.0]


def seen(rows: pd.DataFrame) -> Served:
    """Return what made-up rows under load show."""
    found = served(list(rows.itertuples()), list(SUMMARY.itertuples()), {}, None, {})
    assert found is not None
    return found


def kinds(found: Served) -> dict[str, list[tuple[str, Any]]]:
    """Return the remarks on each row: kind and value."""
    return {row.variant: [(each.kind, each.value) for each in row.remarks] for row in found.rows}


def claimed(rows: pd.DataFrame) -> str:
    """Return the result of the assumption about samples/s."""
    results = {each.claim: each.result for each in claims("cpu", [], list(rows.itertuples()))}
    return str(results[CLAIM])


def test_the_rate_is_the_mean_of_what_trials_straddle_with_an_interval_for_another_run(tmp_path: Path) -> None:
    rows = table(tmp_path, report(STEADY, 2000.0), report(HALF, 1000.0)).set_index("variant")
    first = rows.loc[FIRST]
    assert first.estimates == len(STEADY) - 2
    assert first.requests_per_s == pytest.approx(1000, rel=5e-3)
    assert first.requests_per_s_low < first.requests_per_s < first.requests_per_s_high
    assert first.closed_loop_peak_share == pytest.approx(1.0, rel=0.01)
    assert first.cost_per_million_requests == pytest.approx(1.0, rel=0.01)
    assert first.confirmed_per_s == pytest.approx(1000 / 1.05, rel=0.02)


def test_the_first_row_holds_surely_more_where_passes_agree_and_not_where_they_do_not(tmp_path: Path) -> None:
    sure = table(tmp_path, report(STEADY, 2000.0), report(HALF, 1000.0))
    first, second = sure.itertuples()
    assert compare_served(first, second).verdict == "faster"
    assert compare_served(first, second).value == pytest.approx(2.0, rel=0.01)
    assert [row.vs_best.verdict for row in seen(sure).rows if row.vs_best] == ["slower"]
    unsure = table(tmp_path, report(RESTLESS, 2000.0), report([each * 0.8 for each in reversed(RESTLESS)], 1000.0))
    first, second = unsure.itertuples()
    assert compare_served(first, second).verdict == "inconclusive"
    assert [row.vs_best.verdict for row in seen(unsure).rows if row.vs_best] == ["inconclusive"]


def test_what_a_whole_pass_met_does_not_count_against_a_ratio(tmp_path: Path) -> None:
    half = [each / 2 for each in RESTLESS]
    first, second = table(tmp_path, report(RESTLESS, 2000.0), report(half, 1000.0)).itertuples()
    assert compare_served(first, second).verdict == "faster"


def test_a_row_of_few_trials_has_a_rate_and_no_interval(tmp_path: Path) -> None:
    first, second = table(tmp_path, report(STEADY[:5], 2000.0), report(HALF, 1000.0)).itertuples()
    assert first.requests_per_s == pytest.approx(1000, rel=0.02)
    assert pd.isna(first.requests_per_s_low)
    assert compare_served(first, second).reason == "too few trials"


def test_a_row_whose_trials_straddle_nothing_has_the_rate_of_its_curve(tmp_path: Path) -> None:
    wide = report(STEADY, 2000.0)
    for number, each in enumerate(trials(wide)):
        each.update(point(500.0, 2.5) if number % 2 else point(2000.0, 40.0), number=number + 1)
    row = table(tmp_path, wide, report(HALF, 1000.0)).set_index("variant").loc[FIRST]
    assert row.estimates == 0
    assert row.requests_per_s == pytest.approx(1000, rel=0.01)


def test_rows_that_were_served_in_rounds_keep_their_figures_and_are_not_compared() -> None:
    kept = RecordedRun.read(ROOT / "runs/h100-minilm-tensorrt")
    first, second, *_ = sorted(kept.serving[kept.serving["status"] == "measured"].itertuples(), key=_per_s)
    assert first.requests_per_s_low < first.requests_per_s < first.requests_per_s_high
    found = compare_served(first, second)
    assert (found.verdict, found.reason) == ("inconclusive", "served in rounds, by an earlier version")


def _per_s(row: Any) -> float:
    return -float(row.requests_per_s)


def test_rows_of_other_passes_are_not_compared(tmp_path: Path) -> None:
    apart = report(HALF, 1000.0)
    apart["session"]["id"] = "2.000"
    first, second = table(tmp_path, report(STEADY, 2000.0), apart).itertuples()
    assert compare_served(first, second).reason == "served in different sessions"


def test_the_assumption_about_samples_is_refuted_and_upheld_by_the_rates(tmp_path: Path) -> None:
    refuting = table(tmp_path, report(HALF, 2000.0), report(STEADY, 1500.0))
    assert claimed(refuting) == "refuted"
    found = seen(refuting)
    assert [row.variant for row in found.rows] == [SECOND, FIRST]
    upholding = table(tmp_path, report(STEADY, 2000.0), report(HALF, 1500.0))
    assert claimed(upholding) == "upheld"
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
    faster["processes"][0]["offline"]["per_s"] *= 1.25
    rows = table(tmp_path, faster, report(HALF, 1000.0)).set_index("variant")
    assert rows.loc[FIRST].closed_loop_peak_share == pytest.approx(0.8, rel=0.01)
    assert rows.loc[FIRST].requests_per_s > rows.loc[FIRST].closed_loop_per_s


def test_a_queue_before_a_request_alone_is_remarked() -> None:
    slow = report(STEADY, 2000.0)
    slow["processes"][0]["single_stream"]["p50_ms"] = 3.3
    batch_1 = summary_table(row(FIRST, 1, (1.0, 1.1, 1.2)))
    served_rows = {key: Report.model_validate(each) for key, each in ((FIRST, slow), (SECOND, report(HALF, 1000.0)))}
    rows = build_serving(params(), batch_1, served_rows, {})
    [(kind, value)] = kinds(seen(rows))[FIRST]
    assert kind == "queue"
    assert value == pytest.approx(3.0)


def test_a_row_that_meets_the_budget_nowhere_says_down_to_which_rate_it_was_tried(tmp_path: Path) -> None:
    lost = report(STEADY[:2], 2000.0)
    for each, (rate, p99_ms) in zip(trials(lost), ((300.0, 50.0), (30.0, 11.0)), strict=True):
        each.update(point(rate, p99_ms))
    rows = table(tmp_path, lost, report(HALF, 1000.0)).set_index("variant")
    assert rows.loc[FIRST].status == "over_budget"
    assert rows.loc[FIRST].reason == "holds no rate within 10 ms: the lowest rate that was tried, 30.0/s, p99 11.00 ms"
    assert rows.loc[SECOND].status == "measured"


@pytest.mark.parametrize(("more", "seen_there"), [({}, "p99 12.00 ms"), ({"is_overloaded": True}, "overloaded")])
def test_a_budget_that_is_kept_above_a_rate_that_misses_it_is_not_kept(
    more: dict[str, Any], seen_there: str, tmp_path: Path
) -> None:
    mixed = report(STEADY[:2], 2000.0)
    low, high = trials(mixed)
    low.update(point(2000.0, 12.0, **more))
    high.update(point(4000.0, 9.0))
    reason = table(tmp_path, mixed, report(HALF, 1000.0)).set_index("variant").loc[FIRST].reason
    assert reason == f"holds no rate within 10 ms: the lowest rate that was tried, 2000/s, {seen_there}"


def test_a_cliff_an_early_end_and_rates_never_too_much_are_remarked(tmp_path: Path) -> None:
    cliff, least = report(STEADY, 2000.0), report(HALF, 1000.0)
    least["session"]["cut_short"] = "cut short by Ctrl-C"
    for each in trials(cliff):
        each["is_overloaded"] = not each["keeps"]
    for process in least["processes"]:
        process["late_captures"] = 2
    for number, each in enumerate(trials(least)):
        each.update(point(500.0 * 1.1**number, 5.0))
    assert kinds(seen(table(tmp_path, cliff, least))) == {
        SECOND: [("cut short", "cut short by Ctrl-C"), ("lower bound", None), ("late captures", 2.0)],
        FIRST: [("saturates", None)],
    }


def test_the_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = table(tmp_path, report(STEADY, 2000.0), report(HALF, 1000.0))
    write_table(rows, tmp_path / "serving.csv")
    served_rows = read_served([FIRST, SECOND], tmp_path)
    again = with_rates(read_serving(tmp_path / "serving.csv"), served_rows, 0.02)
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


def text_table(per_s: list[float], one_thread_ms: float, ms: float) -> pd.DataFrame:
    """Return rows of which the first was served from text; its calls take 1 ms at each batch size."""
    at = [{"batch_size": size, "one_thread_ms": size * one_thread_ms, "ms": size * ms} for size in (1, 4)]
    more: dict[str, Any] = {
        "variant": FIRST,
        "tokens_session": "1.000",
        "tokens_per_s": 1000.0,
        "input": "text",
        "tokenizer_threads": 2,
        "tokenizing": at,
    }
    cells = summary_table(row(FIRST, 1, (1.0, 1.0, 1.0)), row(FIRST, 4, (1.0, 1.0, 1.0)))
    of_tokens = {
        FIRST: Report.model_validate(report(STEADY, 2000.0)),
        SECOND: Report.model_validate(report(HALF, 500.0)),
    }
    return build_serving(params(), cells, of_tokens, {FIRST: ServedText.model_validate(report(per_s, 2000.0, **more))})


def test_a_tokenizer_that_keeps_up_is_no_bottleneck_and_costs_nothing() -> None:
    rows = text_table(STEADY, 0.002, 0.001)
    assert rows["text_per_s"][0] == pytest.approx(1000, rel=5e-3)
    assert rows["text_per_s"].isna().tolist() == [False, True]
    *_, line = serve_with(seen(rows))
    assert plain(line) == (
        f"From text {FIRST} sustains 1000/s, 100% of its rate from tokens. "
        "Tokenizing takes 0.1% of a call in the smallest batch, 0.4% in the largest. "
        "The tokenizer by itself is no bottleneck: 1000000 texts/s on 2 threads."
    )


def test_a_tokenizer_that_is_slower_than_the_row_is_the_bottleneck_until_it_has_cores() -> None:
    rows = text_table(HALF, 4.0, 2.0)
    *_, line = serve_with(seen(rows))
    assert plain(line) == (
        f"From text {FIRST} sustains 500/s, 50% of its rate from tokens. "
        "Tokenizing takes 67% of a call in the smallest batch, 89% in the largest. "
        "The tokenizer is the bottleneck, 500 texts/s on 2 threads; from 4 cores on it is not."
    )


def test_a_row_that_could_not_be_served_from_text_says_why() -> None:
    skipped = {
        "status": "skipped",
        "reason": "the model's tokenizer has no fast form",
        "processes": [],
        "variant": FIRST,
    }
    limits = {
        "budget_ms": BUDGET_MS,
        "max_batch": 4,
        "max_delay_ms": 0,
        "instances": 1,
        "tokens_session": "1.000",
        "tokenizer_threads": 1,
    }
    of_tokens = {
        FIRST: Report.model_validate(report(STEADY, 2000.0)),
        SECOND: Report.model_validate(report(HALF, 500.0)),
    }
    rows = build_serving(params(), SUMMARY, of_tokens, {FIRST: ServedText.model_validate(skipped | limits)})
    *_, line = serve_with(seen(rows))
    assert line == f"From text `{FIRST}` was not served: the model's tokenizer has no fast form."


def test_what_a_row_did_from_text_in_an_earlier_session_is_not_told_of_this_one() -> None:
    of_tokens = {key: Report.model_validate(report(own, 2000.0)) for key, own in ((FIRST, STEADY), (SECOND, HALF))}
    earlier = ServedText.model_validate(report(STEADY, 2000.0, variant=FIRST, tokens_session="0.500"))
    assert build_serving(params(), SUMMARY, of_tokens, {FIRST: earlier})["text_per_s"].isna().all()


def test_a_rate_from_text_that_was_never_too_much_is_a_lower_bound() -> None:
    met = report(STEADY[:4], 2000.0, variant=FIRST, tokens_session="1.000", tokenizer_threads=1)
    for each in trials(met):
        each.update(point(900.0, 5.0))
    of_tokens = {key: Report.model_validate(report(own, 2000.0)) for key, own in ((FIRST, STEADY), (SECOND, HALF))}
    rows = build_serving(params(), SUMMARY, of_tokens, {FIRST: ServedText.model_validate(met)})
    *_, line = serve_with(seen(rows))
    assert line == f"From text `{FIRST}` sustains at least 900/s, 90% of its rate from tokens."


USED = Used(busy_share=0.5, mean_batch=2.0, server_cores=1.25, client_cores=0.5)


@pytest.mark.parametrize(
    ("load", "line"),
    [
        (
            HttpLoad(texts=1, requests_per_s=900.0, control_per_s=4000.0, used=USED, points=[]),
            "Over HTTP, 1 text a request, `row` sustains 900/s, 90% of its rate from text; in the measuring process "
            "1000/s from text, 2000/s from tokens. Sessions are busy 50% of the time; the server takes 1.2 cores, load "
            "generator and client 0.5. A server that computes nothing sustains 4000/s.",
        ),
        (
            HttpLoad(texts=16, requests_per_s=50.0, control_per_s=60.0, points=[]),
            "Over HTTP, 16 texts a request, `row` sustains 50.0/s (800 texts/s), 80% of its rate from text; in the "
            "measuring process 1000/s from text, 2000/s from tokens. A server that computes nothing sustains 60.0/s. "
            "Above 80% of it the client may be the limit: client-bound.",
        ),
        (
            HttpLoad(texts=16, reason="a request alone takes more than 5 ms", points=[]),
            "Over HTTP, 16 texts a request, `row` sustains no rate: a request alone takes more than 5 ms.",
        ),
    ],
)
def test_a_row_over_http_stands_beside_the_measuring_process_and_the_control(load: HttpLoad, line: str) -> None:
    report = ServedHttp(variant="row", digest="", budget_ms=5, tokens_per_s=2000.0, text_per_s=1000.0, loads=[load])
    assert list(over_http(summed(report))) == [line]


OWN = {"in_flight": 1, "max_batch": 4, "instances": 1, "cpu_threads": 2}
BETTER = {**OWN, "in_flight": 2}


def with_search(factor: float, **more: Any) -> dict[str, Any]:
    """Return a report of a row whose searched settings sustain a multiple of what its own do, in the same passes."""
    content = report(STEADY, 2000.0)
    better = report([factor * rate for rate in STEADY], 2000.0)["processes"]
    for process in better:
        process.pop("offline", None)
        process.pop("single_stream", None)
    trials = [
        {"settings": OWN, "rate": 900.0, "p99_ms": 5.0, "keeps": True},
        {"settings": OWN, "rate": 1100.0, "p99_ms": 15.0},
        {"settings": BETTER, "rate": 1100.0, "p99_ms": 9.0, "keeps": True},
        {"settings": {**OWN, "instances": 2, "cpu_threads": 1}, "reason": "no memory for a process of its own"},
    ]
    search = {"trials": trials, "ended": "the time was over", "settings": BETTER, "processes": better, **more}
    return {**content, "search": search}


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [(1.3, "faster"), (0.8, "slower"), (1.0, "inconclusive")],
)
def test_searched_settings_are_told_with_an_interval_against_the_rows_own(
    factor: float, verdict: str, tmp_path: Path
) -> None:
    rows = table(tmp_path, with_search(factor), report(HALF, 500.0))
    found = rows[rows["variant"] == FIRST].iloc[0]
    assert found["searched_per_s"] == pytest.approx(factor * found["requests_per_s"], rel=1e-3)
    assert found["searched_per_s_low"] < found["searched_per_s"] < found["searched_per_s_high"]
    assert found["searched_settings"] == "batches of at most 4, 2 in flight, 1 session, 2 threads"
    assert found["searched_verdict"] == verdict
    assert rows[rows["variant"] == SECOND]["searched_verdict"].isna().all()
    [told] = seen(rows).searched
    assert told.gain
    assert told.gain.value == pytest.approx(factor, rel=1e-3)
    text = searched(told)
    assert text.startswith(f"`{FIRST}` with batches of at most 4, 2 in flight, 1 session, 2 threads: ")
    assert f"), {MORE[verdict]}" in text
    assert text.endswith(" (the time was over).")
    assert (text in serve_with(seen(rows))) == (verdict == "faster")
    assert told.tried == 3
    write_table(rows, tmp_path / "serving.csv")
    assert "search" not in read_serving(tmp_path / "serving.csv").columns


def test_settings_that_gave_nothing_in_the_passes_are_inconclusive_and_prove_nothing(tmp_path: Path) -> None:
    contents = {FIRST: with_search(1.3, processes=[], reason="it ended"), SECOND: report(HALF, 500.0)}
    rows = table(tmp_path, *contents.values())
    assert rows[rows["variant"] == FIRST].iloc[0]["searched_verdict"] == "inconclusive"
    [told] = seen(rows).searched
    assert searched(told).endswith(": no rate (it ended) (the time was over).")
    assert proved_settings({key: Report.model_validate(each) for key, each in contents.items()}, 0.02) == {}
    none = with_search(1.3, settings=None, processes=[])
    [told] = seen(table(tmp_path, none, report(HALF, 500.0))).searched
    assert searched(told) == f"`{FIRST}`: no better settings found (the time was over)."
    none["search"] = {"ended": "not searched: the time was over"}
    [told] = seen(table(tmp_path, none, report(HALF, 500.0))).searched
    assert searched(told) == f"`{FIRST}`: not searched: the time was over."


@pytest.mark.parametrize(("factor", "wins"), [(3.0, SECOND), (1.0, FIRST), (0.5, FIRST)])
def test_the_row_that_is_served_from_text_is_the_best_with_what_is_proved(
    factor: float, wins: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = report(HALF, 500.0)
    slow["search"] = with_search(factor / 2)["search"]
    monkeypatch.setattr(text_stage, "SERVED", tmp_path)
    monkeypatch.setattr(text_stage, "read_environment", lambda: {"versions": {}})
    monkeypatch.setattr(text_stage, "code_of", lambda _stage: {})
    for key, content in ((FIRST, report(STEADY, 2000.0)), (SECOND, slow)):
        (tmp_path / f"{key}.json").write_text(json.dumps(content), encoding="utf-8")
    best = text_stage.best_row("cpu", params())
    assert best["variant"] == wins
    assert best["settings"] == (BETTER if wins == SECOND else {})
    assert best["requests_per_s"] == pytest.approx(1500 if wins == SECOND else 1000, rel=0.01)
