"""Write files and folders so that a killed process leaves no half-written one behind.

Everything is written beside its destination under a temporary name and moved into
place when complete.  Numbers in JSON are finite: NaN is a bug, not a value.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from ruamel.yaml import YAML

from bench.core.errors import DataError


def _temporary_name(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sweep_leftovers(target: Path) -> None:
    """Remove what a killed run left under a temporary name of this target."""
    for leftover in target.parent.glob(f".{target.name}.*.tmp"):
        remove(leftover)


@contextmanager
def replacing_file(target: Path) -> Iterator[Path]:
    """Give a temporary path to write to; it becomes `target` when the block ends well."""
    temporary = _temporary_name(target)
    _sweep_leftovers(target)
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """Give an empty temporary folder to fill; it becomes `target` when the block ends well."""
    temporary = _temporary_name(target)
    _sweep_leftovers(target)
    temporary.mkdir()
    try:
        yield temporary
        remove(target)
        temporary.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(target: Path, text: str) -> None:
    """Write UTF-8 text with Unix line ends, whatever the platform, in one move."""
    with replacing_file(target) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(target: Path, content: dict[str, Any]) -> None:
    """Write a JSON object, indented, in one move; ValueError on NaN or infinity."""
    write_text(target, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: Path, mend: str, schema: Any = dict[str, Any]) -> dict[str, Any]:
    """Read a JSON object that holds what `schema` (a TypedDict) says.

    DataError if it is missing, damaged or of another shape, with the key, the value, and the advice `mend`.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path.as_posix()} is missing: {mend}") from None
    except (ValueError, RecursionError) as problem:
        raise DataError(f"{path.as_posix()} is damaged ({shortened(str(problem))}): {mend}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path.as_posix()} is damaged (not a JSON object): {mend}")
    try:
        TypeAdapter(schema).validate_python(content)
    except ValidationError as problem:
        fault = problem.errors()[0]
        key = ".".join(map(str, fault["loc"]))
        got = "" if fault["type"] == "missing" else f", got {shortened(repr(fault['input']))}"
        raise DataError(f"{path.as_posix()} is damaged ({key}: {fault['msg']}{got}): {mend}") from None
    return content


def read_yaml(path: Path) -> Any:
    """Read a YAML file as DVC does: YAML 1.2, each key once; ruamel.yaml's YAMLError if it is none."""
    return YAML(typ="safe").load(path.read_text(encoding="utf-8"))


MOST_CHARACTERS = 200
"""Of a value that a message repeats."""


def shortened(text: str) -> str:
    """Return a text, cut where it is too long for a message."""
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}…"
