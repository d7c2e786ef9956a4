"""Read and write a run's tables: results/summary.csv and serving.csv, the single runs, and what `dvc metrics` shows."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bench.core.errors import DataError
from bench.core.files import checked, damaged, replacing_file, replacing_folder, write_json
from bench.core.params import Variant
from bench.core.paths import SUMMARY_CSV, VARIANT_METRICS
from bench.core.schemas import SingleRun, SummaryRow

Row = dict[str, Any]
"""The figures of one row, by column."""
Rows = Sequence[Any]
"""Rows of a table, a figure an attribute."""
TEXTS = ("variant", "session", "process_per_s", "options", "verdict_reason", "unstable", "remark", "cut_short")
"""Columns whose cells hold several numbers, or one that must not change."""
FIGURES = ("p50_ms", "mean_ms", "samples_per_s", "runs")
"""What every measured row has."""
METRIC_DIGITS = 4
MEND = "`dvc repro -f summarize` writes it anew"


def read_samples(path: Path, measured: pd.DataFrame) -> pd.DataFrame:
    """Read a variant's single runs (pass, process, batch, call, latency_ms); `measured`: its rows of the summary.

    DataError if the file is missing or damaged, or is not of the runs that the summary counts.
    """
    mend = "`dvc repro` measures it again"
    runs, _ = read_table(path, SingleRun, mend)
    counted = runs.groupby("batch").size()
    for row in measured.itertuples():
        found = int(counted.get(row.batch_size, 0))
        if found != row.runs:
            what = f"{found} runs at batch size {row.batch_size}, {SUMMARY_CSV.as_posix()} counts {row.runs:.0f}"
            raise damaged(path, what, mend)
    return runs


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, every number in full; levels and searches, which it holds in memory alone, stay out."""
    columns = [name for name in table.columns if not name.endswith("level") and name != "search"]
    with replacing_file(path) as temporary:
        table[columns].to_csv(temporary, index=False, lineterminator="\n")


def read_table(path: Path, schema: Any, mend: str) -> tuple[pd.DataFrame, list[Row]]:
    """Read a table, and its rows without their empty cells; DataError if it is missing, damaged or no such table."""
    try:
        texts = dict.fromkeys(TEXTS, str)
        table = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=texts, float_precision="round_trip")
    except FileNotFoundError:
        raise DataError(f"{path.as_posix()} is missing: {mend}") from None
    except (OSError, ValueError) as problem:
        raise damaged(path, str(problem), mend) from None
    if not path.read_bytes().endswith(b"\n"):
        raise damaged(path, "its last line is cut", mend)
    rows = [{name: cell for name, cell in row.items() if not is_missing(cell)} for row in table.to_dict("records")]
    checked(rows, list[schema], path, mend)
    return table, rows


def read_summary(path: Path = SUMMARY_CSV, mend: str = MEND) -> pd.DataFrame:
    """Read results/summary.csv; DataError if it is missing or damaged, or contradicts itself."""
    table, rows = read_table(path, SummaryRow, mend)
    if not rows:
        raise damaged(path, "no rows", mend)
    names = [f"{row['variant']} batch size {row['batch_size']}" for row in rows]
    for place, (name, row) in enumerate(zip(names, rows, strict=True)):
        if name in names[:place]:
            raise damaged(path, f"{name}: two rows", mend)
        lacking = [figure for figure in FIGURES if figure not in row] if row["status"] == "measured" else []
        if lacking:
            raise damaged(path, f"{name}: measured, without {', '.join(lacking)}", mend)
        p50_ms = row.get("p50_ms", 1.0)
        if not row.get("p50_low_ms", p50_ms) <= p50_ms <= row.get("p50_high_ms", p50_ms):
            raise damaged(path, f"{name}: p50_ms = {p50_ms:g} is not within its interval", mend)
    return table


def write_metrics(table: pd.DataFrame, serving: pd.DataFrame, folder: Path = VARIANT_METRICS) -> None:
    """Write a file for each variant: status, p50 in ms of the batch sizes that were measured, and requests/s."""
    rates = {row.variant: row.requests_per_s for row in serving.itertuples() if not is_missing(row.requests_per_s)}
    with replacing_folder(folder) as new:
        for variant, cells in table.groupby("variant", sort=False):
            measured = [row for row in cells.itertuples() if row.status == "measured"]
            p50_ms = {f"b{row.batch_size:03d}": _rounded(row.p50_ms) for row in measured}
            rate = {"requests_per_s": _rounded(rates[variant])} if variant in rates else {}
            status = {"status": ", ".join(dict.fromkeys(cells["status"]))}
            write_json(new / f"{variant}.json", {**status, **({"p50_ms": p50_ms} if p50_ms else {}), **rate})


def _rounded(value: float) -> float:
    return float(f"{value:.{METRIC_DIGITS}g}")


def identity(variant: Variant) -> Row:
    """Return the columns that say which variant a row is of."""
    return {
        **variant.model_dump(include={"runtime", "device", "precision", "graph", "padding"}),
        "options": " ".join(f"{name}={value}" for name, value in variant.options.items()),
    }


def present(values: Iterable[Any]) -> list[Any]:
    """Return the values that are there: all but None."""
    return [value for value in values if value is not None]


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
