"""For each latency budget: the row with the most throughput whose p95 stays within it, and how significant that is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pandas as pd

from bench.core.params import ReportSettings
from bench.report.comparison_text import NEAREST, comparison_text
from bench.report.fastest import padding_of
from bench.report.figures import (
    MISSING,
    mebibytes,
    milliseconds,
    per_second,
    three_digits,
    with_interval,
)
from bench.report.markdown import table_lines
from bench.summary.comparisons import compare, not_surely_slower
from bench.summary.table_file import is_missing

COLUMNS = (
    "p95 within",
    "pick",
    "padding",
    "batch",
    "samples/s",
    "p95 ms, 95% interval",
    "memory",
    "mJ/sample",
    "significant?",
)
LEFT_ALIGNED = ("pick", "padding", "significant?")


@dataclass(frozen=True)
class Pick:
    """The best row for a budget, and those without a significant difference in throughput."""

    budget_ms: float
    best: Any
    ties: list[Any]
    unknown: Sequence[Any] = ()
    """Rows with more throughput that may fit as well: their p50 does, their p95 is not known."""

    def doubts(self) -> str:
        """Say whether another choice could be as good, and whether p95 surely stays within the budget."""
        doubts = []
        if self.ties:
            doubts.append("the rows below may be as good")
        more = len(self.ties) - NEAREST
        if more > 0:
            doubts.append(f"{more} slower {'one' if more == 1 else 'ones'} cannot be told apart from it either")
        if is_missing(self.best.p95_high_ms):
            doubts.append("p95 from few runs")
        elif self.best.p95_high_ms > self.budget_ms:
            doubts.append(f"p95 may be {milliseconds(self.best.p95_high_ms)} ms")
        if self.unknown:
            names = ", ".join(f"{row.variant} at batch {row.batch_size}" for row in self.unknown)
            doubts.append(f"too few runs for a p95 of {names}")
        return "; ".join(doubts) or "yes"


def picks(rows: pd.DataFrame, settings: ReportSettings) -> Iterator[tuple[float, Pick | None]]:
    """Yield each budget with its pick, None where no row is known to fit; `rows` are one device's measured rows.

    A row counts if its p95 is known and within the budget and its memory within `max_memory_gib`.
    """
    fitting = rows[[memory_fits(row, settings.max_memory_gib) for row in rows.itertuples()]]
    for budget_ms in settings.slo_p95_ms:
        within = fitting[fitting["p95_ms"] <= budget_ms].sort_values("samples_per_s", ascending=False)
        ordered = list(within.itertuples())
        if not ordered:
            yield budget_ms, None
            continue
        best = ordered[0]
        ties = not_surely_slower(best, ordered[1:], "throughput")
        hidden = fitting[
            fitting["p95_ms"].isna()
            & (fitting["p50_ms"] <= budget_ms)
            & (fitting["samples_per_s"] > best.samples_per_s)
        ]
        yield budget_ms, Pick(budget_ms, best, ties, list(hidden.itertuples()))


def unknown(rows: pd.DataFrame, budget_ms: float, settings: ReportSettings) -> list[str]:
    """Return the variants that might stay within a budget, but whose p95 or memory this run does not know."""
    found = [
        str(row.variant)
        for row in rows.itertuples()
        if (is_missing(row.p95_ms) and row.p50_ms <= budget_ms)
        or (settings.max_memory_gib is not None and is_missing(memory_mib(row)))
    ]
    return list(dict.fromkeys(found))


def memory_mib(row: Any) -> Any:
    """Return the memory that a row is judged by: the GPU's for GPU rows, else the host's."""
    return row.peak_gpu_mib if row.device == "cuda" else row.peak_host_mib


def memory_fits(row: Any, limit_gib: float | None) -> bool:
    """Tell whether a row's memory is within the limit; unknown memory fits only where there is none."""
    if limit_gib is None:
        return True
    used = memory_mib(row)
    return not is_missing(used) and bool(used <= limit_gib * 1024)


def pick_table(rows: pd.DataFrame, settings: ReportSettings) -> tuple[list[str], list[list[str]]]:
    """Return the names of the columns that have something to say, and a line for each pick and each row that ties."""
    lines = list(_lines(rows, settings))
    shown = [place for place in range(len(COLUMNS)) if any(line[place] != MISSING for line in lines)]
    return [COLUMNS[place] for place in shown], [[line[place] for place in shown] for line in lines]


def _lines(rows: pd.DataFrame, settings: ReportSettings) -> Iterator[list[str]]:
    """Yield a pick's lines once for all neighbouring budgets that share it."""
    entries = ((budget_ms, pick, unknown(rows, budget_ms, settings)) for budget_ms, pick in picks(rows, settings))
    for lines, same in groupby(entries, key=lambda entry: _pick_lines(*entry[1:])):
        budgets = ", ".join(f"{entry[0]:g}" for entry in same)
        yield [f"{budgets} ms", *lines[0]]
        yield from (["", *line] for line in lines[1:])


def _pick_lines(pick: Pick | None, unknown_variants: list[str]) -> list[list[str]]:
    if pick is None:
        why = (
            f"unknown: too few runs for {', '.join(unknown_variants)}" if unknown_variants else "no row stays within it"
        )
        return [[why, *[MISSING] * (len(COLUMNS) - 2)]]
    ties = [[*_figures(row), comparison_text(compare(row, pick.best, "throughput"))] for row in pick.ties[:NEAREST]]
    return [[*_figures(pick.best), pick.doubts()], *ties]


def _figures(row: Any) -> list[str]:
    return [
        str(row.variant),
        padding_of(row),
        str(row.batch_size),
        per_second(row.samples_per_s),
        with_interval(milliseconds, row.p95_ms, row.p95_low_ms, row.p95_high_ms),
        mebibytes(memory_mib(row)),
        three_digits(row.gross_energy_mj_per_sample),
    ]


def pick_lines(rows: pd.DataFrame, settings: ReportSettings) -> Iterator[str]:
    """Yield the picks as a Markdown table; nothing without measured rows."""
    if rows.empty:
        return
    limit = "" if settings.max_memory_gib is None else f", memory within {settings.max_memory_gib:g} GiB"
    yield f"For a latency budget{limit}:"
    yield ""
    names, lines = pick_table(rows, settings)
    yield from table_lines(names, LEFT_ALIGNED, lines)
