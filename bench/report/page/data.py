"""What the page knows: answers for every budget, every row in words, and the head, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.findings.models import Alternative, Budget, Panel, Served
from bench.report.columns import View, columns_of
from bench.report.context import Context
from bench.report.document import plain
from bench.report.figures import between, mebibytes, per_second
from bench.report.sentences import most_requests
from bench.report.shown import Shown
from bench.summary.table_file import is_missing

Data = dict[str, Any]
PROOFS = {
    "D": "ran on the device",
    "W": "weights of the type",
    "K": "kernels computed in the precision",
}
"""What the letters of the column `proof` stand for."""


def answers(served: Served | None) -> Data | None:
    """Return a device's budgets, and for each of these the rows that sustain a rate, most requests first.

    A row has its rate with interval, memory, loss of accuracy and cost, and `fewer`: the rows that surely sustain fewer
    requests than it does.  `text`: what the report says of all of them.
    """
    if served is None or not served.budgets:
        return None
    return {"configured_ms": served.budget_ms, "steps": [_step(budget) for budget in served.budgets]}


def _step(budget: Budget) -> Data:
    first = budget.rows[0] if budget.rows else None
    ties = [row.variant for row in budget.rows[1:] if first and row.variant not in first.fewer]
    said = most_requests([(row.variant, row.requests_per_s) for row in budget.rows], ties, budget.budget_ms)
    return {"budget_ms": budget.budget_ms, "rows": [_entry(row) for row in budget.rows], "text": plain(said)}


def _entry(row: Alternative) -> Data:
    return {
        "row": row.variant,
        "padding": row.padding,
        "per_s": row.requests_per_s,
        "rate": per_second(row.requests_per_s),
        "interval": between(per_second, row.low, row.high),
        "low": row.low,
        "high": row.high,
        "is_least": row.is_lower_bound,
        "memory_mib": row.memory_mib,
        "memory": mebibytes(row.memory_mib),
        "loss": row.accuracy_loss,
        "cost": row.cost_per_million_requests,
        "fewer": row.fewer,
    }


def table_of(shown: Shown, panel: Panel) -> Data:
    """Return a device's rows as the report's table writes them, with what they are filtered by."""
    timed = shown.timed(panel)
    columns = columns_of("rows", timed)
    lines = []
    for view in timed:
        proof = proof_text(view)
        cells = [proof if key == "proof" else plain(column.write(view)) for key, column in columns.items()]
        lines.append({"cells": cells, "runtime": view["runtime"], "precision": view["precision"]})
    return {"columns": [column.heading for column in columns.values()], "rows": lines}


def proof_text(view: View) -> str:
    """Return a row's proof in words."""
    letters = "" if is_missing(view["proof"]) else str(view["proof"])
    seen = [text for letter, text in PROOFS.items() if letter in letters]
    device = "GPU" if view["device"] == "cuda" else "CPU"
    return f"{device}, {view['precision']}: " + "; ".join(seen) if seen else "nothing of it was proved"


def head(context: Context) -> list[str]:
    """Return the lines on model, machine and versions."""
    return [f"Model: {context.model()}", *context.hardware_lines()]


def quote(panels: Sequence[Panel], context: Context) -> str:
    """Return how to quote the run: what the first row of each device sustains, on what, with which versions."""
    parts = []
    for panel in panels:
        budgets = panel.served.budgets if panel.served else []
        for budget in budgets:
            if panel.served and budget.budget_ms == panel.served.budget_ms and budget.rows:
                first, hardware = _entry(budget.rows[0]), context.device(panel.device).split(", driver")[0]
                rate = f"{first['rate']} requests/s ({first['interval']})"
                parts.append(f"{first['row']} sustains {rate} with p99 within {budget.budget_ms:g} ms on {hardware}")
    return f"{'; '.join(parts) or 'No row was served'}. {context.model()}. {context.libraries()}."
