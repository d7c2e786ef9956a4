"""For a latency budget the report picks what was measured, fits, and is surely or possibly best."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from test_report import panel, row, settings, shown, tables

from bench.findings.build import findings_of
from bench.findings.models import Pick
from bench.report.columns import COLUMNS
from bench.report.document import plain
from bench.report.words import NEAREST, doubts

SMALL = row("ort_cuda_fp16", 1, (0.5, 0.501, 0.502), peak_gpu_mib=500.0)
LARGE = row("ort_cuda_fp16", 16, (2.0, 2.01, 2.02), peak_gpu_mib=500.0)
HUGE = row("torch_cuda_fp32", 16, (1.5, 1.51, 1.52), peak_gpu_mib=5000.0)


def pick_of(budget_ms: float, *rows: dict[str, object], **changes: object) -> Pick:
    [pick] = panel(*rows, slo_p95_ms=[budget_ms], **changes).picks
    return pick


def lines_of(budgets_ms: list[float], *rows: dict[str, object]) -> list[list[str]]:
    """Return budget, variant and remark of each line of the table of picks."""
    seen = shown(*rows)
    changed = replace(seen, findings=findings_of(tables(*rows), settings(slo_p95_ms=budgets_ms)))
    views = list(changed.picks(changed.findings.panels[0]))
    return [[plain(COLUMNS[key].write(view)) for key in ("budget", "variant", "ties")] for view in views]


def chosen(pick: Pick) -> tuple[str, int]:
    assert pick.cell is not None
    return pick.cell.variant, pick.cell.batch_size


def test_a_wider_budget_takes_the_larger_batch() -> None:
    narrow, wide = pick_of(1.0, SMALL, LARGE), pick_of(5.0, SMALL, LARGE)
    assert (chosen(narrow)[1], chosen(wide)[1]) == (1, 16)
    assert (wide.ties, wide.unknown, wide.p95_high_ms) == ([], [], 2.01)
    assert doubts(wide) == ""


def test_a_row_that_needs_too_much_memory_is_not_picked() -> None:
    assert chosen(pick_of(5.0, LARGE, HUGE))[0] == "torch_cuda_fp32"
    assert chosen(pick_of(5.0, LARGE, HUGE, max_memory_gib=4.0))[0] == "ort_cuda_fp16"


def test_rows_that_may_be_as_good_stand_with_the_pick() -> None:
    pick = pick_of(5.0, LARGE, row("torch_cuda_fp16", 16, (1.9, 2.02, 2.2), peak_gpu_mib=500.0))
    assert {chosen(pick)[0], *(tie.first for tie in pick.ties)} == {"ort_cuda_fp16", "torch_cuda_fp16"}
    assert "tied with the rows below" in plain(doubts(pick))


def test_a_tie_says_by_how_much_it_was_measured_slower() -> None:
    unsteady = row("torch_cuda_fp16", 16, (0.95, 4.0, 9.0), peak_gpu_mib=500.0)
    _, (_, variant, said) = lines_of([50.0], LARGE, unsteady)
    assert variant == "torch_cuda_fp16"
    assert re.fullmatch(r"inconclusive: differences below \d\.\d\d× cannot be told", said)


def test_rows_that_cannot_be_told_apart_do_not_fill_the_table() -> None:
    unsteady = [
        row(f"torch_cuda_fp16_{n}", 16, (0.95, 4.0 + n / 10, 9.0), peak_gpu_mib=500.0) for n in range(NEAREST + 2)
    ]
    assert len(pick_of(50.0, LARGE, *unsteady).ties) == NEAREST + 2
    pick, *ties = lines_of([50.0], LARGE, *unsteady)
    assert [tie[1] for tie in ties] == [f"torch_cuda_fp16_{n}" for n in range(NEAREST)]
    assert pick[-1] == "tied with the rows below and 2 more"


def test_budgets_with_the_same_pick_share_its_lines() -> None:
    rows = [row("ort_cuda_fp16", size, (0.5, 0.5, 0.5), p95_ms=0.6) for size in (1, 4)]
    assert [line[0] for line in lines_of([0.1, 0.2, 1.0, 5.0], *rows)] == ["0.1, 0.2 ms", "1, 5 ms"]


@pytest.mark.parametrize(("high", "text"), [(5.5, "p95 may be 5.500 ms"), (None, "p95 from few runs"), (4.5, "")])
def test_a_p95_that_may_break_the_budget_is_said(high: float | None, text: str) -> None:
    pick = pick_of(5.0, row("ort_cuda_fp16", 16, (2.0, 2.01, 2.02), p95_ms=4.0, p95_high_ms=high))
    assert pick.p95_high_ms == high
    assert doubts(pick) == text


def test_a_budget_that_no_row_meets_has_no_pick() -> None:
    assert pick_of(0.1, SMALL).cell is None
    assert lines_of([0.1, 1.0], SMALL) == [
        ["0.1 ms", "no row stays within it", "–"],
        ["1 ms", "ort_cuda_fp16", "–"],
    ]


def test_a_better_row_whose_p95_is_not_known_is_no_reason_for_a_yes() -> None:
    hidden = row("ort_cuda_fp16", 64, (4.0, 4.01, 4.02), peak_gpu_mib=500.0) | {"p95_ms": None}
    pick = pick_of(5.0, LARGE, hidden)
    assert chosen(pick)[1] == 16
    assert [(cell.variant, cell.batch_size) for cell in pick.unknown] == [("ort_cuda_fp16", 64)]
    assert plain(doubts(pick)) == "p95 or memory of ort_cuda_fp16 at batch 64 was not measured"


def test_without_a_pick_rows_of_unknown_p95_are_named() -> None:
    unknown = SMALL | {"p95_ms": None}
    assert [cell.variant for cell in pick_of(5.0, unknown).unknown] == ["ort_cuda_fp16"]
    assert lines_of([5.0], unknown) == [["5 ms", "unknown: p95 or memory of ort_cuda_fp16 was not measured", "–"]]


def test_a_better_row_whose_memory_was_not_taken_is_named_within_a_limit_of_memory() -> None:
    beside = row("torch_cuda_fp16", 16, (1.0, 1.01, 1.02))
    pick = pick_of(5.0, LARGE, beside, max_memory_gib=4.0)
    assert chosen(pick)[0] == "ort_cuda_fp16"
    assert [cell.variant for cell in pick.unknown] == ["torch_cuda_fp16"]
    assert pick_of(5.0, LARGE, beside).unknown == []
    too_slow = beside | {"p95_ms": 6.0}
    assert pick_of(5.0, LARGE, too_slow, max_memory_gib=4.0).unknown == []
