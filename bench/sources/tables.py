"""Read sentences from a table, the user's own or the hub's: .csv, .tsv, .jsonl or .parquet."""

import csv
import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from bench.core.errors import DataError, ParameterError
from bench.core.files import shortened
from bench.core.params import Dataset
from bench.core.schemas import Labelled

Row = tuple[int, dict[str, Any]]
"""The number of a line (or row), and its cells by column."""


def read_table(
    path: Path, columns: Dataset, names: Mapping[str, int], labels: int, limit: int | None = None
) -> list[Labelled]:
    """Return the sentences of a table; labels are numbers below `labels`, or `names` of the model's.

    Raises ParameterError for a missing column, and DataError, with file and line, for a row that cannot be used.
    """
    found: list[Labelled] = []
    for number, cells in islice(_rows(path), limit):
        if not found:
            _check_columns(path, columns, cells)
        place = f"{path.as_posix()}, {'row' if path.suffix == '.parquet' else 'line'} {number}"
        pair = _text(cells, columns.text_pair_column, place) if columns.text_pair_column else None
        label = _label(cells[columns.label_column], names, labels, place) if columns.label_column else None
        found.append(Labelled(_text(cells, columns.text_column, place), label, pair))
    if not found:
        raise DataError(f"{path.as_posix()} holds no sentences")
    return found


def _rows(path: Path) -> Iterator[Row]:
    readers = {".csv": _csv_rows, ".tsv": _csv_rows, ".jsonl": _json_rows, ".parquet": _parquet_rows}
    if path.suffix not in readers:
        raise ParameterError(f"params.yaml: dataset: got {path.as_posix()!r}, allowed: a {', '.join(readers)} file")
    try:
        yield from readers[path.suffix](path)
    except FileNotFoundError:
        raise ParameterError(f"params.yaml: dataset: got {path.as_posix()!r}, which is not there") from None
    except UnicodeDecodeError as problem:
        raise DataError(f"{path.as_posix()} is not UTF-8: {shortened(str(problem))}") from None


def _csv_rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream, delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)
        try:
            for cells in reader:
                if None in cells or None in cells.values():
                    wanted = len(reader.fieldnames or [])
                    got = sum(value is not None for name, value in cells.items() if name) + len(cells.get(None, []))
                    raise DataError(
                        f"{path.as_posix()}, line {reader.line_num}: {got} cells, the first line names {wanted}"
                    )
                yield reader.line_num, dict(cells)
        except csv.Error as problem:
            raise DataError(f"{path.as_posix()}, line {reader.line_num}: {problem}") from None


def _json_rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                cells = json.loads(line)
            except (ValueError, RecursionError) as problem:
                raise DataError(f"{path.as_posix()}, line {number}: no JSON: {shortened(str(problem))}") from None
            if not isinstance(cells, dict):
                raise DataError(f"{path.as_posix()}, line {number}: no JSON object")
            yield number, cells


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow
    from pyarrow import parquet

    try:
        batches = parquet.ParquetFile(path).iter_batches()
        yield from enumerate((cells for batch in batches for cells in batch.to_pylist()), 1)
    except pyarrow.ArrowException as problem:
        raise DataError(f"{path.as_posix()} is no parquet file, or damaged: {shortened(str(problem))}") from None


def _check_columns(path: Path, columns: Dataset, cells: dict[str, Any]) -> None:
    for key in ("text_column", "text_pair_column", "label_column"):
        name = getattr(columns, key)
        if name is not None and name not in cells:
            have = shortened(", ".join(cells))
            null = ", or null for text without labels" if key == "label_column" else ""
            raise ParameterError(
                f"params.yaml: dataset.{key}: got {name!r}, allowed: a column of {path.name} ({have}){null}"
            )


def _text(cells: dict[str, Any], column: str, place: str) -> str:
    text = cells.get(column)
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{place}: {column} is {shortened(repr(text))}, wanted: a text")
    return text.strip()


def _label(value: Any, names: Mapping[str, int], labels: int, place: str) -> int:
    text = str(value).strip()
    number = names.get(text)
    if number is None and isinstance(value, int | float | str) and not isinstance(value, bool):
        number = _whole_number(text)
    if number is None or not 0 <= number < labels:
        known = f", or one of the model's own: {shortened(', '.join(names))}" if names else ""
        raise DataError(f"{place}: the label is {shortened(repr(value))}, allowed: 0 to {labels - 1}{known}")
    return number


def _whole_number(text: str) -> int | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None
