"""Names beside the ends of lines: readable, and all of them there."""

from __future__ import annotations

from itertools import combinations

import pytest

from bench.report.plots.style import spread_out

GAP = 1.1


@pytest.mark.parametrize("heights", [[1.0, 1.01, 1.02], [9.8, 9.9, 9.95, 10.0], [5.0] * 6, [1.0, 9.99, 9.995]])
def test_names_never_touch_and_never_leave_the_picture(heights: list[float]) -> None:
    placed = spread_out(sorted(heights), GAP, top=10.0)
    assert max(placed) <= 10.0
    assert all(second / first >= GAP * 0.999 for first, second in combinations(placed, 2))


def test_names_far_apart_stay_at_their_lines() -> None:
    assert spread_out([2.0, 4.0], GAP, top=10.0) == [2.0, 4.0]
