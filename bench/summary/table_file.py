"""Read and write results/summary.csv, and the single runs that it is made of."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from bench.core.errors import DataError
from bench.core.files import replacing_file
from bench.core.paths import SUMMARY_CSV

Row = dict[str, Any]
"""The figures of one row, by column."""
TEXTS = ("session", "rounds", "process_p50_ms", "process_p95_ms", "process_mean_ms")
"""Columns whose cells hold several numbers, or one that must not change."""


def read_samples(path: Path) -> pd.DataFrame:
    """Read a variant's single runs: process, batch, run, latency_ms; DataError if the file is missing or damaged."""
    try:
        runs = pd.read_csv(path)
        return runs[["process", "batch", "run", "latency_ms"]]
    except (OSError, KeyError, ValueError) as problem:
        raise DataError(f"{path.as_posix()} is missing or damaged ({problem}): `dvc repro` measures it again") from None


def write_summary(table: pd.DataFrame, path: Path = SUMMARY_CSV) -> None:
    """Write the table as CSV, every number in full."""
    with replacing_file(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def read_summary(path: Path = SUMMARY_CSV) -> pd.DataFrame:
    """Read results/summary.csv; DataError if it is missing or damaged."""
    try:
        return pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=dict.fromkeys(TEXTS, str))
    except FileNotFoundError:
        raise DataError(f"{path.as_posix()} is missing: `dvc repro` writes it") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as problem:
        raise DataError(f"{path.as_posix()} is damaged ({problem}): `dvc repro -f summarize` writes it anew") from None


def is_missing(value: Any) -> bool:
    """Tell whether a cell of the summary holds nothing."""
    return value is None or (isinstance(value, float) and math.isnan(value))
