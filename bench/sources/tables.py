"""Read sentences from a table, the user's own or the hub's: .csv, .tsv, .jsonl or .parquet.

A text is taken as it stands in its cell: no space, line end or lone carriage return of it is lost.
"""

import csv
import json
import random
import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from bench.core.errors import DataError, ParameterError
from bench.core.files import shortened
from bench.core.params import Dataset
from bench.sources.labels import Row

Rows = Iterator[Any]
"""The names of the columns, then of each row where it stands ("line 3") and its cells by column."""
LONE_RETURN = re.compile(r"\r(?!\n|\Z)")
STAND_IN = "\ud800"
"""In place of a lone carriage return, at which the csv module would end a row: no text that was UTF-8 holds it."""
HALF_A_CHARACTER = re.compile("[\ud800-\udfff]")
LONGEST_CELL = 2**31 - 1


def read_table(path: Path, columns: Dataset, limit: int | None = None) -> list[Row]:
    """Return the sentences of one file, as `read_tables` does."""
    return read_tables([(path, path.as_posix())], columns, limit)


def read_tables(files: Iterable[tuple[Path, str]], columns: Dataset, limit: int | None = None) -> list[Row]:
    """Return the sentences of a table in several files, or `limit` of them, drawn from all by a fixed seed.

    A file comes with what messages call it.  Raises ParameterError for a missing column, and DataError, with file and
    line, for a row that cannot be used.
    """
    found: list[Row] = []
    for where, cells in _drawn(_located(files, columns), limit):
        pair = _text(cells, columns.text_pair_column, where) if columns.text_pair_column else None
        label = cells.get(columns.label_column) if columns.label_column else None
        found.append(Row(_text(cells, columns.text_column, where), label, pair, where))
    return found


def _located(files: Iterable[tuple[Path, str]], columns: Dataset) -> Rows:
    shown, is_empty = "", True
    for path, shown in files:
        for place, cells in _rows(path, shown, columns):
            is_empty = False
            yield f"{shown}, {place}", cells
    if is_empty:
        raise DataError(f"{shown} holds no sentences")


def _drawn(rows: Rows, limit: int | None) -> list[Any]:
    """Return so many rows, each with the same chance (Vitter's algorithm R); all without a limit."""
    kept = list(islice(rows, limit))
    chance = random.Random(0)
    for place, row in enumerate(rows, len(kept)):
        if (slot := chance.randrange(place + 1)) < len(kept):
            kept[slot] = row
    return kept


def _rows(path: Path, shown: str, columns: Dataset) -> Rows:
    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise ParameterError(f"params.yaml: dataset: got {path.as_posix()!r}, allowed: a {', '.join(READERS)} file")
    if not path.is_file():
        raise ParameterError(f"params.yaml: dataset: got {path.as_posix()!r}, which is not there")
    used = {key: getattr(columns, key) for key in COLUMN_KEYS if getattr(columns, key) is not None}
    rows = READERS[suffix](path, shown, set(used.values()))
    _check_columns(shown, used, next(rows, []))
    return rows


def _csv_rows(path: Path, shown: str, wanted: set[str]) -> Rows:
    """Read rows that are not blank, with the separator that gives the wanted columns; an empty cell is None."""
    csv.field_size_limit(LONGEST_CELL)
    lines = (LONE_RETURN.sub(STAND_IN, line) for line in _lines(path, shown))
    line = next(lines, "")
    marks = "\t,;" if path.suffix.lower() == ".tsv" else ",;\t"
    fitting = (mark for mark in marks if wanted <= {name for row in csv.reader([line], delimiter=mark) for name in row})
    reader = csv.reader(chain([line], lines), delimiter=next(fitting, marks[0]), strict=True)
    header: list[str] = []
    first = 1
    try:
        for escaped in reader:
            place, first = _place(first, reader.line_num), reader.line_num + 1
            cells = [cell.replace(STAND_IN, "\r") for cell in escaped]
            if cells and header and len(cells) != len(header):
                raise DataError(f"{shown}, {place}: {len(cells)} cells, the first line names {len(header)}")
            if cells:
                yield (
                    (place, {name: cell or None for name, cell in zip(header, cells, strict=True)}) if header else cells
                )
            header = header or cells
    except csv.Error as problem:
        raise DataError(
            f"{shown}, {_place(first, reader.line_num)}: {problem}: a cell that begins with a quote ends with one, "
            'and a quote inside of it is written twice ("")'
        ) from None


