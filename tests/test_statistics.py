"""Verdicts hold in a second run, and find what is there."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from bench.statistics.intervals import Interval, verdict
from bench.statistics.rounds import levels, ratio, steadied
from bench.summary.comparisons import compare, with_levels
from bench.summary.serving import read_serving
from bench.summary.table_file import read_summary
from validation.repeatability import held, held_under_load, is_good
from validation.verdicts_on_equal_rows import WORLDS, holds, simulate


@pytest.mark.parametrize("world", WORLDS)
def test_equal_rows_are_not_called_different_and_a_faster_one_is_found(world: str) -> None:
    assert holds(world, simulate(world, tables=40, most=6))


def test_a_level_is_the_geometric_mean_and_the_interval_students_on_the_logs() -> None:
    [level] = levels([{0: 1.0, 1: 2.0, 2: 4.0}])
    assert level.value == pytest.approx(2.0)
    # s of the logs is log 2, and t(0.975, 2) is 4.302653 in any table.
    assert level.half_width() == pytest.approx(4.302653 * math.log(2) / math.sqrt(3), rel=1e-5)


def test_another_run_varies_as_this_one_did() -> None:
    [level] = levels([{0: 1.0, 1: 2.0, 2: 4.0}])
    found = level.of_another_run()
    assert found is not None
    assert math.log(found.high / found.value) == pytest.approx(math.sqrt(2) * level.half_width())
    assert found.low * found.high == pytest.approx(found.value**2)


def test_what_moves_all_rows_of_a_round_does_not_count_against_their_ratios() -> None:
    states = {0: 1.0, 1: 1.3, 2: 0.8, 3: 1.1}
    rows = [
        {number: base * state * jitter for number, state in states.items()}
        for base, jitter in ((1.0, 1.0), (2.0, 1.0), (3.0, 1.0), (4.0, 1.0), (5.0, 1.0))
    ]
    found = levels(rows)
    exact = ratio(found[1], found[0], comparisons=100)
    assert exact is not None
    assert exact.low == pytest.approx(2.0, rel=1e-3)
    assert exact.high == pytest.approx(2.0, rel=1e-3)
    promised = found[0].of_another_run()
    assert promised is not None
    assert promised.high / promised.value > 1.3


def test_rows_of_other_rounds_are_less_surely_different() -> None:
    rng = np.random.default_rng(0)
    states = rng.normal(0, 0.1, 8)
    noise = rng.normal(0, 0.01, (5, 8))
    logs = noise + states
    together = levels([{r: math.exp(logs[row, r]) for r in range(4)} for row in range(5)])
    mixed = levels([{r: math.exp(logs[row, r]) for r in (range(4) if row else range(4, 8))} for row in range(5)])
    same, apart = ratio(together[0], together[1]), ratio(mixed[0], mixed[1])
    assert same is not None
    assert apart is not None
    assert apart.high / apart.low > same.high / same.low


def test_a_pair_that_was_timed_apart_is_wider_by_how_far_the_machine_moved() -> None:
    first, second = levels([{0: 1.0, 1: 1.01, 2: 0.99}, {0: 2.0, 1: 2.02, 2: 1.98}])
    plain, moved = ratio(second, first), ratio(second, first, moved=math.log(1.5))
    assert plain is not None
    assert moved is not None
    assert moved.high == pytest.approx(plain.high * 1.5)
    assert moved.low == pytest.approx(plain.low / 1.5)


def test_more_comparisons_need_more_certainty() -> None:
    rows = levels([{0: 1.0, 1: 1.02, 2: 0.99}, {0: 1.1, 1: 1.12, 2: 1.09}])
    one, many = ratio(rows[1], rows[0]), ratio(rows[1], rows[0], comparisons=200)
    assert one is not None
    assert many is not None
    assert many.low < one.low


def test_a_variance_from_few_values_is_steadied_by_its_neighbours() -> None:
    rng = np.random.default_rng(1)
    variances = [float(np.var(rng.normal(0, 0.02, 3), ddof=1)) for _ in range(40)]
    found = steadied(variances, [2.0] * 40)
    spread = np.std(np.log([variance for variance, _ in found]))
    assert spread < np.std(np.log(variances)) / 2
    assert all(freedom > 10 for _, freedom in found)


def test_unlike_neighbours_do_not_lend_their_variance() -> None:
    rng = np.random.default_rng(2)
    scales = [0.001, 0.2] * 20
    variances = [float(np.var(rng.normal(0, scale, 6), ddof=1)) for scale in scales]
    found = steadied(variances, [5.0] * 40)
    assert max(variance for variance, _ in found[::2]) < min(variance for variance, _ in found[1::2])


def test_one_process_has_no_interval_and_no_verdict() -> None:
    one, three = levels([{0: 1.0}, {0: 1.0, 1: 2.0, 2: 3.0}])
    assert one.of_another_run() is None
    assert ratio(one, three) is None
    assert verdict(None, 0.02) == "inconclusive"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1.05, 1.2, "faster"),
        (0.8, 0.9, "slower"),
        (0.99, 1.01, "tie"),
        (1.005, 1.015, "tie"),
        (0.95, 1.2, "inconclusive"),
        (1.01, 1.2, "inconclusive"),
    ],
)
def test_a_verdict_needs_the_whole_interval(low: float, high: float, expected: str) -> None:
    assert verdict(Interval((low * high) ** 0.5, low, high), margin=0.02) == expected


TWO_RUNS = (
    ROOT / "tests/data/h100_3_processes.csv",
    ROOT / "tests/data/h100_5_processes.csv",
)
"""Two runs of one H100, timed one variant after another by an earlier version of this project."""
CELL = ["variant", "batch_size"]
ANCHORS = {"cuda": ("torch_cuda_fp32", "ort_cuda_fp16_graph"), "cpu": ("torch_cpu_fp32", "ort_cpu_int8")}


def test_two_recorded_runs_of_one_machine_are_not_called_faster_or_slower_than_themselves() -> None:
    tables = (read_summary(path).assign(session=str(path), rounds=None) for path in TWO_RUNS)
    first, second = (with_levels(table, {}).set_index(CELL, drop=False) for table in tables)
    both = [key for key in first.index if {first.status[key], second.status[key]} == {"measured"}]
    assert len(both) == 48
    said = [as_two_sessions(first.loc[key], second.loc[key], first, second) for key in both]
    assert sum(verdict in ("faster", "slower") for verdict in said) <= 0.05 * len(said)


def as_two_sessions(row: pd.Series, again: pd.Series, first: pd.DataFrame, second: pd.DataFrame) -> str:
    """Return the verdict on a row against itself in another run, with the machine's move seen through two anchors."""
    keys = [(variant, row.batch_size) for variant in ANCHORS[row.device]]
    moved = max(abs(math.log(second.p50_ms[key] / first.p50_ms[key])) for key in keys)
    pairs = int(row.device == "cuda") * 28 * 4 + int(row.device == "cpu") * 6 * 4
    shared = {"comparisons": pairs, "voided": False, "noise_floor": 0.0, "margin": 0.02}
    ours = row.to_dict() | shared | {"moved": moved}
    theirs = again.to_dict() | shared | {"moved": 0.0}
    [one, other] = pd.DataFrame([ours, theirs]).itertuples()
    return compare(one, other).verdict


def test_a_pair_of_rows_that_a_second_run_turns_round_is_counted() -> None:
    tables = (read_summary(ROOT / f"tests/data/cpu2_{which}_run.csv") for which in ("first", "second"))
    first, second = (rows[(rows["device"] == "cpu") & (rows["status"] == "measured")] for rows in tables)
    assert held(first, second)["turned_round"] == 0
    names = {"ort_cpu_fp32": "ort_cpu_int8", "ort_cpu_int8": "ort_cpu_fp32"}
    swapped = second.assign(variant=second["variant"].replace(names))
    assert held(first, swapped)["turned_round"] >= second["batch_size"].nunique()


def test_rates_hold_in_the_same_run_and_not_with_rows_swapped() -> None:
    table = read_serving(ROOT / "runs/h100-served/serving.csv")
    rows = table[table["status"] == "measured"]
    again = held_under_load(rows, rows)
    assert again["pairs_faster_or_slower"] == again["the_same_again"] > 0
    assert is_good(again)
    first, *_, last = rows["variant"]
    swapped = rows.assign(variant=rows["variant"].replace({first: last, last: first}))
    assert held_under_load(rows, swapped)["turned_round"] > 0
    assert not is_good(held_under_load(rows, swapped))
