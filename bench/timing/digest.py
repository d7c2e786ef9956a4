"""What a variant is timed with, as one hash: every dependency and parameter that dvc.yaml lists for its stage.

DVC decides which stage runs; this tells the first timing stage which others will follow it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from bench.core.errors import DataError
from bench.core.files import file_sha256, read_yaml
from bench.core.params import Variant
from bench.core.paths import ENVIRONMENT, PARAMS, PIPELINE
from bench.core.provenance import read_environment

LEFT_OUT = ("__pycache__", ".pyc", ".tmp")
"""What .dvcignore leaves out, too."""
PLACE = re.compile(r"\$\{([a-z_.]+)\}")


def stage_name(variant: Variant) -> str:
    """Return the name of the stage that times a variant."""
    return "infer_tensorrt" if variant.runtime == "tensorrt" else "infer"


def variant_digest(key: str, variant: Variant, name: str = "") -> str:
    """Return the hash of all that a stage of the variant depends on: the one that times it, or the one called `name`.

    DataError if dvc.yaml does not say.
    """
    name = name or stage_name(variant)
    stage = _stages().get(name, {}).get("do")
    if not stage:
        raise DataError(f"{PIPELINE} has no stage {name!r}: `git checkout {PIPELINE}` restores it")
    digest = hashlib.sha256()
    for dependency in stage["deps"]:
        path = Path(_filled(dependency, key, variant))
        digest.update(f"{path.as_posix()} {_content_hash(path)}\n".encode())
    for file, name in _parameters(stage.get("params", [])):
        filled = _filled(name, key, variant)
        digest.update(f"{file} {filled} {json.dumps(_value(file, filled), sort_keys=True)}\n".encode())
    return digest.hexdigest()


@cache
def _stages() -> dict[str, Any]:
    content: dict[str, Any] = read_yaml(PIPELINE)
    return dict(content.get("stages", {}))


def _filled(template: str, key: str, variant: Variant) -> str:
    values = {"key": key, "item": key, **{f"item.{name}": str(value) for name, value in variant.model_dump().items()}}
    return PLACE.sub(lambda place: values[place[1]], template)


def _parameters(listed: list[Any]) -> Iterator[tuple[str, str]]:
    """Yield (file, dotted name) of each parameter."""
    for entry in listed:
        if isinstance(entry, str):
            yield PARAMS.name, entry
        else:
            yield from ((file, name) for file, names in entry.items() for name in names)


def _value(file: str, name: str) -> Any:
    found: Any = _read(file)
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


@cache
def _read(file: str) -> Any:
    if file == ENVIRONMENT.as_posix():
        return read_environment()
    return read_yaml(Path(file))


@cache
def _content_hash(path: Path) -> str:
    """Return the hash of a file, or of all files of a folder with their names; empty where there is nothing."""
    if path.is_dir():
        files = sorted(item for item in path.rglob("*") if item.is_file() and not _is_left_out(item))
        lines = [f"{item.relative_to(path).as_posix()} {_content_hash(item)}" for item in files]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()
    if not path.is_file():
        return ""
    return file_sha256(path)


def _is_left_out(path: Path) -> bool:
    return any(part.endswith(LEFT_OUT) for part in path.parts)
