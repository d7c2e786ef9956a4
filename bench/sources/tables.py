"""Read sentences from a table, .csv, .tsv, .jsonl, .json or .parquet: each text exactly as it stands in its cell."""

import csv
import gzip
import io
import json
import random
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path, PurePath
from typing import IO, Any, BinaryIO, cast

from bench.core.errors import DataError, ParameterError
from bench.core.files import shortened
from bench.core.params import Dataset
from bench.core.progress import log
from bench.sources.labels import Row

Rows = Iterator[Any]
"""The names of the columns, then of each row where it stands ("line 3") and its cells by column."""
LONE_RETURN = re.compile(r"\r(?!\n|\Z)")
STAND_IN = "\ud800"
"""In place of a lone carriage return, at which the csv module would end a row: no text that was UTF-8 holds it."""
HALF_A_CHARACTER = re.compile("[\ud800-\udfff]")
LONGEST_CELL = 2**31 - 1
SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
"""The first line by which a spreadsheet names the separator of its CSV files."""
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
GZIP = b"\x1f\x8b"
OTHERS = {
    b"PAR1": "a .parquet file: name it so",
    b"PK\x03\x04": "a spreadsheet or a .zip file: save it as .csv in UTF-8",
}
"""How files begin that are no text, whatever their names, and what to do."""


