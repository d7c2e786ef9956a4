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


def read_json(path: Path, mend: str) -> dict[str, Any]:
    """Read a JSON object; DataError with the advice `mend` if it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path.as_posix()} is missing: {mend}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as problem:
        raise DataError(f"{path.as_posix()} is damaged ({problem}): {mend}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path.as_posix()} is damaged (not a JSON object): {mend}")
    return content
