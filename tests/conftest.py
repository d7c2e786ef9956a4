"""A small copy of the project to run for real: dvc, git, torch and onnxruntime on a tiny model."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock
from made_models import MadeModels

from bench.machine.environment import probe_cuda
from bench.machine.lock import FOLDER_VARIABLE

ROOT = Path(__file__).resolve().parent.parent
STAND_INS = Path(__file__).resolve().parent / "stand_ins"
"""Modules that stand for another machine: its folder goes into PYTHONPATH."""
COPIED = (
    "bench",
    "compare",
    "fleet",
    "run.py",
    "stages",
    "dvc.yaml",
    "requirements.txt",
    "requirements.lock",
    "runs/README.md",
    "results/.gitignore",
    ".dvcignore",
    ".dvc/config",
    ".dvc/.gitignore",
    "artifacts/.gitignore",
    "artifacts/engines/.gitignore",
    "artifacts/onnx/.gitignore",
    "artifacts/served/.gitignore",
    ".gitignore",
)
TINY_VARIANTS: dict[str, Any] = {
    "torch_cpu_fp32": {"runtime": "pytorch", "device": "cpu", "precision": "fp32", "graph": "model"},
    "ort_cpu_fp32": {"runtime": "onnxruntime", "device": "cpu", "precision": "fp32", "graph": "onnx/fp32.onnx"},
    "ort_cpu_int8": {"runtime": "onnxruntime", "device": "cpu", "precision": "int8", "graph": "onnx/int8_dynamic.onnx"},
    "ort_cuda_fp16": {"runtime": "onnxruntime", "device": "cuda", "precision": "fp16", "graph": "onnx/fp16_fused.onnx"},
}


HAS_GPU = probe_cuda(0) is not None
NEED_RUNS = {"fresh", "measured"}
"""Fixtures whose tests take longest, and start first."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the slow tests too")
    parser.addoption("--update-golden", action="store_true", help="write tests/golden and the schema anew")


def pytest_report_header(config: pytest.Config) -> str:
    return "slow tests: run too" if config.getoption("--slow") else "slow tests: left out, --slow runs them too"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is slow unless it is asked for, and let the longest tests start first."""
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow and not config.getoption("--slow"):
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    fixtures = set(getattr(item, "fixturenames", ()))
    return next(
        turn
        for turn, is_so in enumerate((item.get_closest_marker("slow"), fixtures & NEED_RUNS, "made" in fixtures, True))
        if is_so
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not HAS_GPU:
        pytest.skip("needs an NVIDIA GPU")


def tiny_params() -> dict[str, Any]:
    """Return the project's params.yaml with a tiny model, few variants and little timing."""
    params: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["model"]["source"] = "synthetic"
    params["model"]["synthetic"] |= {"layers": 2, "dim": 32, "heads": 2, "hidden_dim": 64, "vocab_size": 400}
    params["dataset"]["source"] = "builtin"
    params["sequence_length"] = 32
    params["batch_sizes"] = {"cpu": [1, 2], "cuda": [1, 2]}
    params["timing"] |= {"minutes": 0.05, "warmup_runs": 1, "cpu_threads": 1}
    params["serving"] |= {
        "variants": ["ort_cpu_fp32"],
        "p99_ms": {"cpu": 250, "cuda": 10},  # kept on a busy machine too
        "max_batch": {"cpu": 2, "cuda": 2},
        "minutes": 0.15,
        "seconds": 0.1,
        "search": False,
    }
    params["int8"]["calibration_sentences"] = 4
    params["baselines"] = {"cpu": "ort_cpu_fp32"}  # the quickest to start again beside others
    params["variants"] = {key: dict(variant) for key, variant in TINY_VARIANTS.items()}
    params["tensorrt_variants"] = {"ort_tensorrt_fp16": dict(params["tensorrt_variants"]["ort_tensorrt_fp16"])}
    return params


def leave_pytorch(params: dict[str, Any]) -> None:
    """Take away the row whose processes take longest to start."""
    del params["variants"]["torch_cpu_fp32"]


