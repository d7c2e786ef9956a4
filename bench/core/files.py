"""Write files and folders beside their destination and move them into place: a killed process leaves none in part."""

import hashlib
import json
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from ruamel.yaml import YAML

from bench.core.errors import DataError

PATIENCE_SECONDS, TRIES = 1.0, 20
UNION_TAG = "<"
"""How the tags of a union begin; the path to a faulty key is told without them."""
Model = TypeVar("Model", bound=BaseModel)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _move(temporary: Path, target: Path) -> None:
    """Move a file or folder into place; on Windows a scanner may hold a new file for some tenths of a second."""
    for _ in range(TRIES):
        with suppress(PermissionError):
            temporary.replace(target)
            return
        time.sleep(PATIENCE_SECONDS / TRIES)
    temporary.replace(target)


@contextmanager
def replacing_file(target: Path) -> Iterator[Path]:
    """Give a temporary path to write to; it becomes `target` when the block ends well."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for leftover in target.parent.glob(f".{target.name}.*.tmp"):  # of a killed run
        remove(leftover)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        _move(temporary, target)
    finally:
        with suppress(OSError):
            remove(temporary)


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """Give an empty temporary folder to fill; it becomes `target` when the block ends well."""
    with replacing_file(target) as temporary:
        temporary.mkdir()
        yield temporary
        remove(target)


def write_if_other(path: Path, text: str) -> None:
    """Write a text unless the file holds it already, so that its time of change says when it changed."""
    if not path.is_file() or path.read_bytes() != text.encode():
        remove(path)
        write_text(path, text)


def write_text(target: Path, text: str) -> None:
    """Write UTF-8 text with Unix line ends, whatever the platform, in one move."""
    with replacing_file(target) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(target: Path, content: dict[str, Any]) -> None:
    """Write a JSON object, indented, in one move; ValueError on NaN or infinity."""
    write_text(target, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: Path, hint: str, schema: Any = dict[str, Any]) -> dict[str, Any]:
    """Read a JSON object that holds what `schema` says; DataError with key, value and `hint` if it does not."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path.as_posix()} is missing: {hint}") from None
    except (ValueError, RecursionError) as problem:
        raise damaged(path, shortened(str(problem)), hint) from None
    if not isinstance(content, dict):
        raise damaged(path, "not a JSON object", hint)
    checked(content, schema, path, hint, is_strict=True)
    return content


def read_model(path: Path, hint: str, model: type[Model]) -> Model:
    """Read a JSON object as a pydantic model; DataError as `read_json` raises it."""
    found: Model = checked(read_json(path, hint), model, path, hint, is_strict=True)
    return found


def checked(content: Any, schema: Any, path: Path, hint: str, is_strict: bool = False) -> Any:
    """Return what was read from `path`, as `schema` says, else DataError; `is_strict`: a text is no number."""
    try:
        return TypeAdapter(schema).validate_python(content, strict=is_strict)
    except ValidationError as problem:
        fault = problem.errors()[0]
        key = ".".join(str(part) for part in fault["loc"] if not str(part).startswith(UNION_TAG))
        got = "" if fault["type"] == "missing" else f", got {shortened(repr(fault['input']))}"
        what = f"{key}: {fault['msg']}{got}" if key else fault["msg"]
        raise damaged(path, what, hint) from None


def damaged(path: Path, what: str, hint: str) -> DataError:
    """Return the error for a file that holds something else than it should."""
    return DataError(f"{path.as_posix()} is damaged ({shortened(what, 500)}): {hint}")


def read_yaml(path: Path) -> Any:
    """Read a YAML file as DVC does: YAML 1.2, each key once; ruamel.yaml's YAMLError if it is none."""
    return YAML(typ="safe").load(path.read_text(encoding="utf-8"))


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def files_sha256(names: Iterable[str], folder: Path = Path()) -> str:
    """Return the SHA-256 of several files of a folder, over their names and contents in order of name."""
    lines = (f"{name} {file_sha256(folder / name)}\n" for name in sorted(names))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def shortened(text: str, most: int = 200) -> str:
    """Return a text, cut where it is too long for a message."""
    return text if len(text) <= most else f"{text[:most]}…"


def first_line(problem: BaseException) -> str:
    """Return the first line of a library's message, whole; the error's type if it has none."""
    lines = str(problem).strip().splitlines()
    return lines[0] if lines else type(problem).__name__


def in_one_line(failure: str) -> str:
    """Return a failure as its row repeats it; all of it is told at the end."""
    return shortened(" ".join(failure.split()), 300)
