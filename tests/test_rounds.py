"""Rows are timed in rounds of random order; what one `dvc repro` times together, and what a row timed later says."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd
import pytest
from conftest import Project, shim
from test_report import row, table

from bench.core.reports import ProcessTimes, TimingSession
from bench.findings.timed import noise
from bench.summary.comparisons import compare, with_controls, with_levels
from bench.timing.repro import Request, parse
from bench.timing.rounds import Plan, Rounds, run_in_rounds

NAMES = ["a", "b", "c", "d"]


class Outcome(NamedTuple):
    """What a process came to, in which round."""

    round: int
    is_good: bool

    def is_measured(self) -> bool:
        return self.is_good


def run(plan: Plan, wide: set[str] | None = None, seconds: float = 1.0, fails: str = "") -> Rounds[Outcome]:
    """Run the rounds of a plan with processes that take `seconds` each by a clock of their own."""
    now = [0.0]

    def run_round(number: int, order: list[str]) -> Iterator[tuple[str, Outcome]]:
        for name in order:
            now[0] += seconds
            yield name, Outcome(number, name != fails or number != 1)

    return run_in_rounds(NAMES, run_round, lambda _results: sorted(wide or ()), plan, clock=lambda: now[0])


def test_every_row_gets_one_process_in_each_round() -> None:
    rounds = run(Plan(least=5, most=5, more_seconds=0, seed=1))
    assert [sorted(order) for order in rounds.order] == [NAMES] * 5
    assert [result.round for result in rounds.results["c"]] == [0, 1, 2, 3, 4]


def test_the_order_is_random_and_the_same_for_the_same_seed() -> None:
    first, again, other = (run(Plan(20, 20, 0, seed)).order for seed in (1, 1, 2))
    assert first == again
    assert first != other
    places = Counter(order.index("a") for order in run(Plan(400, 400, 0, 3)).order)
    assert all(60 < count < 140 for count in places.values())


def test_rounds_go_on_only_for_rows_that_are_still_too_wide_and_no_longer_than_allowed() -> None:
    assert [sorted(order) for order in run(Plan(3, 5, 100, 1), wide={"b"}).order][3:] == [["b"], ["b"]]
    assert len(run(Plan(3, 8, 2.0, 1), wide={"b"}).order) == 5
    assert [sorted(order) for order in run(Plan(3, 8, 3.5, 1), wide={"a", "b", "c", "d"}).order][3:] == [
        ["a", "b", "c"]
    ]
    assert len(run(Plan(3, 8, 0.5, 1), wide={"b"}).order) == 3
    assert len(run(Plan(3, 8, 100, 1)).order) == 3


def test_a_row_whose_process_failed_gets_no_further_one_and_the_others_go_on() -> None:
    rounds = run(Plan(4, 4, 0, 1), fails="b")
    assert [result.is_measured() for result in rounds.results["b"]] == [True, False]
    assert len(rounds.results["a"]) == 4


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["python", "-m", "dvc", "repro"], ((), False)),
        (["/x/.venv/bin/python", "/x/.venv/bin/dvc", "repro", "-f", "infer@a"], (("infer@a",), True)),
        (["C:\\x\\dvc.exe", "repro", "--force"], ((), True)),
        (["dvc", "repro", "render"], (("render",), False)),
        (["dvc", "repro", "--glob", "infer@*"], (("infer@*",), False)),
        (["dvc", "status"], None),
        (["git", "repro"], None),
    ],
)
def test_what_dvc_was_asked_for_is_read_from_its_command_line(words: list[str], found: Any) -> None:
    assert parse(words) == found


def test_a_repro_of_named_stages_times_no_others() -> None:
    assert Request("1").includes(["infer", "infer@a"])
    assert Request("1", ("infer@a",)).includes(["infer", "infer@a"])
    assert not Request("1", ("infer@b",)).includes(["infer", "infer@a"])
    assert Request("1", ("infer@b", "render")).includes(["infer", "infer@a"])


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("infer@*", "ab"), ("infer@a*", "a"), ("*@b", "b"), ("*infer@[ab]", "ab"), ("serve@b", "ab"), ("rend*", "ab")],
)
def test_a_repro_of_a_pattern_times_all_its_rows_together(pattern: str, expected: str) -> None:
    request = Request("1", (pattern,))
    assert "".join(key for key in "ab" if request.includes(["infer", f"infer@{key}"])) == expected


SET_CLOCK = """
import time
real, began = time.time_ns, time.time_ns()
time.time_ns = lambda: real() - 60 * (real() - began) - 3600 * 10**9
time.time = lambda: time.time_ns() / 1e9
"""


def test_a_clock_that_runs_back_changes_no_duration(measured_copy: Project) -> None:
    environment = shim(measured_copy, "sitecustomize.py", SET_CLOCK)
    measured_copy.python("stages/infer.py", "ort_cpu_fp32", environment=environment)
    report = measured_copy.report("ort_cpu_fp32")
    [first] = report["processes"]
    assert 0 < first["load_seconds"] < first["start_seconds"]
    assert first["turn_ns"][0] < first["turn_ns"][1]
    assert report["session"]["machine"] == json.loads(measured_copy.read("artifacts/machine.json"))["id"]


def test_a_row_that_is_timed_later_is_timed_beside_anchors_and_says_so(measured_copy: Project) -> None:
    before = measured_copy.report("ort_cpu_fp32")
    measured_copy.set_params(lambda params: params["quality"]["int8"].update(min_agreement=0.5))
    measured_copy.python("stages/infer.py", "ort_cpu_int8")
    measured_copy.script("stages/summarize.py")
    assert measured_copy.report("ort_cpu_fp32") == before, "a row that is not stale keeps its figures"
    session = measured_copy.report("ort_cpu_int8")["session"]
    assert session["id"] != before["session"]["id"]
    assert "ort_cpu_fp32" in session["anchors"]
    assert sorted(session["order"][0]) == ["a/a", "anchor/ort_cpu_fp32", "ort_cpu_int8"]
    summary = pd.read_csv(measured_copy.folder / "results/summary.csv").set_index(["variant", "batch_size"])
    assert summary.moved["ort_cpu_int8", 1] > 0
    assert summary.moved["ort_cpu_fp32", 1] == 0


def test_a_forced_repro_times_every_row_anew_in_the_same_rounds(measured_copy: Project) -> None:
    before = measured_copy.report("ort_cpu_fp32")["session"]["id"]
    measured_copy.repro("--force", "--single-item", "infer")
    rows = ("torch_cpu_fp32", "ort_cpu_fp32", "ort_cpu_int8")
    ids = {measured_copy.report(key)["session"]["id"] for key in rows}
    assert len(ids) == 1
    assert before not in ids


def panel(twin: list[float], session: str = "1", **changes: Any) -> pd.DataFrame:
    """Return a panel of five CPU rows in three rounds, with an A/A row."""
    rows = [
        row(name, 1, (base, base * 1.01, base * 0.99), session=session, rounds="0 1 2", **changes)
        for name, base in (("torch_cpu_fp32", 10.0), ("b_cpu_fp32", 5.0), ("c_cpu_fp32", 9.9), ("d_cpu_fp32", 20.0))
    ]
    cell = ProcessTimes(rounds=[0, 1, 2], p50_ms=twin[0], process_p50_ms=twin, process_mean_ms=twin)
    sessions = {session: TimingSession(id=session, seed=1, order=[], twin={"1": cell}, anchors={})}
    return with_controls(with_levels(table(*rows), sessions), sessions, {"cpu": "torch_cpu_fp32"}, 0.02)


def test_an_a_a_row_that_differs_from_itself_voids_every_verdict_of_its_panel() -> None:
    sound, void = panel([10.05, 10.1, 9.95]), panel([14.0, 14.1, 13.9])
    assert sound["aa_verdict"].iloc[0] != "slower"
    assert void["aa_verdict"].iloc[0] == "slower"
    for found, expected in ((sound, "faster"), (void, "inconclusive")):
        baseline, fast, *_ = found.itertuples()
        assert compare(fast, baseline).verdict == expected
    for found, is_voided in ((sound, False), (void, True)):
        seen = noise(list(found.itertuples()))
        assert seen is not None
        assert (seen.control, seen.is_voided) == ("torch_cpu_fp32", is_voided)
        assert list(seen.controls) == [1]
        assert (seen.controls[1].verdict == "slower") == is_voided


def test_rows_of_other_rounds_without_anything_timed_in_both_are_never_told_apart() -> None:
    first, second = (list(panel([10.0, 10.1, 9.9], session).itertuples()) for session in ("1", "2"))
    row_apart = second[1]._replace(moved=float("inf"))
    found = compare(row_apart, first[0])
    assert found.verdict == "inconclusive"
    assert found.reason == "different sessions, with nothing timed in both"
    assert compare(second[1]._replace(moved=0.1), first[0]).verdict == "faster"
    assert compare(second[1]._replace(moved=0.8), first[0]).verdict == "inconclusive"
