"""Rows are served in rounds of random order: who gets a process in which, and what their rates say together."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest

from bench.serving.rounds import Plan, Rounds, run_in_rounds
from bench.statistics.rounds import levels, ratio, steadied

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


def test_one_process_has_no_interval() -> None:
    one, three = levels([{0: 1.0}, {0: 1.0, 1: 2.0, 2: 3.0}])
    assert one.of_another_run() is None
    assert ratio(one, three) is None
