"""What rows hold under load, in Markdown: requests a second within the latency budget, most first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd

from bench.report.fastest import padding_of
from bench.report.figures import MISSING, between, mebibytes, milliseconds, per_second, ratio, share, three_digits
from bench.report.markdown import table_lines
from bench.summary.serving import GENERATOR_BOUND, compare_served
from bench.summary.table_file import is_missing

LEFT_ALIGNED = ("row", "padding", "against the first", "remarks")
SAID = {"faster": "more", "slower": "fewer", "tie": "as many", "inconclusive": "inconclusive"}
"""What a verdict on two rates is called."""
AGREES = 0.25
"""By so much may requests one after another differ from the batch-1 row before it is remarked: a queue lies between."""


def served(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that hold a rate, most requests first."""
    return table[table["status"] == "measured"].sort_values("requests_per_s", ascending=False)


def serving_lines(table: pd.DataFrame, titles: dict[str, str]) -> Iterator[str]:
    """Yield the section of requests a second within the budget; nothing where no row was tried.

    `titles`: what each device is called, in their order.
    """
    if table.empty:
        return
    yield "## Requests per second within the latency budget"
    yield ""
    for device, title in titles.items():
        rows = table[table["device"] == device]
        if rows.empty:
            continue
        found = served(rows)
        if len(found):
            yield from (f"{title}: {terms(found)}", "")
            yield from [*served_table(found), ""]
            yield from [*pick_lines(found), ""]
        others = list(not_served(rows))
        if others:
            yield from ([f"{title}, not served:", ""] if not len(found) else [])
            yield from [*(f"- {line}" for line in others), ""]
    yield from (LEGEND, "")


LEGEND = (
    "Requests arrive at random times (Poisson), each with one sentence; latency counts from the scheduled arrival. "
    "A batch is what waits when the last one ends. Requests/s: where the 99th percentile crosses the budget, a mean of "
    "the processes' own; its 95% interval is for another run. Shown: the highest rate whose requests show with 99% "
    "confidence that at most 1% is late. Of closed loop: of the most samples/s without load at batches of that size. "
    "Against the first: the ratio with its interval, for all pairs of rows together."
)


def terms(rows: pd.DataFrame) -> str:
    """Say within which budget, and in which batches, rows were served."""
    row = next(rows.itertuples())
    delay = f" that wait up to {row.max_delay_ms:g} ms for more" if row.max_delay_ms else ""
    sessions = f", {row.instances:.0f} sessions side by side" if row.instances > 1 else ""
    return f"p99 within {row.budget_ms:g} ms, batches of at most {row.max_batch:.0f} requests{delay}{sessions}"


def served_table(rows: pd.DataFrame) -> Iterator[str]:
    """Yield the lines of the table of rows that hold a rate, with the columns that have something to say."""
    first = next(rows.itertuples())
    lines = [{name: write(row, first) for name, write in COLUMNS.items()} for row in rows.itertuples()]
    shown = [name for name in COLUMNS if any(line[name] != MISSING for line in lines)]
    yield from table_lines(shown, LEFT_ALIGNED, ([line[name] for name in shown] for line in lines))


def against(row: Any, first: Any) -> str:
    """Write how many of the first row's requests a row holds, and the verdict."""
    if row.variant == first.variant:
        return MISSING
    found = compare_served(row, first)
    apart = ": served apart" if found.is_apart else ""
    limits = f" ({between(ratio, found.interval.low, found.interval.high)})" if found.interval else ""
    return f"{ratio(found.value)}{limits}, {SAID[found.verdict]}{apart}"


