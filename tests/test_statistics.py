"""Figures, intervals and verdicts of rows that were timed in passes, and the checks of them that validation/ holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from numpy.typing import NDArray
from scipy import stats
from test_passes import panel

from bench.statistics import decisions
from bench.statistics.blocks import Blocks, Estimate, Panel, estimate, inflation, pool_processes, summed
from bench.statistics.decisions import AT_A_LOOK, AT_THE_END, Family, decide
from bench.statistics.intervals import Interval, t_quantile, verdict
from bench.statistics.shrinkage import prior
from bench.summary.serving import read_serving
from validation.repeatability import held, held_under_load, is_good


def blocks(*processes: Sequence[float]) -> Blocks:
    """Return what each process gave, one value a pass, from pass 0 on."""
    return {number: dict(enumerate(own)) for number, own in enumerate(processes)}


def exponentials(logs: NDArray[np.float64]) -> list[float]:
    return [float(each) for each in np.exp(logs)]


def test_a_host_of_two_states_flips_a_pooled_median_and_not_the_level() -> None:
    often, seldom = ([1.0, 1.7] * 9 + [last, last] for last in (1.7, 1.0))
    assert np.median(often) / np.median(seldom) == pytest.approx(1.7)
    levels = [Panel([blocks(series)]).levels()[0].value for series in (often, seldom)]
    assert levels == pytest.approx([1.7**0.55, 1.7**0.45])
    assert levels[0] / levels[1] < 1.06


def test_a_pass_counts_once_however_many_processes_ran_in_it() -> None:
    [level] = Panel([{0: {0: 1.0, 1: 4.0}, 1: {1: 1.0}}]).levels()
    assert level.value == pytest.approx(math.sqrt(1.0 * 2.0))


def test_a_sum_of_variances_has_the_degrees_of_welch_and_satterthwaite() -> None:
    random = np.random.default_rng(0)
    first, second = random.normal(1.0, 0.1, 7), random.normal(0.9, 0.4, 12)
    parts = [(float(np.var(own, ddof=1)) / len(own), len(own) - 1.0) for own in (first, second)]
    found = summed(float(first.mean() - second.mean()), parts)
    wanted = stats.ttest_ind(first, second, equal_var=False)
    assert found.freedom == pytest.approx(wanted.df)
    low, high = wanted.confidence_interval(0.95)
    assert _log_limits(found) == pytest.approx([low, high])


def _log_limits(found: Estimate) -> list[float]:
    interval = found.interval()
    assert interval
    return [math.log(interval.low), math.log(interval.high)]


def test_a_thousandfold_either_way_is_no_interval() -> None:
    found = Estimate(0.5, variance=1.0, freedom=5.0)
    assert found.interval(1)
    assert found.interval(200) is None


def test_two_rows_alone_have_students_interval_of_pairs() -> None:
    logs = np.array([[0.1, -0.1, 0.12, -0.08, 0.1, -0.11], [0.5, 0.6, 0.51, 0.58, 0.52, 0.61]])
    panel = Panel([blocks(exponentials(row)) for row in logs])
    found = panel.compared(1, 0)
    assert found is not None
    assert panel.inflation == 1.0, "neighbours that differ more than others make nothing surer"
    low, high = stats.ttest_rel(logs[1], logs[0]).confidence_interval(0.95)
    assert _log_limits(found) == pytest.approx([low, high])
    assert found.half_width(100) == pytest.approx((high - low) / 2 * stats.t.ppf(1 - 2.5e-4, 5) / stats.t.ppf(0.975, 5))


def test_neighbours_have_yuens_interval_of_the_trimmed_mean_whatever_others_do() -> None:
    random = np.random.default_rng(0)
    logs, noisy = 0.01 * random.standard_t(2, (2, 20)), random.normal(0.0, 1.0, (2, 20))
    panel = Panel([blocks(exponentials(row)) for row in (*logs, *noisy)], neighbours={(0, 1)})
    found = panel.compared(1, 0)
    assert found is not None
    wanted = stats.ttest_ind(logs[1] - logs[0], np.zeros(20), equal_var=False, trim=0.2)
    assert found.value == pytest.approx(stats.trim_mean(logs[1] - logs[0], 0.2))
    assert found.value / wanted.statistic == pytest.approx(math.sqrt(found.variance / panel.inflation))
    assert found.freedom == pytest.approx((wanted.df + 1) / panel.inflation - 1)


def test_neighbours_that_one_block_disturbs_are_no_rows_that_jump() -> None:
    steady, disturbed = Panel([blocks([1.0] * 8), blocks([1.0] * 7 + [10.0])], neighbours={(0, 1)}).levels()
    found = estimate(steady, disturbed)
    assert found
    assert found.value == 0.0


def test_rows_of_few_common_passes_are_two_samples() -> None:
    random = np.random.default_rng(0)
    first, second = random.normal(1.0, 0.1, 5), random.normal(0.2, 0.3, 6)
    passes = ([0, 1, 2, 3, 4], [3, 4, 5, 6, 7, 8])
    rows = [
        {0: dict(zip(own, exponentials(logs), strict=True))} for own, logs in zip(passes, (first, second), strict=True)
    ]
    found = Panel(rows).compared(0, 1)
    assert found is not None
    wanted = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    assert _log_limits(found) == pytest.approx([wanted.low, wanted.high])
    assert Panel([{0: dict.fromkeys(range(3), 1.0)}, rows[1]]).compared(0, 1) is None


def test_what_a_pass_does_to_all_rows_does_not_count_against_their_ratios() -> None:
    states = np.random.default_rng(0).normal(0.0, 0.3, 8)
    panel = Panel([blocks(exponentials(states + base)) for base in (0.0, 0.5, 0.7)])
    exact = panel.compared(1, 0)
    assert exact is not None
    assert exact.value == pytest.approx(0.5)
    assert exact.half_width(100) < 1e-4
    promised = panel.levels()[0].of_another_run()
    assert promised is not None
    assert promised.high / promised.value > 1.3, "another run may meet another state"


def test_neighbours_that_are_alike_count_for_less() -> None:
    random = np.random.default_rng(0)
    steps, series = random.normal(size=(40, 300)), np.zeros((40, 300))
    for number in range(1, 300):
        series[:, number] = 0.6 * series[:, number - 1] + steps[:, number]
    # Of an autoregressive series the variance of the mean is (1 + 0.6) / (1 - 0.6) = 4 times as large.
    assert inflation([*series]) == pytest.approx(4.0, rel=0.15)
    assert inflation([*steps]) == pytest.approx(1.0, abs=0.1)
    assert inflation([]) == inflation([np.ones(5)]) == 1.0


def test_variances_are_shrunk_by_as_much_as_they_are_alike() -> None:
    random = np.random.default_rng(0)
    true = 0.02**2 * 8 / random.chisquare(8, 4000)
    found = prior([*(true * random.chisquare(5, 4000) / 5)], [5.0] * 4000)
    assert found is not None
    assert found[0] == pytest.approx(0.02**2, rel=0.05)
    assert found[1] == pytest.approx(8.0, rel=0.15)
    alike = prior([*(random.chisquare(5, 40) / 5)], [5.0] * 40)
    assert alike is not None
    assert alike[1] > 20
    assert prior([1.0, 2.0], [3.0, 3.0]) is None


TINY = np.array([1e-6, -1e-6] * 4)


def offset(*processes: float) -> Blocks:
    """Return blocks of processes whose logarithms are these, all but without noise."""
    return blocks(*(exponentials(log + TINY * (1 + number)) for number, log in enumerate(processes)))


def filled_up(variance: float, freedom: float) -> Any:
    """Return the variance between processes, and its degrees of freedom, with the four of 2%."""
    return pytest.approx(((4 * 0.02**2 + freedom * variance) / (4 + freedom), 4 + freedom), rel=1e-3)


def between_processes(panel: Panel, twins: tuple[int, int] | None) -> tuple[float, float]:
    pool_processes([panel], [twins])
    return panel.process_variance, panel.process_freedom


def test_the_variance_between_processes_is_that_of_all_processes_of_a_variant() -> None:
    assert between_processes(Panel([offset(0.0), offset(0.04)]), (0, 1)) == filled_up(0.04**2 / 2, 1.0)
    three = Panel([offset(0.0, 0.01, 0.05), offset(1.0)])
    assert between_processes(three, None) == filled_up(float(np.var([0.0, 0.01, 0.05], ddof=1)), 2.0)
    both = Panel([offset(0.0, 0.02), offset(0.04, 0.01), offset(1.0, 1.01)])
    of_twins = float(np.var([0.0, 0.02, 0.04, 0.01], ddof=1))
    assert between_processes(both, (0, 1)) == filled_up((3 * of_twins + 0.01**2 / 2) / 4, 4.0)


def test_a_run_that_knows_its_processes_needs_no_usual_variance() -> None:
    alike = Panel([offset(0.0, 0.001, 0.002) for _ in range(8)])
    assert between_processes(alike, None) == pytest.approx((0.001**2, 16.0), rel=1e-2)
    apart = Panel([offset(0.0, 0.1, 0.2) for _ in range(40)])
    variance, freedom = between_processes(apart, None)
    assert variance == pytest.approx(0.1**2, rel=0.06), "what is usual hardly weighs"
    assert freedom > 79


def test_all_batch_sizes_of_a_device_are_the_same_processes() -> None:
    panels = [Panel([offset(0.0), offset(log), offset(1.0)]) for log in (0.03, 0.05)]
    pool_processes(panels, [(0, 1), (0, 1)])
    for each in panels:
        assert (each.process_variance, each.process_freedom) == filled_up((0.03**2 + 0.05**2) / 4, 1.0)


def test_no_interval_leaves_out_what_belongs_to_a_process() -> None:
    panel = Panel([offset(0.0), offset(0.04), offset(1.0, 1.02)])
    pool_processes([panel], [(0, 1)])
    found, level = panel.compared(2, 0), panel.levels()[2]
    assert found is not None
    p2 = (4 * 0.02**2 + 2 * (0.04**2 / 2 + 0.02**2 / 2) / 2) / 6
    assert found.variance == pytest.approx(p2 * (1 + 1 / 2), rel=1e-3)
    assert found.freedom == pytest.approx(6.0, rel=1e-3)
    promised = level.of_another_run()
    assert promised is not None
    assert math.log(promised.high / promised.value) == pytest.approx(t_quantile(6.0) * math.sqrt(p2), rel=1e-3)


def test_processes_with_too_few_passes_together_say_nothing() -> None:
    panel = Panel([{0: dict.fromkeys(range(8), 1.0), 1: dict.fromkeys(range(6, 8), 2.0)}, offset(0.0)])
    pool_processes([panel], [None])
    assert panel.process_variance == 0


def test_intervals_hold_what_they_promise() -> None:
    random = np.random.default_rng(0)
    inside = kept = total = cells = 0
    for _ in range(150):
        truth = random.normal(0.0, 0.3, 6)
        first, second = (_drawn(random, truth) for _ in range(2))
        for a, b in ((0, 1), (2, 3), (4, 5)):
            found = first.compared(a, b)
            assert found is not None
            inside += abs(found.value - (truth[a] - truth[b])) <= found.half_width()
            total += 1
        for one, other in zip(first.levels(), second.levels(), strict=True):
            promised = one.of_another_run()
            assert promised is not None
            kept += promised.low <= other.value <= promised.high
            cells += 1
    assert 0.92 <= inside / total <= 0.985
    assert kept / cells >= 0.93


def _drawn(random: np.random.Generator, truth: NDArray[np.float64]) -> Panel:
    """Return twelve passes of six rows of two processes each: noise 5%, processes 3%, states of the host 10%."""
    states = random.normal(0.0, 0.1, 12)
    logs = truth[:, None, None] + random.normal(0.0, 0.03, (6, 2, 1)) + random.normal(0.0, 0.05, (6, 2, 12)) + states
    panel = Panel([blocks(*map(exponentials, row)) for row in logs])
    pool_processes([panel], [None])
    return panel


def test_a_row_that_jumps_has_no_interval_and_is_compared_with_nothing() -> None:
    steady, jumps = Panel([blocks([1.0] * 8), blocks([1.0] * 7 + [10.0])]).levels()
    assert (steady.is_unstable, jumps.is_unstable) == (False, True)
    assert jumps.of_another_run() is None
    assert estimate(steady, jumps) is None


def test_few_passes_have_no_interval_and_no_verdict() -> None:
    first, second = Panel([blocks([1.0, 1.1, 1.0]), blocks([2.0, 2.1, 2.2])]).levels()
    assert first.of_another_run() is None
    assert estimate(first, second) is None
    assert verdict(None, 0.02) == "inconclusive"


def test_rows_of_two_sessions_are_compared_through_the_row_that_was_timed_in_both() -> None:
    random = np.random.default_rng(0)
    logs = random.normal(0.0, 0.02, (4, 8)) + np.array([[0.0], [0.5], [0.3], [1.0]])
    panels = [
        Panel([blocks(exponentials(row)) for row in pair], 0, session)
        for pair, session in ((logs[:2], "1"), (logs[2:], "2"))
    ]
    found = estimate(panels[0].levels()[1], panels[1].levels()[1])
    assert found is not None
    steps = logs[1] - logs[0], logs[3] - logs[2]
    assert found.value == pytest.approx(float(steps[0].mean() - steps[1].mean()))
    parts = [panel.compared(1, 0) for panel in panels]
    assert all(parts)
    assert found.variance == pytest.approx(sum(part.variance for part in parts if part))


def test_two_batch_sizes_of_a_session_are_compared_pass_by_pass() -> None:
    states = np.random.default_rng(0).normal(0.0, 0.2, 8)
    small, large = (Panel([blocks(exponentials(states + TINY + log))], session="1").levels()[0] for log in (0.0, 0.7))
    found = estimate(large, small)
    assert found is not None
    assert found.value == pytest.approx(0.7)
    assert found.half_width() < 1e-3


MARGIN = 0.02
LIMIT = math.log1p(MARGIN)


def decided(
    monkeypatch: pytest.MonkeyPatch, values: Mapping[tuple[int, int], float], asked: set[tuple[int, int]], sharing: int
) -> tuple[int, Any]:
    """Decide a family of rows whose pairs have these logarithms of first over second, all with a deviation of 1%."""
    rows = 1 + max(second for _, second in values)

    def known(over: int, under: int) -> Estimate:
        return Estimate(values[under, over], 0.01**2, 1e9)

    monkeypatch.setattr(decisions, "estimate", known)
    family: Any = Family(range(rows), frozenset(asked))  # type: ignore[arg-type]
    shared, [found] = decide([family], MARGIN, sharing)
    return shared, found


def test_decided_pairs_leave_their_error_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    # Of three pairs at the end each has 0.05 / 6 (z = 2.638); once two are decided, the last has 0.05 / 2 (z = 2.241).
    values = {(0, 1): 0.10, (0, 2): LIMIT + 0.0244, (1, 2): -0.0552}
    shared, found = decided(monkeypatch, values, {(0, 2)}, AT_THE_END)
    assert shared == 2
    assert found.verdicts == {(0, 1): "faster", (0, 2): "faster", (1, 2): "slower"}
    assert found.open == {}
    shared, found = decided(monkeypatch, values | {(0, 2): LIMIT + 0.0214}, {(0, 2)}, AT_THE_END)
    assert (shared, found.verdicts[0, 2]) == (2, "inconclusive")
    assert found.open == {(0, 2): pytest.approx(2.2414 * 0.01, rel=1e-4)}


def test_a_look_has_a_twentieth_of_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    shared, found = decided(monkeypatch, {(0, 1): LIMIT + 0.0296}, {(0, 1)}, AT_A_LOOK)
    assert (shared, found.verdicts[0, 1]) == (20, "inconclusive")
    # z of 0.05 / 20, two-sided, is 3.0233
    assert decided(monkeypatch, {(0, 1): LIMIT + 0.0304}, {(0, 1)}, AT_A_LOOK)[1].verdicts[0, 1] == "faster"


def test_two_beaten_rows_share_no_error_unless_somebody_asks_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {(0, 1): 0.3, (0, 2): 0.32, (1, 2): 0.02}
    shared, found = decided(monkeypatch, values, set(), AT_THE_END)
    assert (shared, found.verdicts[1, 2], found.open) == (6, "inconclusive", {})
    shared, found = decided(monkeypatch, values, {(1, 2)}, AT_THE_END)
    assert (shared, list(found.open)) == (2, [(1, 2)])


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


def test_a_pair_of_rows_that_a_second_run_turns_round_is_counted() -> None:
    rows = panel(10.05)
    again = held(rows, rows)
    assert (again["cells"], again["pairs"], again["turned_round"]) == (4, 6, 0)
    assert again["the_same_again"] == again["pairs_faster_or_slower"] == 5
    assert again["in_the_interval_for_another_run"]["p50"] == {"known": 4, "inside": 4}
    assert is_good(again)
    names = {"b_cpu_fp32": "d_cpu_fp32", "d_cpu_fp32": "b_cpu_fp32"}
    swapped = held(rows, rows.assign(variant=rows["variant"].replace(names)))
    assert swapped["turned_round"] == 5
    assert swapped["in_the_interval_for_another_run"]["p50"] == {"known": 4, "inside": 2}
    assert not is_good(swapped)


def test_rates_hold_in_the_same_run() -> None:
    table = read_serving(ROOT / "runs/h100-minilm-tensorrt/serving.csv")
    rows = table[table["status"] == "measured"]
    again = held_under_load(rows, rows)
    assert is_good(again)
    assert again["pairs_faster_or_slower"] == 0, "served in rounds, by an earlier version: nothing is decided"
