"""What padding costs on this data: the best row of each way to pad, batch by batch, and from where on none wins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from bench.report.comparison_text import comparison_text
from bench.report.fastest import padding_of
from bench.report.figures import milliseconds, percent
from bench.summary.comparisons import Comparison, compare, fastest

WAYS = {"longest": "padded to the longest sentence of the batch", "none": "without padding"}


def padding_lines(rows: pd.DataFrame) -> Iterator[str]:
    """Yield what each way to pad less gains at each batch size, then where it wins; `rows`: one device's measured rows.

    Nothing where no row pads otherwise than to the sequence length.
    """
    ways = [way for way in WAYS if way in set(_paddings(rows))]
    for way in ways:
        found = {int(size): pair for size, group in rows.groupby("batch_size") if (pair := _pair(group, way))}
        if not found:
            continue
        parts = [_against(size, *pair) for size, pair in found.items()]
        yield f"- Padding: the fastest row {WAYS[way]} against the fastest of fixed length: {'; '.join(parts)}."
        yield f"- {_where({size: compare(*pair) for size, pair in found.items()}, way)}"
    yield from _computed(rows, ways)


def _paddings(rows: pd.DataFrame) -> list[str]:
    return [padding_of(row) for row in rows.itertuples()]


def _pair(group: pd.DataFrame, way: str) -> tuple[Any, Any] | None:
    """Return the fastest row that pads this way and the fastest of fixed length, None where one is missing."""
    paddings = pd.Series(_paddings(group), index=group.index)
    ours, theirs = (fastest(group[paddings == name]) for name in (way, "fixed"))
    return None if ours is None or theirs is None else (ours, theirs)


def _against(size: int, ours: Any, theirs: Any) -> str:
    return (
        f"batch {size}, `{ours.variant}` {milliseconds(ours.p50_ms)} ms against `{theirs.variant}` "
        f"{milliseconds(theirs.p50_ms)} ms, {comparison_text(compare(ours, theirs))}"
    )


def _where(found: dict[int, Comparison], way: str) -> str:
    """Say from which batch size on a way to pad wins, and where it does not."""
    wins = [size for size, seen in found.items() if seen.verdict == "faster"]
    others = {size: seen.verdict for size, seen in found.items() if size not in wins}
    from_on = next((size for size in found if all(later in wins for later in found if later >= size)), None)
    if not others:
        return f"Rows {WAYS[way]} win at every batch size."
    not_there = ", ".join(f"{verdict} at batch {size}" for size, verdict in others.items())
    if from_on is not None:
        return f"Rows {WAYS[way]} win from batch {from_on} on; {not_there}."
    if wins:
        return f"Rows {WAYS[way]} win at batch {', '.join(map(str, wins))}; {not_there}."
    return f"Rows {WAYS[way]} win nowhere: {not_there}."


def _computed(rows: pd.DataFrame, ways: list[str]) -> Iterator[str]:
    """Say how much of what each way computes is padding, at the smallest and the largest batch size."""
    if not ways or "tokens_given" not in rows or rows["tokens_given"].isna().all():
        return
    paddings = pd.Series(_paddings(rows), index=rows.index)
    parts = []
    for way in ("fixed", *ways):
        own = rows[paddings == way].dropna(subset=["tokens_given"]).sort_values("batch_size")
        ends = [next(part.itertuples()) for part in (own, own[::-1])] if len(own) else []
        shares = [
            f"{percent(1 - row.tokens_given / row.tokens_computed)} at batch {row.batch_size}"
            for row in ends[: 1 if ends and ends[0].batch_size == ends[-1].batch_size else 2]
        ]
        parts += [f"{way} {' and '.join(shares)}"] if shares else []
    yield f"- Of the tokens that are computed, padding is: {', '.join(parts)}."
