"""What the stages of one `dvc repro` know of each other: which of them it runs, and the reports that wait for them.

DVC decides which stage runs, and does not tell it of the others: the command line of the process that started it names
the targets, and the hash of every dependency and parameter that dvc.yaml lists shows which stages will follow.

The first stage of a kind runs the rounds, the later ones take their report.  It waits in artifacts/rounds, with the
hash of what it was timed with and the repro that it belongs to.  It is taken once, so that old timings never come back.
"""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path, PureWindowsPath
from typing import Any, Generic, TypeVar

import psutil

from bench.core.errors import DataError, WorkerError
from bench.core.files import checked, file_sha256, read_model, read_yaml, remove, write_json
from bench.core.params import Variant
from bench.core.paths import ENVIRONMENT, PARAMS, PIPELINE, ROUNDS, SAMPLES, SERVED
from bench.core.reports import Report, Served, Stored
from bench.core.schemas import read_environment

R = TypeVar("R", Report, Served)
LEFT_OUT = ("__pycache__", ".pyc", ".tmp")
"""What .dvcignore leaves out, too."""
PLACE = re.compile(r"\$\{([a-z_.]+)\}")
FORCE = re.compile(r"--force(-downstream)?|-[a-zA-Z]*f[a-zA-Z]*")
SUBCOMMANDS = ("repro", "reproduce")
OF_EXPERIMENTS = re.compile(r"(exp|experiments) (run|r)")
WITH_VALUE = ("-S", "--set-param", "-n", "--name", "-j", "--jobs", "-C", "--copy-paths", "-m", "--message")
WILDCARDS = {*"*?["}
AFTER = ("serve_text", "text_barrier", "summarize", "render", "check_rows")
"""Stages that need all rows."""
TIMED = ("infer", "serve")
"""Kinds of stages that time rows, in their order: those of one kind need all of the kind before."""


def _filled(template: str, key: str, variant: Variant) -> str:
    values = {"key": key, "item": key, **{f"item.{name}": str(value) for name, value in variant.model_dump().items()}}
    return PLACE.sub(lambda place: values[place[1]], template)


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
        asked = [target.removeprefix("stages.") for target in self.targets]
        rows = [target for target in asked if not target.startswith(AFTER)]
        named = [target for target in rows if target.startswith(before) or _is_of_other_rows(target)]
        is_named = any(fnmatchcase(stage, target) for stage in stages for target in named)
        return len(named) < len(asked) or not named or is_named


def _is_of_other_rows(target: str) -> bool:
    """Tell whether a target is a pattern (`--glob`) that no stage after the timing has the name for."""
    return not WILDCARDS.isdisjoint(target) and not any(fnmatchcase(stage, target) for stage in AFTER)


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
            words = process.cmdline()
        except psutil.Error:
            continue
        if found := parse(words):
            return Request(f"{process.pid}-{hash(process)}", *found)
    return UNKNOWN


def parse(words: Sequence[str]) -> tuple[tuple[str, ...], bool] | None:
    """Return (targets, is forced) of the command line of a `dvc repro`, None for any other."""
    for place, word in enumerate(words):
        if PureWindowsPath(word).stem != "dvc":  # Windows' rules split both kinds of paths
            continue
        after = words[place + 1 :]
        after = after[2:] if after[:1] == ["--cd"] else after
        length = (
            1 if after[:1] and after[0] in SUBCOMMANDS else 2 if OF_EXPERIMENTS.fullmatch(" ".join(after[:2])) else 0
        )
        if length:
            rest = after[length:]
            named = zip(("", *rest), rest, strict=False)
            targets = (item for before, item in named if not item.startswith("-") and before not in WITH_VALUE)
            return tuple(targets), any(FORCE.fullmatch(item) for item in rest)
    return None


class Waiting(Stored):
    """artifacts/rounds/DEVICE/KEY.json, artifacts/rounds/serve/KEY.json."""

    request: str
    report: dict[str, Any]


def read_report(path: Path, kind: type[R]) -> R | None:
    """Return a variant's last report, None where there is none that can be read."""
    with suppress(DataError):
        return read_model(path, "", kind)
    return None


@dataclass(frozen=True)
class Place(Generic[R]):
    """The stage that makes a variant's report, and where this waits for it."""

    key: str
    variant: Variant
    stage: str
    kind: type[R]

    @property
    def path(self) -> Path:
        """The file that the report waits in."""
        return ROUNDS / ("serve" if self.kind is Served else self.variant.device) / f"{self.key}.json"

    @property
    def digest(self) -> str:
        """The hash of all that the stage depends on now."""
        stage = _read(PIPELINE.as_posix())["stages"][self.stage]["do"]
        digest = hashlib.sha256()
        for dependency in stage["deps"]:
            path = Path(_filled(dependency, self.key, self.variant))
            digest.update(f"{path.as_posix()} {_content_hash(path)}\n".encode())
        listed = [{PARAMS.name: [each]} if isinstance(each, str) else each for each in stage.get("params", [])]
        for file, parameter in ((file, name) for each in listed for file, names in each.items() for name in names):
            filled = _filled(parameter, self.key, self.variant)
            digest.update(f"{file} {filled} {json.dumps(_value(file, filled), sort_keys=True)}\n".encode())
        return digest.hexdigest()

    def is_changed(self) -> bool:
        """Tell whether the last report was made with something else than what the stage depends on now."""
        last = read_report((SERVED if self.kind is Served else SAMPLES) / f"{self.key}.json", self.kind)
        return last is None or last.fingerprint != self.digest

    def is_due(self, request: Request) -> bool:
        """Tell whether this `dvc repro` runs the stage anyway."""
        stages = (self.stage, f"{self.stage}@{self.key}")
        return request.includes(stages) and (request.is_forced or self.is_changed())

    def leave(self, report: R, request: Request) -> None:
        """Write a report that was made with what the variant is now."""
        made = report.model_copy(update={"fingerprint": self.digest})
        write_json(self.path, Waiting(request=request.id, report=made.as_dict()).as_dict())

    def take(self, known: R | None, request: Request, run: Callable[[], None]) -> R:
        """Return the report: `known` before any run, or the one that waits.

        `run` is called where none waits that this repro may take: if nothing has changed since the last report, only
        one of this very repro is new.  WorkerError if what the row is timed with was edited meanwhile.
        """
        digest = self.digest
        report = known or self._find(digest, request.id if request.is_forced or not self.is_changed() else None)
        if report is None:
            run()
            _read.cache_clear()
            _content_hash.cache_clear()
            report = self._find(digest, None) if self.digest == digest else None
        if report is None:
            does, done = ("serves", "served") if self.kind is Served else ("times", "timed")
            reason = f"what it is {done} with changed while it was {done}: `dvc repro` {does} it again"
            raise WorkerError(f"{self.key}: {reason}")
        remove(self.path)  # taken, or out of date
        return report.model_copy(update={"fingerprint": digest})

    def _find(self, digest: str, request_id: str | None) -> R | None:
        if not self.path.is_file():
            return None
        hint = "remove it, then `dvc repro`"
        waiting = read_model(self.path, hint, Waiting)
        report: R = checked(waiting.report, self.kind, self.path, hint, is_strict=True)
        is_of_repro = request_id is None or (request_id and waiting.request == request_id)
        return report if report.fingerprint == digest and is_of_repro else None


def timed_place(key: str, variant: Variant) -> Place[Report]:
    return Place(key, variant, "infer_tensorrt" if variant.runtime == "tensorrt" else "infer", Report)


def served_place(key: str, variant: Variant) -> Place[Served]:
    return Place(key, variant, "serve", Served)