class Project:
    """A copy of the project in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "CI": "true",
            "NO_COLOR": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            FOLDER_VARIABLE: str(folder.with_name(f"{folder.name}-lock")),
        }

    def run(self, *command: str, code: int | None = 0, **settings: Any) -> subprocess.CompletedProcess[str]:
        """Run a command in the copy; fail the test on another exit code, unless `code` is None."""
        environment = {**self.environment, **settings.pop("environment", {})}
        ended = subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
            **settings,
        )
        if code is not None and ended.returncode != code:
            pytest.fail(f"{' '.join(command)}: exit code {ended.returncode}\n{ended.stdout}\n{ended.stderr}")
        return ended

    def python(self, *arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
        """Run this Python in the copy."""
        return self.run(sys.executable, *arguments, **settings)

    def script(self, path: str, *arguments: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a script of the copy as `python PATH` does, but in this process and with this checkout's modules.

        Fails the test on another exit code; an error that is no user's is the test's.  For what starts no worker.
        """
        told, problem, ended = io.StringIO(), io.StringIO(), 0
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(told), redirect_stderr(problem):
            patch.chdir(self.folder)
            patch.setattr(sys, "argv", [path, *arguments])
            for name, value in {**self.environment, **environment}.items():
                patch.setenv(name, value)
            sys.path.insert(0, stages := str(self.folder / "stages"))
            try:
                runpy.run_path(path, run_name="__main__")
            except SystemExit as end:
                ended = int(end.code is not None) if not isinstance(end.code, int) else end.code
                problem.write(f"{end.code}\n" if isinstance(end.code, str) else "")
            finally:
                sys.path.remove(stages)  # and nothing else: libraries add folders of their own
        if ended != code:
            pytest.fail(f"{path}: exit code {ended}\n{told.getvalue()}\n{problem.getvalue()}")
        return subprocess.CompletedProcess([path, *arguments], ended, told.getvalue(), problem.getvalue())

    def stale(self, **settings: Any) -> set[str]:
        """Run `probe` in a new Python, with settings, and return the stages that `dvc repro` would run now.

        Those that `dvc status` names, and all that need what these write; without barriers, which are run here: what
        they write changes only with what all rows share.  One is too many where a stage writes again what was there:
        `check_rows` after another picture of the same table; one too few is `serve_text` of a row that is served anew.
        """
        from dvc.repo import Repo

        run: Callable[..., object] = partial(self.python, **settings) if settings else self.script
        self.python("stages/probe.py", **settings)  # what is imported already may state another version
        for name in ("cpu", "cuda", "serving"):
            run("stages/barrier.py", name)
        served = self.params()["serving"]["variants"]
        if all((self.folder / f"artifacts/served/{key}.json").exists() for key in served):
            for name in ("cpu", "cuda"):
                run("stages/text_barrier.py", name)
        with pytest.MonkeyPatch.context() as patch, Repo(str(self.folder)) as repo:
            patch.chdir(self.folder)  # which names of stages are relative to
            changed = set(repo.status()) - {"probe"}
            graph = repo.index.graph
            # A barrier's file is of what its stage names; folders of others' results are only waited for.
            shared = {dep.def_path for stage in graph if "barrier" in stage.name for dep in stage.deps}
            waiting = [stage for stage in graph if stage.addressing in changed]
            found: set[str] = set()
            while waiting:
                stage = waiting.pop()
                if stage.addressing in found or "barrier" in stage.name:
                    continue
                found.add(stage.addressing)
                after = list(graph.predecessors(stage))
                if shared & {out.def_path for out in stage.outs}:
                    after += [row for each in after if "barrier" in each.name for row in graph.predecessors(each)]
                waiting += after
        return found

    def dvc(self, *arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
        """Run dvc in the copy."""
        return self.python("-m", "dvc", *arguments, **settings)

    def repro(self, *arguments: str, **settings: Any) -> set[str]:
        """Run `dvc repro` and return the stages that ran."""
        return stages_run(self.dvc("repro", *arguments, **settings).stdout)

    def read(self, name: str) -> str:
        """Return the text of one of the copy's files."""
        return (self.folder / name).read_text(encoding="utf-8")

    def report(self, key: str) -> dict[str, Any]:
        """Return what was timed of a row: `cells` by batch size, `processes`, and `failure` where it failed."""
        [path] = (self.folder / "artifacts/samples").rglob(f"{key}.json")
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content

    def cells(self, key: str) -> dict[int, dict[str, Any]]:
        """Return the figures of a row by its batch sizes."""
        return {int(size): cell for size, cell in self.report(key)["cells"].items()}

    def rows(self, name: str = "results/summary.csv") -> list[dict[str, str]]:
        """Return the rows of one of the result tables."""
        return list(csv.DictReader(self.read(name).splitlines()))

    @contextmanager
    def mended(self, *names: str) -> Iterator[None]:
        """Put files of the copy back as they were when the block ends."""
        before = {name: (self.folder / name).read_bytes() for name in names}
        try:
            yield
        finally:
            for name, content in before.items():
                (self.folder / name).write_bytes(content)

    def params(self) -> dict[str, Any]:
        """Return the copy's params.yaml."""
        content: dict[str, Any] = yaml.safe_load(self.read("params.yaml"))
        return content

    def set_params(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the copy's params.yaml."""
        content = self.params()
        change(content)
        self.write_params(content)

    def write_params(self, content: dict[str, Any]) -> None:
        """Replace the copy's params.yaml."""
        (self.folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")

    def commit(self, message: str) -> None:
        """Commit everything."""
        self.run("git", "add", "-A")
        self.run("git", "commit", "--quiet", "--allow-empty", "-m", message)


def stages_run(output: str) -> set[str]:
    """Return the stages that a `dvc repro` ran, by what it said."""
    return set(re.findall(r"^Running stage '([^']+)'", output, flags=re.M))


def make_project(folder: Path) -> Project:
    """Copy the project to `folder`, with tiny parameters and a git history of one commit."""
    for name in COPIED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    project = Project(folder)
    project.write_params(tiny_params())
    project.run("git", "init", "--quiet", "--initial-branch", "main")
    project.run("git", "config", "user.email", "tests@example.com")
    project.run("git", "config", "user.name", "tests")
    project.commit("Start")
    return project


def copy_of(project: Project, folder: Path) -> Iterator[Project]:
    """Yield a copy of a project in `folder`, on the same machine, and remove it afterwards."""
    shutil.copytree(project.folder, folder, symlinks=True)
    copied = Project(folder)
    copied.environment = {**project.environment, FOLDER_VARIABLE: copied.environment[FOLDER_VARIABLE]}
    yield copied
    shutil.rmtree(folder, ignore_errors=True)


def shim(project: Project, name: str, text: str) -> dict[str, str]:
    """Put a module in front of those of the project's machine, to stand for another machine."""
    folder = project.folder / "shim"
    folder.mkdir()
    (folder / name).write_text(text, encoding="utf-8")
    return in_front(project, folder)


def in_front(project: Project, *folders: Path) -> dict[str, str]:
    """Return the PYTHONPATH that puts these folders' modules before those of the project's machine."""
    paths = (*map(str, folders), project.environment.get("PYTHONPATH"))
    return {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """Return the folder that all test processes of this run share."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def shared_project(
    factory: pytest.TempPathFactory, name: str, fill: Callable[[Project], object], start: Project | None = None
) -> Project:
    """Return a project that is made once for all test processes, from `start` or anew; read it, do not change it."""
    folder = shared_folder(factory) / name
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            place = folder.with_suffix(".unfinished")
            if place.exists():
                pytest.fail(f"the project {name!r} could not be made: another test tells why")
            if start:
                shutil.copytree(start.folder, place, symlinks=True)
            unfinished = Project(place) if start else make_project(place)
            fill(unfinished)
            place.rename(folder)
    return Project(folder)


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy in which nothing has run; read it, do not change it."""
    return shared_project(tmp_path_factory, "fresh", lambda _project: None)


@pytest.fixture
def project(fresh: Project, tmp_path: Path) -> Iterator[Project]:
    """A copy in which nothing has run, to be changed."""
    yield from copy_of(fresh, tmp_path / "project")


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy in which the whole pipeline ran once; read it, do not change it."""

    def measure(project: Project) -> None:
        project.repro()
        project.commit("Measure")

    return shared_project(tmp_path_factory, "measured", measure)


@pytest.fixture
def measured_copy(measured: Project, tmp_path: Path) -> Iterator[Project]:
    """A copy of the measured project, to be changed."""
    yield from copy_of(measured, tmp_path / "copy")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeModels:
    """Return a tiny model of a kind with its graphs, each made once for all test processes: `made("bert")`."""
    return MadeModels(shared_folder(tmp_path_factory) / "models")