def _place(first: int, last: int) -> str:
    return f"line {first}" if first == last else f"line {first} to line {last}"


def _lines(path: Path, shown: str) -> Iterator[str]:
    r"""Yield the lines of a UTF-8 file; a lone carriage return ends one only in a file without any \n."""
    with path.open("rb") as stream:
        first = stream.readline()
        stream.seek(0)
        lines = stream if first.endswith(b"\n") else (line + b"\r" for line in first.split(b"\r"))
        is_doubled = first.endswith(b"\r\r\n")  # \r\n written through Windows' text mode, which makes \r\n of each \n
        for number, line in enumerate(lines, 1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as problem:
                byte = f"byte {problem.start + 1} of it (0x{line[problem.start]:02x})"
                raise DataError(f"{shown}, line {number}: {byte} is not UTF-8: save the file as UTF-8") from None
            yield text.replace("\r\n", "\n") if is_doubled else text


def _json_rows(path: Path, shown: str, wanted: set[str]) -> Rows:
    """Read an object a line; a column is a key that any of them has."""
    have: dict[str, None] = {}
    rows: list[tuple[str, dict[str, Any]]] = []
    for number, line in enumerate(_lines(path, shown), 1):
        if not line.strip():
            continue
        try:
            cells = json.loads(line, object_pairs_hook=_each_once)
            if not isinstance(cells, dict):
                raise TypeError(line.strip())
        except (ValueError, TypeError, RecursionError) as problem:
            what = shortened(str(problem))
            raise DataError(f"{shown}, line {number}: {what}, wanted: a JSON object a line") from None
        have |= dict.fromkeys(cells)
        rows.append((f"line {number}", {name: cell for name, cell in cells.items() if name in wanted}))
    yield list(have)
    yield from rows


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {max(keys, key=keys.count)!r} stands there twice")
    return found


def _parquet_rows(path: Path, shown: str, wanted: set[str]) -> Rows:
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        file = parquet.ParquetFile(path)
        yield file.schema_arrow.names
        for batch in file.iter_batches(columns=list(wanted)):
            for cells in zip(*(batch.column(name) for name in wanted), strict=True):
                number += 1
                yield f"row {number}", {name: cell.as_py() for name, cell in zip(wanted, cells, strict=True)}
    except UnicodeDecodeError as problem:
        raise DataError(f"{shown}, row {number}: is not UTF-8: {problem.reason}") from None
    except (pyarrow.ArrowException, OSError) as problem:
        raise DataError(f"{shown} is no parquet file, or damaged: {shortened(str(problem))}") from None


READERS = {".parquet": _parquet_rows, ".csv": _csv_rows, ".tsv": _csv_rows, ".jsonl": _json_rows}
"""What reads a file of each suffix; of a table in several formats the first is taken."""
COLUMN_KEYS = ("text_column", "text_pair_column", "label_column")


def _check_columns(shown: str, used: dict[str, str], have: list[str]) -> None:
    for key, name in used.items():
        if have.count(name) > 1:
            raise DataError(f"{shown} has {have.count(name)} columns {name!r}: rename all but the one that is meant")
        if have and name not in have:
            null = ", or null for text without labels" if key == "label_column" else ""
            raise ParameterError(
                f"params.yaml: dataset.{key}: got {name!r}, allowed: a column of {Path(shown).name} "
                f"({shortened(', '.join(have))}){null}"
            )


def _text(cells: dict[str, Any], column: str, place: str) -> str:
    text = cells.get(column)
    if not isinstance(text, str):
        raise DataError(f"{place}: {column} is {shortened(repr(text))}, wanted: a text")
    half = HALF_A_CHARACTER.search(text)
    if half:
        raise DataError(f"{place}: {column} holds half a character ({half[0]!r}), wanted: a text")
    return text


def names_in(path: Path, column: str | None) -> list[str]:
    """Return the names that a parquet file's own metadata has for the numbers of a column (ClassLabel); or none."""
    if path.suffix.lower() != ".parquet" or column is None:
        return []
    from pyarrow import parquet

    try:
        metadata = json.loads((parquet.read_schema(path).metadata or {})[b"huggingface"])
        names = metadata["info"]["features"][column]["names"]
    except (KeyError, TypeError, ValueError):
        return []
    return list(map(str, names))
