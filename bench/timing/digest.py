"""Which stages a `dvc repro` runs: what it was asked for, and what a variant's stage depends on, as one hash.

DVC decides which stage runs, and does not tell it of the others: the command line of the process that started it names
the targets, and the hash of every dependency and parameter that dvc.yaml lists shows which stages will follow.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PureWindowsPath
from typing import Any

import psutil

from bench.core.errors import DataError
from bench.core.files import file_sha256, read_yaml
from bench.core.params import Variant
from bench.core.paths import ENVIRONMENT, PARAMS, PIPELINE
from bench.core.schemas import read_environment

LEFT_OUT = ("__pycache__", ".pyc", ".tmp")
"""What .dvcignore leaves out, too."""
PLACE = re.compile(r"\$\{([a-z_.]+)\}")
FORCE = ("-f", "--force")
SUBCOMMANDS = ("repro", "reproduce")
TIMED = ("infer", "serve")
"""Kinds of stages that time rows, in their order: those of one kind need all of the kind before."""


def stage_name(variant: Variant) -> str:
    """Return the name of the stage that times a variant."""
    return "infer_tensorrt" if variant.runtime == "tensorrt" else "infer"


def variant_digest(key: str, variant: Variant, name: str) -> str:
    """Return the hash of all that the variant's stage of this name depends on; DataError if dvc.yaml has none."""
    stage = _read(PIPELINE.as_posix()).get("stages", {}).get(name, {}).get("do")
    if not stage:
        raise DataError(f"{PIPELINE} has no stage {name!r}: `git checkout {PIPELINE}` restores it")
    digest = hashlib.sha256()
    for dependency in stage["deps"]:
        path = Path(_filled(dependency, key, variant))
        digest.update(f"{path.as_posix()} {_content_hash(path)}\n".encode())
    for file, parameter in _parameters(stage.get("params", [])):
        filled = _filled(parameter, key, variant)
        digest.update(f"{file} {filled} {json.dumps(_value(file, filled), sort_keys=True)}\n".encode())
    return digest.hexdigest()


def _filled(template: str, key: str, variant: Variant) -> str:
    values = {"key": key, "item": key, **{f"item.{name}": str(value) for name, value in variant.model_dump().items()}}
    return PLACE.sub(lambda place: values[place[1]], template)


def _parameters(listed: list[Any]) -> Iterator[tuple[str, str]]:
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
    return read_environment() if file == ENVIRONMENT.as_posix() else read_yaml(Path(file))


@cache
def _content_hash(path: Path) -> str:
    """Return the hash of a file, or of all files of a folder with their names; empty where there is nothing."""
    if path.is_dir():
        files = sorted(item for item in path.rglob("*") if item.is_file())
        counted = [item for item in files if not any(part.endswith(LEFT_OUT) for part in item.parts)]
        lines = [f"{item.relative_to(path).as_posix()} {_content_hash(item)}" for item in counted]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return file_sha256(path) if path.is_file() else ""


@dataclass(frozen=True)
class Request:
    """A `dvc repro`: an id that no other one has, the targets that it names, and whether it is forced."""

    id: str
    targets: tuple[str, ...] = ()
    is_forced: bool = False

    def includes(self, stages: Sequence[str]) -> bool:
        """Tell whether it may run a stage of these names: it has no target, one of them, or a later one (`render`)."""
        kind = stages[0].split("@")[0].split("_")[0]
        before = TIMED[: TIMED.index(kind) + 1]
        named = [target for target in self.targets if target.removeprefix("stages.").startswith(before)]
        return len(named) < len(self.targets) or not named or any(stage in named for stage in stages)


UNKNOWN = Request("")
"""The stage was started by hand, or by something that is not `dvc repro`."""


def current_request() -> Request:
    """Return the `dvc repro` that started this process, UNKNOWN where there is none to be found."""
    try:
        parents = psutil.Process().parents()
    except psutil.Error:
        return UNKNOWN
    for process in parents:
        try:
            words, began = process.cmdline(), process.create_time()
        except psutil.Error:
            continue
        if found := parse(words):
            return Request(f"{process.pid}-{began:.3f}", *found)
    return UNKNOWN


def parse(words: Sequence[str]) -> tuple[tuple[str, ...], bool] | None:
    """Return (targets, is forced) of the command line of a `dvc repro`, None for any other."""
    for place, word in enumerate(words):
        # Windows' rules split both kinds of paths.
        is_dvc = PureWindowsPath(words[place - 1]).stem == "dvc" if place else False
        if word in SUBCOMMANDS and is_dvc:
            rest = words[place + 1 :]
            return tuple(item for item in rest if not item.startswith("-")), any(item in FORCE for item in rest)
    return None
