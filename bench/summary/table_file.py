"""Read and write results/summary.csv, and the single runs that it is made of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bench.core.errors import DataError
from bench.core.files import checked, damaged, read_csv, replacing_file
from bench.core.paths import SUMMARY_CSV
from bench.core.schemas import SingleRun, SummaryRow

Row = dict[str, Any]
"""The figures of one row, by column."""
Rows = Sequence[Any]
"""Rows of a table, a figure an attribute."""
TEXTS = ("session", "rounds", "process_p50_ms", "process_p95_ms", "process_mean_ms")
"""Columns whose cells hold several numbers, or one that must not change."""
FIGURES = ("p50_ms", "mean_ms", "samples_per_s", "runs", "process_p50_ms")
"""What every measured row has."""
MEND = "`dvc repro -f summarize` writes it anew"


def read_samples(path: Path, measured: pd.DataFrame) -> pd.DataFrame:
    """Read a variant's single runs: process, batch, run, latency_ms; `measured`: its rows of the summary.

    DataError if the file is missing or damaged, or is not of the runs that the summary counts.
    """
    mend = "`dvc repro` measures it again"
    runs = pd.DataFrame(read_csv(path, mend, SingleRun), columns=list(SingleRun.__annotations__))
    counted = runs.groupby("batch").size()
    for row in measured.itertuples():
        found = int(counted.get(row.batch_size, 0))
        if found != row.runs:
            what = f"{found} runs at batch size {row.batch_size}, {SUMMARY_CSV.as_posix()} counts {row.runs:.0f}"
            raise damaged(path, what, mend)
    return runs


def write_summary(table: pd.DataFrame, path: Path = SUMMARY_CSV) -> None:
    """Write the table as CSV, every number in full; what it holds in memory alone stays out."""
    with replacing_file(path) as temporary:
        published(table).to_csv(temporary, index=False, lineterminator="\n")


def published(table: pd.DataFrame) -> pd.DataFrame:
    """Return the columns that files hold: all but levels."""
    return table[[name for name in table.columns if not name.endswith("level")]]


def read_summary(path: Path = SUMMARY_CSV, mend: str = MEND) -> pd.DataFrame:
    """Read results/summary.csv; DataError if it is missing or damaged, or contradicts itself."""
    try:
        texts = dict.fromkeys(TEXTS, str)
        table = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=texts, float_precision="round_trip")
    except FileNotFoundError:
        raise DataError(f"{path.as_posix()} is missing: `dvc repro` writes it") from None
    except (OSError, ValueError) as problem:
        raise damaged(path, str(problem), mend) from None
    rows = [{name: cell for name, cell in row.items() if not is_missing(cell)} for row in table.to_dict("records")]
    checked(rows, list[SummaryRow], path, mend)
    _check_rows(rows, path, mend)
    if "padding" not in table:  # a run of fixed padding alone
        table["padding"] = "fixed"
    return table


def _check_rows(rows: list[Row], path: Path, mend: str) -> None:
    """Raise DataError if there is no row, a row is there twice, or is measured without its figures."""
    if not rows:
        raise damaged(path, "no rows", mend)
    seen: set[tuple[str, int]] = set()
    for row in rows:
        name = f"{row['variant']} batch size {row['batch_size']}"
        if (row["variant"], row["batch_size"]) in seen:
            raise damaged(path, f"{name}: two rows", mend)
        seen.add((row["variant"], row["batch_size"]))
        lacking = [figure for figure in FIGURES if figure not in row] if row["status"] == "measured" else []
        if lacking:
            raise damaged(path, f"{name}: measured, without {', '.join(lacking)}", mend)
        p50_ms = row.get("p50_ms", 1.0)
        if not row.get("p50_low_ms", p50_ms) <= p50_ms <= row.get("p50_high_ms", p50_ms):
            raise damaged(path, f"{name}: p50_ms = {p50_ms:g} is not within its interval", mend)


def is_missing(value: Any) -> bool:
    """Tell whether a cell of the summary holds nothing."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def grouped(rows: Iterable[Any], *names: str) -> dict[tuple[Any, ...], list[Any]]:
    """Return rows by what they have in these columns, in the order in which each group comes first."""
    found: dict[tuple[Any, ...], list[Any]] = {}
    for row in rows:
        found.setdefault(tuple(getattr(row, name) for name in names), []).append(row)
    return found


def known(row: Any, name: str) -> Any:
    """Return a figure of a row, None where the row has no such column or nothing in it."""
    value = getattr(row, name, None)
    return None if is_missing(value) else value
