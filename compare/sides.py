"""A side of a comparison: a clone with its environment and its graphs, made beside the workspace, which stays as it is.

What a side's pipeline has made before is found in the workspace's DVC cache.
"""

import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

from bench.core.errors import DataError, ParameterError, WorkerError
from bench.core.paths import ARTIFACTS
from bench.core.progress import log
from bench.workers.protocol import PROTOCOL
from compare.describe import Description

FOLDER = ARTIFACTS / "compare"
ENVIRONMENTS = FOLDER / "environments"
LOCK, REQUIREMENTS = "requirements.lock", "requirements.txt"
USER_PATHS = (("model", "path"), ("dataset", "path"), ("dataset", "calibration_path"))
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)
WITH = re.compile(r"([A-Za-z0-9._-]+)==(\S+)")
CHECKOUT = ("dvc", "checkout", "--quiet", "--allow-missing")
"""Brings what dvc.lock names from the cache, as far as it is there."""
GIB = 2**30
LAST_WORDS = 15


@dataclass
class Side:
    """A side as it was asked for; `place`: where its clone lies, `with_`: packages of other versions."""

    label: str
    asked: str
    workspace: Path
    place: Path
    with_: Sequence[str] = ()
    settings: Sequence[str] = ()
    python: str = sys.executable
    changed: list[str] = field(default_factory=list)
    """Files that its commit does not have as they are."""
    described: Description = field(init=False)

    @cached_property
    def source(self) -> Path:
        """The repository that it is cloned from."""
        return Path(self.asked).absolute() if self._is_folder else self.workspace

    @property
    def _is_folder(self) -> bool:
        return (Path(self.asked) / "dvc.yaml").is_file()

    @cached_property
    def commit(self) -> str:
        """Its commit; ParameterError where there is none of that name."""
        name = "HEAD" if self._is_folder else self.asked
        command = ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"]
        found = _run(command, self.source)
        if found.returncode:
            raise ParameterError(
                f"compare: {self.asked}: neither a folder of this project with a commit nor a git revision (in CI, "
                "check out the whole history: fetch-depth: 0)"
            )
        return found.stdout.strip()

    def clone(self) -> None:
        """Clone it anew; DataError where its workers could not be driven from here."""
        if self.place.exists():
            shutil.rmtree(self.place, onerror=_writable)
        _checked(self.source, "clone", "--quiet", "--shared", "--no-checkout", ".", str(self.place))
        _checked(self.place, "checkout", "--quiet", "--detach", self.commit)
        files = ["dvc.lock", *_files(self.source, "metrics")]
        if self._is_folder:
            found = _checked(self.source, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=all")
            files = [entry[3:] for entry in found.split("\0") if entry]
        for name in files:
            _copy(self.source / name, self.place / name)
        self.changed = files if self._is_folder else []
        self._check_format()
        cache = _run([sys.executable, "-m", "dvc", "cache", "dir"], self.workspace).stdout.strip()
        (self.place / ".dvc/config.local").write_text(f"[cache]\n    dir = {cache}\n", encoding="utf-8")
        self._set_params()

    def _check_format(self) -> None:
        known = re.search(r"^PROTOCOL = (\d+)$", _text(self.place / "bench/workers/protocol.py"), re.MULTILINE)
        if not known or not (self.place / "compare/describe.py").is_file():
            raise DataError(f"compare: {self.asked} is from before `compare`: its rows cannot be driven from here")
        if int(known[1]) != PROTOCOL:
            raise DataError(
                f"compare: the workers of {self.asked} speak protocol {known[1]}, those of this checkout {PROTOCOL}: "
                "compare revisions of one protocol"
            )

    def _set_params(self) -> None:
        yaml, path = YAML(), self.place / "params.yaml"
        params = yaml.load(path)
        for section, key in USER_PATHS:
            params[section][key] = _absolute(params[section].get(key), self.source)
        for setting in self.settings:
            name, equals, value = setting.partition("=")
            *sections, last = name.split(".")
            at = params
            for part in sections:
                at = at.get(part) if isinstance(at, dict) else None
            if not equals or not isinstance(at, dict):
                raise ParameterError(f"compare: -S {setting}: allowed: KEY=VALUE with a key of params.yaml")
            given = YAML(typ="safe").load(value)
            at[last] = _absolute(given, self.workspace) if (*sections, last) in USER_PATHS else given
        if params != yaml.load(path):
            yaml.dump(params, path)

    def variants(self) -> dict[str, dict[str, Any]]:
        """Return the rows of its params.yaml."""
        params = YAML(typ="safe").load(self.place / "params.yaml")
        return {**params["variants"], **params["tensorrt_variants"]}

    def resolve(self) -> Path | None:
        """Return its pins where they are not this environment's."""
        pins = self._resolved() if self.with_ else self.place / LOCK
        if pins.read_bytes() == (self.workspace / LOCK).read_bytes():
            return None
        digest = hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()[:16]
        kept = (ENVIRONMENTS / f"{digest}.lock").absolute()
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(pins, kept)
        return kept

    def _resolved(self) -> Path:
        """Resolve anew with other versions of some packages; all others move no further than they must."""
        wanted = dict[str, str]()
        for each in self.with_:
            if not (found := WITH.fullmatch(each)):
                raise ParameterError(f"compare: --with {each}: allowed: PACKAGE==VERSION")
            wanted[canonicalize_name(found[1])] = found[2]
        lines = _text(self.place / REQUIREMENTS).splitlines()
        kept = [_repinned(line, wanted) for line in lines]
        named = {canonicalize_name(found[1]) for line in lines if (found := PIN.match(line))}
        kept += [f"{name}=={version}" for name, version in wanted.items() if name not in named]
        given, pins = self.place.with_name("with.txt"), self.place.with_name("with.lock")
        given.write_text("\n".join(kept) + "\n", encoding="utf-8")
        shutil.copyfile(self.place / LOCK, pins)
        command = ["pip", "compile", "--quiet", "--generate-hashes", "--no-header", "--no-annotate"]
        command += ["--python", sys.executable, "--output-file", str(pins), str(given)]
        if subprocess.call([sys.executable, "-m", "uv", *command], cwd=self.place):
            raise WorkerError(f"compare: no environment with {', '.join(self.with_)}: uv's last words stand above")
        resolved: dict[str, str] = {canonicalize_name(name): version for name, version in PIN.findall(_text(pins))}
        for name, version in wanted.items():
            if resolved.get(name) != version:
                others = ", ".join(sorted(each for each in resolved if each.startswith(name))) or "none"
                raise ParameterError(
                    f"compare: --with {name}=={version}: requirements.txt has it for other machines only; of that name "
                    f"here: {others}"
                )
        return pins

    def make(self, pins: Path | None, rows: Iterable[str], other: "Side | None" = None) -> None:
        """Make environment and graphs, of which another side may have the same; WorkerError where that fails."""
        if pins:
            from run import Environment

            environment = Environment(pins.with_suffix(""))
            if environment.prepare(str(pins)):
                raise WorkerError(f"compare: the environment of {self.label} could not be made: see above")
            self.python = str(environment.python)
        own = self.variants()
        targets = dict.fromkeys(["export_onnx"])
        for key in rows:
            graph = Path(own[key]["graph"]) if key in own else None
            if graph and graph.stem not in ("model", "fp32"):
                targets[f"convert_onnx@{graph.stem}"] = None
            if key in own and own[key]["runtime"] == "tensorrt":
                targets[f"build_engine@{key}"] = None
        log(f"{self.label}: making its graphs ({self._log.relative_to(self.workspace).as_posix()})")
        self._log.unlink(missing_ok=True)
        self._run("dvc", "repro", "probe")
        self._run(*CHECKOUT)
        for made in [self._made, *([other.place] if other else [])]:
            self._take_over(made, targets)
        self._run("dvc", "repro", *targets)
        for name in ["dvc.lock", *_files(self.place, "metrics")]:
            _copy(self.place / name, self._made / name)
        path = self.place.with_suffix(".json").absolute()
        self._run("compare.describe", str(path), *rows)
        self.described = Description.read(path)

    def _take_over(self, made: Path, targets: Iterable[str]) -> None:
        """Take what another side, or this one before, made of stages stale here; DVC tells where it does not fit."""
        if not made.exists():
            return
        found = _run([self.python, "-m", "dvc", "status", "--json", *targets], self.place)
        yaml, lock = YAML(typ="safe"), self.place / "dvc.lock"
        own, theirs = (yaml.load(folder / "dvc.lock") for folder in (self.place, made))
        stale = json.loads(found.stdout or "{}").keys() & theirs["stages"].keys() - {"probe"}
        for name in stale:
            own["stages"][name] = theirs["stages"][name]
            for out in own["stages"][name].get("outs", ()):
                if out["path"].startswith("metrics/"):
                    _copy(made / out["path"], self.place / out["path"])
        if stale:
            yaml.dump(own, lock)
            self._run(*CHECKOUT)

    @property
    def _made(self) -> Path:
        """Where the lock and the metrics of its last making are kept."""
        return self.place.with_suffix(".made")

    @property
    def _log(self) -> Path:
        return self.place.with_suffix(".log")

    def _run(self, module: str, *arguments: str) -> None:
        path = f"{Path(self.python).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        command = [self.python, "-m", module, *arguments]
        with self._log.open("ab") as said:
            code = subprocess.call(command, cwd=self.place, env={**os.environ, "PATH": path}, stdout=said, stderr=said)
        if code:
            last = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_WORDS:]
            words = "".join(f"\n       {line}" for line in last)
            raise WorkerError(f"compare: {self.label} ({self.asked}) could not be measured:{words}")


