"""What padding costs on this data: the best row of each way to pad, batch by batch, and from where on none wins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from bench.report.comparison_text import comparison_text
from bench.report.figures import milliseconds, percent
from bench.report.notes.assumptions import by_padding, ends
from bench.summary.comparisons import Comparison, compare, fastest

WAYS = {"longest": "padded to the longest sentence of the batch", "none": "without padding"}


def padding_lines(rows: pd.DataFrame) -> Iterator[str]:
    """Yield what each way to pad less gains at each batch size, then where it wins; `rows`: one device's measured rows.

    Nothing where no row pads otherwise than to the sequence length.
    """
    rows = by_padding(rows)
    ways = [way for way in WAYS if way in set(rows["padding"])]
    for way in ways:
        found = {int(size): pair for size, group in rows.groupby("batch_size") if (pair := _pair(group, way))}
        if not found:
            continue
        seen = {size: compare(*pair) for size, pair in found.items()}
        parts = [_against(size, *pair, seen[size]) for size, pair in found.items()]
        yield f"- Padding: the fastest row {WAYS[way]} against the fastest of fixed length: {'; '.join(parts)}."
        yield f"- {_where(seen, way)}"
    yield from _computed(rows, ways)


def _pair(group: pd.DataFrame, way: str) -> tuple[Any, Any] | None:
    """Return the fastest row that pads this way and the fastest of fixed length, None where one is missing."""
    ours, theirs = (fastest(group[group["padding"] == name].itertuples()) for name in (way, "fixed"))
    return None if ours is None or theirs is None else (ours, theirs)


def _against(size: int, ours: Any, theirs: Any, seen: Comparison) -> str:
    return (
        f"batch {size}, `{ours.variant}` {milliseconds(ours.p50_ms)} ms against `{theirs.variant}` "
        f"{milliseconds(theirs.p50_ms)} ms, {comparison_text(seen)}"
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
    parts = []
    for way in ("fixed", *ways):
        own = rows[rows["padding"] == way].dropna(subset=["tokens_given"]).drop_duplicates("batch_size")
        shares = [
            f"{percent(1 - row.tokens_given / row.tokens_computed)} at batch {row.batch_size}" for row in ends(own)
        ]
        parts += [f"{way} {' and '.join(shares)}"] if shares else []
    yield f"- Of the tokens that are computed, padding is: {', '.join(parts)}."
