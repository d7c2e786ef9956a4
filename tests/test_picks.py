"""For a latency budget the report picks what was measured, fits, and is surely or possibly best."""

from __future__ import annotations

import re

import pytest
from test_report import row, settings, table

from bench.report.comparison_text import NEAREST
from bench.report.picks import Pick, pick_lines, pick_table, picks

SMALL = row("ort_cuda_fp16", 1, (0.5, 0.501, 0.502), peak_gpu_mib=500.0)
LARGE = row("ort_cuda_fp16", 16, (2.0, 2.01, 2.02), peak_gpu_mib=500.0)
HUGE = row("torch_cuda_fp32", 16, (1.5, 1.51, 1.52), peak_gpu_mib=5000.0)


def pick_of(budget_ms: float, *rows: dict[str, object], **changes: object) -> Pick | None:
    return dict(picks(table(*rows), settings(slo_p95_ms=[budget_ms], **changes)))[budget_ms]


def test_a_wider_budget_takes_the_larger_batch() -> None:
    narrow, wide = pick_of(1.0, SMALL, LARGE), pick_of(5.0, SMALL, LARGE)
    assert narrow is not None
    assert wide is not None
    assert (narrow.best.batch_size, wide.best.batch_size) == (1, 16)
    assert wide.doubts() == "yes"


def test_a_row_that_needs_too_much_memory_is_not_picked() -> None:
    free, tight = pick_of(5.0, LARGE, HUGE), pick_of(5.0, LARGE, HUGE, max_memory_gib=4.0)
    assert free is not None
    assert tight is not None
    assert free.best.variant == "torch_cuda_fp32"
    assert tight.best.variant == "ort_cuda_fp16"


def test_rows_that_are_not_significantly_different_are_listed_together() -> None:
    found = pick_of(5.0, LARGE, row("torch_cuda_fp16", 16, (1.9, 2.02, 2.2), peak_gpu_mib=500.0))
    assert found is not None
    assert {found.best.variant, *(tie.variant for tie in found.ties)} == {"ort_cuda_fp16", "torch_cuda_fp16"}
    assert "the rows below may be as good" in found.doubts()


def test_a_row_that_may_be_as_good_says_by_how_much_it_was_measured_slower() -> None:
    unsteady = row("torch_cuda_fp16", 16, (1.9, 4.0, 9.0), peak_gpu_mib=500.0)
    _, (_, tie) = pick_table(table(LARGE, unsteady), settings(slo_p95_ms=[50.0]))
    assert tie[1] == "torch_cuda_fp16"
    assert re.fullmatch(r"0\.\d+× \(0\.\d+× – \d+\.\d+×\), inconclusive", tie[-1])


def test_rows_that_cannot_be_told_apart_do_not_fill_the_table() -> None:
    unsteady = [row(f"torch_cuda_fp16_{n}", 16, (1.9, 4.0 + n, 9.0), peak_gpu_mib=500.0) for n in range(NEAREST + 2)]
    _, (pick, *ties) = pick_table(table(LARGE, *unsteady), settings(slo_p95_ms=[50.0]))
    assert [tie[1] for tie in ties] == [f"torch_cuda_fp16_{n}" for n in range(NEAREST)]
    assert pick[-1] == "the rows below may be as good; 2 slower ones cannot be told apart from it either"


def test_budgets_with_the_same_pick_share_its_lines() -> None:
    rows = table(*[row("ort_cuda_fp16", size, (0.5, 0.5, 0.5), p95_ms=0.6) for size in (1, 4)])
    _, lines = pick_table(rows, settings(slo_p95_ms=[0.1, 0.2, 1.0, 5.0]))
    assert [line[0] for line in lines] == ["0.1, 0.2 ms", "1, 5 ms"]


@pytest.mark.parametrize(("high", "text"), [(5.5, "p95 may be 5.500 ms"), (None, "p95 from few runs"), (4.5, "yes")])
def test_a_p95_that_may_break_the_budget_is_said(high: float | None, text: str) -> None:
    found = pick_of(5.0, row("ort_cuda_fp16", 16, (2.0, 2.01, 2.02), p95_ms=4.0, p95_high_ms=high))
    assert found is not None
    assert text in found.doubts()


def test_rejected_and_unmeasured_rows_are_never_in_the_tables_picks() -> None:
    lines = "\n".join(pick_lines(table(SMALL), settings(slo_p95_ms=[0.1, 1.0])))
    assert "| 0.1 ms | no row stays within it |" in lines
    assert "| 1 ms | ort_cuda_fp16 | fixed | 1 |" in lines


def test_a_better_row_whose_p95_is_not_known_is_no_reason_for_a_yes() -> None:
    hidden = row("ort_cuda_fp16", 64, (4.0, 4.01, 4.02), peak_gpu_mib=500.0) | {"p95_ms": None}
    found = pick_of(5.0, LARGE, hidden)
    assert found is not None
    assert found.best.batch_size == 16
    assert found.doubts() == "too few runs for a p95 of ort_cuda_fp16 at batch 64"