def remarks(row: Any) -> str:
    """Write what a reader must know of a row's rate."""
    found = []
    if not is_missing(row.generator_share) and row.generator_share > GENERATOR_BOUND:
        found.append(f"generator-bound: a session that computes nothing holds {per_second(row.null_per_s)}/s here")
    if row.is_cliff:
        found.append("a process was overloaded at its next rate")
    if row.is_least:
        found.append("at least: a process kept the budget at every rate that it tried")
    if row.late_captures:
        found.append(f"{row.late_captures:.0f} shapes captured while serving")
    if not is_missing(row.batch_1_p50_ms) and alone_ratio(row) > 1 + AGREES:
        found.append(f"one request after another takes {ratio(alone_ratio(row))} the batch-1 row's p50")
    return "; ".join(found) or MISSING


def alone_ratio(row: Any) -> float:
    """Return p50 of requests one after another, as a multiple of the batch-1 row's p50."""
    return float(row.single_stream_p50_ms / row.batch_1_p50_ms)


def memory_under_load_mib(row: Any) -> Any:
    """Return the memory that a served row took: the GPU's for GPU rows, else the host's."""
    return row.gpu_mib if row.device == "cuda" else row.host_mib


def _latencies(row: Any, at: int) -> str:
    p50_ms, p99_ms = getattr(row, f"p50_ms_at_{at}"), getattr(row, f"p99_ms_at_{at}")
    return MISSING if is_missing(p50_ms) else f"{milliseconds(p50_ms)} / {milliseconds(p99_ms)}"


COLUMNS: dict[str, Callable[[Any, Any], str]] = {
    "row": lambda row, _: f"`{row.variant}`",
    "padding": lambda row, _: padding_of(row),
    "requests/s": lambda row, _: per_second(row.requests_per_s),
    "95% interval": lambda row, _: between(per_second, row.requests_per_s_low, row.requests_per_s_high),
    "shown": lambda row, _: per_second(row.confirmed_per_s),
    "against the first": against,
    "of closed loop": lambda row, _: share(row.closed_loop_peak_share),
    "p50 / p99 ms at half": lambda row, _: _latencies(row, 50),
    "p50 / p99 ms at 90%": lambda row, _: _latencies(row, 90),
    "mean batch": lambda row, _: f"{row.mean_batch:.1f}",
    "tokens computed": lambda row, _: f"{row.tokens_per_request:.1f}",
    "GPU busy": lambda row, _: MISSING if is_missing(row.gpu_busy_percent) else f"{row.gpu_busy_percent:.0f}%",
    "mJ/request": lambda row, _: three_digits(row.energy_mj_per_request),
    "memory": lambda row, _: mebibytes(memory_under_load_mib(row)),
    "cost of a million": lambda row, _: three_digits(row.cost_per_million_requests),
    "remarks": lambda row, _: remarks(row),
}
"""How each column of the table is written, from a row and the first one."""


def pick_lines(rows: pd.DataFrame) -> Iterator[str]:
    """Yield which row to serve with, which may be as good, and which one the closed loop would have named."""
    first, *others = rows.itertuples()
    ties = [row for row in others if compare_served(row, first).verdict != "slower"]
    line = f"Most requests: `{first.variant}`, {per_second(first.requests_per_s)}/s"
    yield line + (f"; not significantly fewer: {_names(ties)}." if ties else ", significantly more than any other row.")
    closed = max(rows.itertuples(), key=lambda row: row.closed_loop_per_s)
    if closed.variant != first.variant:
        yield (
            f"The closed loop would have named `{closed.variant}` ({per_second(closed.closed_loop_per_s)} samples/s): "
            f"it holds {per_second(closed.requests_per_s)}/s."
        )


def _names(rows: list[Any]) -> str:
    return ", ".join(f"`{row.variant}` ({per_second(row.requests_per_s)}/s)" for row in rows)


def not_served(rows: pd.DataFrame) -> Iterator[str]:
    """Yield one line for each status and reason of rows that hold no rate."""
    others = rows[rows["status"] != "measured"]
    for (status, reason), group in others.groupby([others["status"], others["reason"].fillna("")], sort=False):
        names = ", ".join(f"`{name}`" for name in group["variant"])
        yield f"{str(status).replace('_', ' ')}{f' ({reason})' if reason else ''}: {names}"
