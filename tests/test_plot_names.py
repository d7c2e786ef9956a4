"""Names beside the ends of lines: readable, and all of them there."""

from __future__ import annotations

from itertools import combinations

import pandas as pd
import pytest

from bench.report.plots.style import (
    height_for_names,
    label_ends,
    legend_below,
    log_ticks,
    new_figure,
    set_batch_axis,
    spread_out,
    variant_styles,
)

GAP = 1.1


@pytest.mark.parametrize("heights", [[1.0, 1.01, 1.02], [9.8, 9.9, 9.95, 10.0], [5.0] * 6, [1.0, 9.99, 9.995]])
def test_names_never_touch_and_never_leave_the_picture(heights: list[float]) -> None:
    placed = spread_out(sorted(heights), GAP, top=10.0)
    assert max(placed) <= 10.0
    assert all(second / first >= GAP * 0.999 for first, second in combinations(placed, 2))


def test_names_far_apart_stay_at_their_lines() -> None:
    assert spread_out([2.0, 4.0], GAP, top=10.0) == [2.0, 4.0]


@pytest.mark.parametrize(
    ("low", "high"), [(9.0, 11.0), (0.3, 4.0), (0.5, 90.0), (1.0, 9e3), (2e-4, 5e5), (1e-6, 1e12), (1.2, 1.3)]
)
def test_a_logarithmic_axis_has_numbers_and_not_more_than_can_be_read(low: float, high: float) -> None:
    ticks = log_ticks(low, high)
    assert len(ticks) <= 10
    assert all(low <= tick <= high for tick in ticks)
    assert len(ticks) >= 2 or high / low < 2


def test_thirty_rows_have_thirty_looks() -> None:
    styles = variant_styles(pd.DataFrame({"variant": [f"row_{number}" for number in range(30)]}))
    assert len({tuple(style.values()) for style in styles.values()}) == 30


@pytest.mark.parametrize("count", [4, 17, 40])
def test_a_legend_stays_in_the_picture_and_leaves_the_lines_their_room(count: int) -> None:
    figure, panels = new_figure()
    axes = panels[0, 0]
    for number in range(count):
        axes.plot([1, 2], [1, 2], label=f"a_variant_with_quite_a_long_name_{number}")
    legend_below(figure, axes)
    figure.canvas.draw()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    assert axes.get_window_extent().height > 200


@pytest.mark.parametrize("count", [5, 17, 40])
def test_every_name_beside_a_line_is_in_the_picture(count: int) -> None:
    figure, panels = new_figure(height_inches=height_for_names(count))
    axes = panels[0, 0]
    ends = [(10.0 ** (number % 6), f"row_{number}", "black") for number in range(count)]
    axes.plot([1] * count, [y for y, _, _ in ends])
    set_batch_axis(axes, [1, 2], "p50 (ms)")
    label_ends(axes, 2, ends)
    figure.canvas.draw()
    for text in axes.texts:
        box = text.get_window_extent()
        assert box.y0 >= 0
        assert box.y1 <= figure.bbox.height
