"""What the page knows: answers for every budget, every row in words, and the head, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from bench.report.context import Context
from bench.report.figures import between, mebibytes, per_second
from bench.report.serving import memory_under_load_mib, pick_lines
from bench.report.table import COLUMNS, in_order, shown_columns
from bench.summary.budgets import Curves, budgets_around, within_budgets
from bench.summary.serving import compare_served, cost_of_a_million
from bench.summary.table_file import is_missing

Data = dict[str, Any]
PROOFS = {
    "D": "ran on the device",
    "W": "weights of the type",
    "K": "kernels computed in the precision",
}
"""What the letters of the column `proof` stand for."""


def answers(serving: pd.DataFrame, curves: Curves, table: pd.DataFrame, prices: Mapping[Any, float | None]) -> Data:
    """Return for each device its budgets, and for each of these the rows that hold a rate, most requests first.

    A row has its rate with interval, memory, loss of accuracy and cost, and `fewer`: the places of the rows that hold
    significantly fewer requests than it does.  `text`: what the report says of all of them.
    """
    known = serving[serving["budget_ms"].notna()]
    configured_ms = {str(device): float(rows["budget_ms"].iloc[0]) for device, rows in known.groupby("device")}
    losses = losses_of(table)
    found: Data = {}
    for device, budget_ms in configured_ms.items():
        tried = serving[serving["device"] == device]
        budgets = {ms: pd.DataFrame(rows) for ms, rows in within_budgets(list(tried.itertuples()), curves)}
        steps = [
            _step(ms, _most_first(budgets.get(ms)), losses, prices.get(device)) for ms in budgets_around(budget_ms)
        ]
        found[device] = {"configured_ms": budget_ms, "steps": steps}
    return found


def _most_first(rows: pd.DataFrame | None) -> pd.DataFrame:
    return pd.DataFrame() if rows is None or rows.empty else rows.sort_values("requests_per_s", ascending=False)


def _step(budget_ms: float, rows: pd.DataFrame, losses: dict[str, float], price: float | None) -> Data:
    ordered = list(rows.itertuples())
    entries = [_entry(row, ordered, losses, price) for row in ordered]
    return {"budget_ms": budget_ms, "rows": entries, "text": answer_text(rows, budget_ms)}


def answer_text(rows: pd.DataFrame, budget_ms: float) -> str:
    """Return the report's own sentence on which row to serve with."""
    if rows.empty:
        return f"No row holds a rate within {budget_ms:g} ms."
    return next(pick_lines(rows.assign(closed_loop_per_s=rows["requests_per_s"]))).replace("`", "")


def _entry(row: Any, ordered: list[Any], losses: dict[str, float], price: float | None) -> Data:
    rate = float(row.requests_per_s)
    memory = memory_under_load_mib(row)
    return {
        "row": str(row.variant),
        "padding": str(row.padding),
        "per_s": rate,
        "rate": per_second(rate),
        "interval": between(per_second, row.requests_per_s_low, row.requests_per_s_high),
        "low": number(row.requests_per_s_low),
        "high": number(row.requests_per_s_high),
        "is_least": bool(row.is_least),
        "memory_mib": number(memory),
        "memory": mebibytes(memory),
        "loss": losses.get(str(row.variant)),
        "cost": cost_of_a_million(price, rate),
        "fewer": [place for place, other in enumerate(ordered) if compare_served(other, row).verdict == "slower"],
    }


def losses_of(table: pd.DataFrame) -> dict[str, float]:
    """Return what each row loses of fp32's accuracy, where it is known."""
    if "accuracy_loss" not in table:
        return {}
    known = table[table["accuracy_loss"].notna()]
    return {str(name): float(loss) for name, loss in zip(known["variant"], known["accuracy_loss"], strict=True)}


def table_of(rows: pd.DataFrame) -> Data:
    """Return a device's rows as the report's table writes them, with numbers to sort by."""
    timed = rows[rows["p50_ms"].notna()]
    if timed.empty:
        return {"columns": [], "rows": []}
    names = shown_columns(timed)
    lines = []
    for row in in_order(timed):
        cells = [COLUMNS[name](row) for name in names]
        lines.append({"cells": cells, "proof": proof_text(row), **facts(row)})
    return {"columns": names, "rows": lines}


def facts(row: Any) -> Data:
    """Return what rows are filtered by."""
    return {"runtime": str(row.runtime), "precision": str(row.precision), "batch": int(row.batch_size)}


def proof_text(row: Any) -> str:
    """Return a row's proof in words."""
    letters = "" if is_missing(row.proof) else str(row.proof)
    seen = [text for letter, text in PROOFS.items() if letter in letters]
    device = "GPU" if row.device == "cuda" else "CPU"
    if not seen:
        return "nothing of it was proved"
    return f"{device}, {row.precision}: " + "; ".join(seen)


def number(value: Any) -> float | None:
    """Return a number that JSON can hold."""
    return None if is_missing(value) else float(value)


def head(context: Context) -> list[str]:
    """Return the lines on model, machine and versions."""
    return [f"Model: {context.model()}", *context.hardware_lines()]
