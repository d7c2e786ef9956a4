"""Intervals hold the truth as often as they promise, and verdicts follow from them."""

from __future__ import annotations

import numpy as np
import pytest

from bench.statistics.intervals import (
    Interval,
    interval,
    processes_that_would_settle,
    quantile_interval,
    ratio_interval,
    verdict,
)
from validation.interval_coverage import simulate


def test_simulated_intervals_hold_the_truth_and_equal_variants_are_not_called_different() -> None:
    found = simulate(cells=1500, processes=5)
    assert 0.93 <= found["coverage"] <= 0.97
    assert found["false_wins"] <= 0.05


def test_an_interval_is_students_on_the_logs() -> None:
    found = interval([1.0, 2.0, 4.0])
    assert found is not None
    assert found.value == pytest.approx(2.0)
    # s of the logs is log 2, and t(0.975, 2) is 4.302653 in any table.
    assert found.high == pytest.approx(2.0 * 2.0 ** (4.302653 / 3**0.5), rel=1e-5)
    assert found.low * found.high == pytest.approx(found.value**2)


def test_the_interval_of_p95_lies_between_two_runs_and_needs_enough_of_them() -> None:
    assert quantile_interval(list(range(1, 60)), 0.95) is None
    found = quantile_interval(list(range(1, 1001)), 0.95)
    assert found is not None
    # Binomial(1000, 0.95): 950 ± 1.96 * 6.9
    assert found.low == pytest.approx(936, abs=1)
    assert found.high == pytest.approx(964, abs=1)


def test_simulated_p95_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(0)
    truth = float(np.exp(1.6448536))
    found = [quantile_interval(np.exp(rng.standard_normal(200)).tolist(), 0.95) for _ in range(1000)]
    held = [cell is not None and cell.low <= truth <= cell.high for cell in found]
    assert 0.93 <= np.mean(held) <= 0.985


def test_one_process_has_no_interval_and_no_verdict() -> None:
    assert interval([1.0]) is None
    assert ratio_interval([1.0], [1.0, 2.0]) is None
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


def test_a_ratio_is_the_first_over_the_second_and_turns_over_with_them() -> None:
    forth, back = ratio_interval([10.0, 10.2], [5.0, 5.1]), ratio_interval([5.0, 5.1], [10.0, 10.2])
    assert forth is not None
    assert back is not None
    assert forth.value == pytest.approx(2.0)
    assert back.low == pytest.approx(1 / forth.high)
    assert back.high == pytest.approx(1 / forth.low)


def test_more_processes_settle_what_few_cannot() -> None:
    over, under = [10.0, 10.6, 11.2], [9.0, 9.7, 10.3]
    assert verdict(ratio_interval(over, under), 0.02) == "inconclusive"
    enough = processes_that_would_settle(over, under, 0.02)
    assert enough is not None
    assert enough > 3
    assert processes_that_would_settle([10.0, 10.001], [9.999, 10.0], margin=0.02) == 2