def check_space(sides: Sequence[Side], pins: Sequence[Path | None]) -> None:
    """Say how much disk two sides need; WorkerError where that is more than is free."""
    new = {each for each in pins if each and not (each.with_suffix("") / "made_for.txt").exists()}
    artifacts = sum(_bytes(ARTIFACTS / name) for name in ("model", "inputs", "onnx", "engines"))
    needed = len(sides) * artifacts + (len(new) * _bytes(Path(sys.prefix)) if new else 0)
    free = shutil.disk_usage(FOLDER).free
    log(f"compare needs up to {needed / GIB:.1f} GiB ({len(new)} new environments); {free / GIB:.1f} GiB are free")
    if needed > free:
        raise WorkerError(f"compare: the disk is too small: free some space, or remove {ENVIRONMENTS.as_posix()}")


def _repinned(line: str, wanted: Mapping[str, str]) -> str:
    found = PIN.match(line)
    version = wanted.get(canonicalize_name(found[1])) if found else None
    return f"{found[1]}=={version}{line[found.end() :]}" if found and version else line


def _absolute(path: Any, base: Path) -> Any:
    return str(base / path) if isinstance(path, str) and not path.startswith("~") else path


def _bytes(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(each.lstat().st_size for each in files if each.is_file())


def _files(folder: Path, name: str) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in (folder / name).rglob("*") if path.is_file()]


def _copy(source: Path, target: Path) -> None:
    """Copy a file; one that is gone goes."""
    if source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    else:
        target.unlink(missing_ok=True)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _writable(remove: Any, path: str, _problem: object) -> None:
    """Remove what git wrote, which Windows keeps as long as it is read-only."""
    Path(path).chmod(stat.S_IWRITE)
    remove(path)


def _run(command: Sequence[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    quiet = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}  # else `git status` writes the index
    return subprocess.run(command, cwd=folder, env=quiet, capture_output=True, encoding="utf-8", check=False)


def _checked(folder: Path, *arguments: str) -> str:
    ended = _run(["git", *arguments], folder)
    if ended.returncode:
        raise WorkerError(f"compare: git {arguments[0]} failed: {ended.stderr.strip()}")
    return ended.stdout
