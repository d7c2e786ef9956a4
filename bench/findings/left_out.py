"""Rows that are no part of any comparison, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from bench.findings.models import LeftOut, Rejected
from bench.findings.picks import cell_of
from bench.summary.table_file import Rows, grouped, is_missing


def left_out(rows: Rows, of: Rows | None = None) -> Iterator[LeftOut]:
    """Yield the variants of each status and reason; `of`: all cells, by which a part of a variant is told."""
    whole = Counter(row.variant for row in (rows if of is None else of))
    for (status, reason), group in grouped(rows, "status", "reason").items():
        found = {
            str(variant): [] if len(cells) == whole[variant] else [int(row.batch_size) for row in cells]
            for (variant,), cells in grouped(group, "variant").items()
        }
        yield LeftOut(status=str(status), reason="" if is_missing(reason) else str(reason), variants=found)


def rejected(rows: Rows) -> Iterator[Rejected]:
    """Yield the variants that were timed and rejected, with the figures that they had."""
    timed = [row for row in rows if row.status == "rejected" and not is_missing(row.p50_ms)]
    for (_, reason), cells in grouped(timed, "variant", "reason").items():
        yield Rejected(reason=str(reason), cells=[cell_of(row) for row in cells])
