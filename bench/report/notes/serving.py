"""Notes on load: whether the order changes, what batches form, what a doubled budget buys, and what limits it all."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pandas as pd

from bench.report.figures import milliseconds, per_second, ratio, share
from bench.report.serving import alone_ratio, served
from bench.summary.comparisons import Comparison
from bench.summary.serving import SHARES, compare_served
from bench.summary.table_file import is_missing


def serving_notes(table: pd.DataFrame) -> Iterator[str]:
    """Yield what one device's rows of results/serving.csv show."""
    rows = served(table)
    if rows.empty:
        return
    yield from _order(rows)
    for row in rows.itertuples():
        yield from _row(row)
    yield from _generator(rows)


def _order(rows: pd.DataFrame) -> Iterator[str]:
    """Say whether the rows stand in the same order with and without load."""
    under_load = list(rows["variant"])
    closed = list(rows.sort_values("closed_loop_per_s", ascending=False)["variant"])
    if len(rows) < 2:
        return
    if under_load == closed:
        yield "- Under load the rows stand in the same order as in the closed loop."
        return
    close = list(_close(rows))
    doubt = f" (no significant difference: {', '.join(close)})" if close else ""
    yield f"- Under load the order is {_names(under_load)}{doubt}; in the closed loop, by samples/s, {_names(closed)}."


def _names(variants: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in variants)


def _close(rows: pd.DataFrame) -> Iterator[str]:
    """Yield neighbours of which the first does not surely hold more."""
    for first, second in pairwise(rows.itertuples()):
        if compare_served(first, second).verdict != "faster":
            yield f"`{first.variant}` and `{second.variant}`"


def _row(row: Any) -> Iterator[str]:
    batches = [getattr(row, f"mean_batch_at_{at}") for at in SHARES]
    line = (
        f"- `{row.variant}` holds {per_second(row.requests_per_s)} requests/s, "
        f"{share(row.closed_loop_peak_share)} of the {per_second(row.offline_per_s)}/s of Offline. Batches at "
        f"{', '.join(f'{at}%' for at in SHARES)} of it: {', '.join(f'{size:.1f}' for size in batches)} on average"
    )
    if not is_missing(row.doubled_budget_per_s):
        line += f"; twice the budget gives {ratio(row.doubled_budget_per_s / row.requests_per_s)} the rate"
    yield line + "."
    if not is_missing(row.batch_1_p50_ms):
        yield (
            f"- `{row.variant}`, one request after another: p50 {milliseconds(row.single_stream_p50_ms)} ms, "
            f"{ratio(alone_ratio(row))} its batch-1 row's; the difference is the queue between generator and session."
        )


def _generator(rows: pd.DataFrame) -> Iterator[str]:
    """Say what generator, queue and Python hold by themselves."""
    row = next(rows.itertuples())
    if is_missing(row.null_per_s):
        return
    floors = ", ".join(f"{milliseconds(each.null_p99_ms)} ms at `{each.variant}`'s rate" for each in rows.itertuples())
    yield (
        f"- A session that computes nothing holds {per_second(row.null_per_s)} requests/s here or more; its p99 is "
        f"{floors}: so much of a row's latency is generator and queue."
    )


def most_samples(rows: pd.DataFrame) -> Iterator[tuple[str, Comparison]]:
    """Yield how the row with most samples/s compares under load with each other row of its device."""
    for _, group in served(rows).groupby("device", sort=False):
        top = max(group.itertuples(), key=lambda row: row.closed_loop_per_s)
        for row in group.itertuples():
            if row.variant != top.variant:
                yield f"`{top.variant}` against `{row.variant}`", compare_served(top, row)
