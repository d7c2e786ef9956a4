"""A run as reports read it: its findings, beside the rows that they are of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.findings.build import findings_of, read_findings
from bench.findings.models import Cell, Findings, Panel, Pick, Served
from bench.findings.picks import memory_mib
from bench.report import sentences
from bench.report.columns import View
from bench.report.context import Context, read_context
from bench.report.figures import MISSING
from bench.summary.budgets import Tables
from bench.summary.serving import read_serving
from bench.summary.table_file import Rows, is_missing, read_summary


@dataclass(frozen=True)
class Shown:
    """`summary`, `serving`: the rows of results/summary.csv and serving.csv."""

    findings: Findings
    summary: Rows
    serving: Rows
    context: Context

    def timed(self, panel: Panel) -> list[View]:
        """Return the lines of a device's rows with times by batch size; measured before rejected, fastest first."""
        disturbed: dict[tuple[str, int], list[str]] = {}
        for each in panel.disturbances:
            disturbed.setdefault((each.variant, each.batch_size), []).append(sentences.disturbance(each))
        rows = [row for row in self.summary if row.device == panel.device and not is_missing(row.p50_ms)]
        rows.sort(key=lambda row: (row.batch_size, row.status != "measured", row.p50_ms))
        return [{**_figures(row), "disturbances": disturbed.get((row.variant, row.batch_size), ())} for row in rows]

    def fastest(self, panel: Panel) -> Iterator[View]:
        """Yield a line for the fastest cell of each batch size."""
        for each in panel.fastest:
            yield {**self.cell(each.cell), "significant": sentences.significance(each)}

    def picks(self, panel: Panel) -> Iterator[View]:
        """Yield a pick's lines once for all neighbouring budgets that share it: the pick, then the nearest ties."""
        shared: list[tuple[list[float], Pick]] = []
        for pick in panel.picks:
            if shared and _is_same(shared[-1][1], pick):
                shared[-1][0].append(pick.budget_ms)
            else:
                shared.append(([pick.budget_ms], pick))
        for budgets, pick in shared:
            named = f"{', '.join(f'{ms:g}' for ms in budgets)} ms"
            if pick.cell is None:
                yield {"budget": named, "instead": sentences.no_pick(pick)}
                continue
            yield {**self.cell(pick.cell), "budget": named, "significant": sentences.doubts(pick)}
            for tie in pick.ties[: sentences.NEAREST]:
                yield {**self.cell(tie.cell), "budget": "", "significant": sentences.comparison(tie.comparison)}

    def cell(self, cell: Cell) -> View:
        """Return the figures of a cell."""
        key = (cell.variant, cell.batch_size)
        return _figures(next(row for row in self.summary if (row.variant, row.batch_size) == key))

    def served(self, served: Served) -> list[View]:
        """Return a line for each row that sustains a rate, most requests first."""
        rows = {row.variant: row for row in self.serving}
        return [
            {
                **rows[each.variant]._asdict(),
                "memory_under_load_mib": getattr(rows[each.variant], f"{_MEMORY[rows[each.variant].device]}_mib"),
                "vs_best": sentences.comparison(each.vs_best, sentences.MORE) if each.vs_best else MISSING,
                "remarks": "; ".join(map(sentences.remark, each.remarks)) or MISSING,
            }
            for each in served.rows
        ]


_MEMORY = {"cuda": "gpu", "cpu": "host"}


def _figures(row: Any) -> dict[str, Any]:
    return {**row._asdict(), "memory_mib": memory_mib(row)}


def _is_same(first: Pick, second: Pick) -> bool:
    if first.cell is None or second.cell is None:
        return first.cell == second.cell and sentences.no_pick(first) == sentences.no_pick(second)
    is_same_choice = (first.cell, first.ties) == (second.cell, second.ties)
    return is_same_choice and sentences.doubts(first) == sentences.doubts(second)


def shown_of(tables: Tables, context: Context) -> Shown:
    """Return a run of which nothing is written yet."""
    summary, serving = (list(table.itertuples()) for table in (tables.summary, tables.serving))
    return Shown(findings_of(tables, context.settings), summary, serving, context)


def read_shown() -> Shown:
    """Read what the stages before wrote; DataError if a file is missing or damaged."""
    summary, serving = (list(table.itertuples()) for table in (read_summary(), read_serving()))
    return Shown(read_findings(), summary, serving, read_context())