def kind_of(path: PurePath) -> str:
    """Return the suffix that says how a file is read, the one before `.gz`."""
    return (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()


def read_table(path: Path, columns: Dataset, limit: int | None = None) -> list[Row]:
    """Return the sentences of one file, as `read_tables` does."""
    return read_tables([(path, path.as_posix())], columns, limit)


def read_tables(
    files: Iterable[tuple[Path, str]], columns: Dataset, limit: int | None = None, mark: str | None = None
) -> list[Row]:
    """Return the sentences of a table in several files, or `limit` of them, drawn from all by a fixed seed.

    `files`: with what messages call them; `mark`: the separator, if known.  ParameterError for a missing column,
    DataError, with file and line, for a row that cannot be used.
    """
    found: list[Row] = []
    for where, cells in _drawn(_located(files, columns, mark), limit):
        pair = _text(cells, columns.text_pair_column, where) if columns.text_pair_column else None
        label = cells.get(columns.label_column) if columns.label_column else None
        found.append(Row(_text(cells, columns.text_column, where), label, pair, where))
    return found


def _located(files: Iterable[tuple[Path, str]], columns: Dataset, mark: str | None) -> Rows:
    shown, is_empty = "", True
    for path, shown in files:
        for place, cells in _rows(path, shown, columns, mark):
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


def _rows(path: Path, shown: str, columns: Dataset, mark: str | None) -> Rows:
    kind, got = kind_of(path), f"params.yaml: dataset: got {path.as_posix()!r}"
    if path.is_dir() or kind not in READERS:
        what = ", a folder" if path.is_dir() else ""
        raise ParameterError(f"{got}{what}, allowed: a {', '.join(READERS)} file (.gz too)")
    if not path.is_file():
        raise ParameterError(f"{got}, which is not there")
    used = {key: getattr(columns, key) for key in COLUMN_KEYS if getattr(columns, key) is not None}
    rows = READERS[kind](path, shown, set(used.values()), mark)
    _check_columns(shown, used, next(rows, []))
    return rows


def _csv_rows(path: Path, shown: str, wanted: set[str], mark: str | None) -> Rows:
    """Read rows that are not blank, with the separator that gives the wanted columns; an empty cell is None."""
    csv.field_size_limit(LONGEST_CELL)
    lines = (LONE_RETURN.sub(STAND_IN, line) for line in _lines(path, shown))
    before = [next(lines, "")]
    if named := SEPARATOR_LINE.fullmatch(before[0]):
        before, mark = ["\n"], named[1]  # a blank line keeps the lines' numbers
    while not before[-1].strip() and (line := next(lines, "")):
        before.append(line)
    mark = mark or _mark(before[-1], "\t,;|" if kind_of(path) == ".tsv" else ",;\t|", wanted)
    quoting: Any = csv.QUOTE_MINIMAL
    if mark == "\t":
        before += lines
        if _has_no_quotes(before):
            quoting = csv.QUOTE_NONE
            log(f"NOTE: {shown}: its quotes are read as part of the text: each of its lines is a row as it stands")
    reader = csv.reader(chain(before, lines), delimiter=mark, strict=True, quoting=quoting)
    header: list[str] = []
    first = 1
    try:
        for escaped in reader:
            place, first = _place(first, reader.line_num), reader.line_num + 1
            cells = [cell.replace(STAND_IN, "\r") for cell in escaped]
            if not header:
                header = [name if name in wanted else name.strip() for name in cells]
                yield from [header] if header else []
            elif not _is_blank(cells, len(header)):
                if len(cells) != len(header):
                    raise DataError(f"{shown}, {place}: {len(cells)} cells, the first line names {len(header)}")
                yield place, {name: cell or None for name, cell in zip(header, cells, strict=True)}
    except csv.Error as problem:
        raise DataError(
            f"{shown}, {_place(first, reader.line_num)}: {problem}: a cell that begins with a quote ends with one, "
            'and a quote inside of it is written twice ("")'
        ) from None


def _mark(line: str, marks: str, wanted: set[str]) -> str:
    """Return the first of these separators with which a line names the wanted columns; else the first of all."""
    named = {mark: {name.strip() for row in csv.reader([line], delimiter=mark) for name in row} for mark in marks}
    return next((mark for mark in marks if {name.strip() for name in wanted} <= named[mark]), marks[0])


def _is_blank(cells: list[str], width: int) -> bool:
    """Tell whether a row is a blank line, or one of separators alone, as spreadsheets write below a table."""
    return not cells or (width > 1 and (not any(cells) or (len(cells) == 1 and not cells[0].strip())))


def _has_no_quotes(lines: list[str]) -> bool:
    """Tell whether each line is a row of tab-separated values as it stands, and quotes would make other rows."""
    plain = [line.count("\t") for line in lines if line.strip()]
    if len(set(plain)) != 1 or not plain[0] or not any('"' in line for line in lines):
        return False
    try:
        return sum(map(bool, csv.reader(lines, delimiter="\t", strict=True))) != len(plain)
    except csv.Error:
        return True


def _place(first: int, last: int) -> str:
    return f"line {first}" if first == last else f"line {first} to line {last}"


def _lines(path: Path, shown: str) -> Iterator[str]:
    r"""Yield the lines of a text; a lone carriage return ends one only in a file without any \n."""
    with path.open("rb") as raw:
        start = raw.read(4)
        raw.seek(0)
        for head, what in OTHERS.items():
            if start.startswith(head):
                raise DataError(f"{shown} is {what}")
        try:
            yield from _decoded(_as_utf_8(raw, start), shown)
        except UnicodeDecodeError as problem:
            raise DataError(f"{shown} is no whole UTF-16 text: {problem.reason}: save it as UTF-8") from None
        except (EOFError, gzip.BadGzipFile, zlib.error) as problem:
            raise DataError(f"{shown} is no whole .gz file: {problem}") from None


def _as_utf_8(raw: BinaryIO, start: bytes) -> IO[bytes]:
    """Return what a packed file holds, and a text with UTF-16's mark, as spreadsheets write it, as UTF-8."""
    if start.startswith(GZIP):
        return cast(IO[bytes], gzip.open(raw))
    return io.BytesIO(raw.read().decode("utf-16").encode()) if start.startswith(UTF_16) else raw


def _decoded(stream: IO[bytes], shown: str) -> Iterator[str]:
    first = stream.readline()
    is_doubled = first.endswith(b"\r\r\n")  # \r\n written through Windows' text mode, which makes \r\n of each \n
    lines = chain([first], stream) if first.endswith(b"\n") else (line + b"\r" for line in first.split(b"\r"))
    for number, line in enumerate(lines, 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as problem:
            byte = f"byte {problem.start + 1} of it (0x{line[problem.start]:02x})"
            raise DataError(f"{shown}, line {number}: {byte} is not UTF-8: save the file as UTF-8") from None
        yield text.replace("\r\n", "\n") if is_doubled else text


def _json_rows(path: Path, shown: str, wanted: set[str], _mark: str | None) -> Rows:
    """Read objects, one a line or in one list, or columns; a column is a key that any of the objects has."""
    lines = list(_lines(path, shown))
    is_list = "".join(lines).lstrip().startswith("[")
    try:
        rows = list(_objects(json.loads("".join(lines), object_pairs_hook=_each_once), wanted))
    except (ValueError, RecursionError) as problem:
        if is_list:
            raise DataError(f"{shown}: {shortened(str(problem))}") from None
        rows = list(_objects_by_line(lines, shown))
    yield list(dict.fromkeys(name for _, cells in rows for name in cells))
    yield from ((place, {name: cell for name, cell in cells.items() if name in wanted}) for place, cells in rows)


def _objects_by_line(lines: list[str], shown: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            cells = json.loads(line, object_pairs_hook=_each_once)
            if not isinstance(cells, dict):
                raise TypeError(line.strip())
        except (ValueError, TypeError, RecursionError) as problem:
            what = f"{shortened(str(problem))}, wanted: a JSON object a line"
            raise DataError(f"{shown}, line {number}: {what}") from None
        yield f"line {number}", cells


def _objects(content: Any, wanted: set[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of a document: a list of objects, the only such list in an object, or columns."""
    if isinstance(content, dict) and not wanted & set(content):
        lists = [each for each in content.values() if isinstance(each, list) and each and isinstance(each[0], dict)]
        content = lists[0] if len(lists) == 1 else content
    columns = {name: content[name] for name in wanted if name in content} if isinstance(content, dict) else {}
    if columns and all(isinstance(column, dict) for column in columns.values()):  # as pandas writes them
        keys = max(columns.values(), key=len)
        content = [{name: column.get(key) for name, column in columns.items()} for key in keys]
    elif columns and all(isinstance(column, list) for column in columns.values()):
        content = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    if not isinstance(content, list):
        raise ValueError("no list")  # noqa: TRY004 -- of a file of lines, one line
    for number, cells in enumerate(content, 1):
        if not isinstance(cells, dict):
            raise ValueError(f"object {number} is {shortened(repr(cells))}, wanted: a JSON object")  # noqa: TRY004
        yield f"object {number}", cells


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {max(keys, key=keys.count)!r} stands there twice")
    return found


def _parquet_rows(path: Path, shown: str, wanted: set[str], _mark: str | None) -> Rows:
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        file = parquet.ParquetFile(path)
        yield file.schema_arrow.names
        for batch in file.iter_batches(columns=list(wanted)):
            for cells in zip(*(batch.column(name) for name in wanted), strict=True):
                number += 1
                values = (cell.as_py() for cell in cells)  # bytes of writers that do not mark a column as text
                texts = (value.decode() if isinstance(value, bytes) else value for value in values)
                yield f"row {number}", dict(zip(wanted, texts, strict=True))
    except UnicodeDecodeError as problem:
        raise DataError(f"{shown}, row {number}: is not UTF-8: {problem.reason}") from None
    except (pyarrow.ArrowException, OSError) as problem:
        raise DataError(f"{shown} is no parquet file, or damaged: {shortened(str(problem))}") from None


READERS: dict[str, Callable[..., Rows]] = {
    ".parquet": _parquet_rows,
    **dict.fromkeys((".csv", ".tsv"), _csv_rows),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), _json_rows),
}
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
    if half := HALF_A_CHARACTER.search(text):
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
