"""Each stage in dvc.yaml lists exactly the packages that it runs, and no package imports from a floor above its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from project_imports import ROOT, RUNTIMES, closure, holds_only_a_docstring, packages

from bench.core.params import MADE_WITH

STAGES: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
RUNTIME_FILES = sorted(f"{RUNTIMES}/{path.name}" for path in (ROOT / RUNTIMES).glob("*.py") if path.stem != "__init__")
WORKER = "bench/timing/worker.py"
ENTRY_POINTS = {
    "probe": RUNTIME_FILES,
    "build_engine": [f"{RUNTIMES}/tensorrt.py"],
    "infer": [WORKER],
    "infer_tensorrt": [WORKER, f"{RUNTIMES}/tensorrt.py"],
    "serve": ["bench/serving/worker.py"],
    "barrier": ["stages/infer.py", WORKER],
    "serving_barrier": ["stages/serve.py", "bench/serving/worker.py"],
    "text_barrier": ["stages/serve_text.py", "bench/serving/worker.py"],
    "serve_text": ["bench/serving/worker.py"],
}
"""What a stage, or the rows behind a barrier, run besides its script: workers and runtimes, found by name."""
TIMED = ("infer", "infer_tensorrt", "build_engine")
EVERY_RUNTIME = "bench/runtimes"
OWN_RUNTIME = "bench/runtimes/${item.runtime}.py"
"""How `infer` names the one runtime's file that a variant uses."""

BARRIERS = {
    "artifacts/barriers/${item.device}.json": "barrier",
    "artifacts/barriers/serving.json": "serving_barrier",
    "artifacts/best/${item}.json": "text_barrier",
}
"""The files that hold the code all rows share, and the stages that list it for them."""


OF_ROWS = {
    "barrier": ["stages/infer.py"],
    "serving_barrier": ["stages/serve.py"],
    "text_barrier": ["stages/serve_text.py"],
}
"""The rows' scripts, which a barrier lists beside its own."""


def script(stage: str) -> str:
    """Return the script that a stage's command runs."""
    definition = STAGES[stage]
    return str(definition.get("do", definition)["cmd"]).split()[1]


def deps(stage: str) -> set[str]:
    definition = STAGES[stage]
    return {str(dep) for dep in definition.get("do", definition)["deps"]}


def listed(stage: str) -> set[str]:
    """Return the packages that a stage or its barrier lists, without a variant's own runtime."""
    code = {dep for dep in deps(stage) if dep.startswith("bench/") and dep != OWN_RUNTIME}
    code |= set().union(*(listed(name) for file, name in BARRIERS.items() if file in deps(stage)))
    if EVERY_RUNTIME in code:
        code = (code - {EVERY_RUNTIME}) | {f"{RUNTIMES}/base", *RUNTIME_FILES}
    return code


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_lists_exactly_the_packages_it_runs(stage: str) -> None:
    assert listed(stage) == packages(closure(script(stage), *ENTRY_POINTS.get(stage, [])))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_or_its_barrier_lists_its_own_script_and_no_other(stage: str) -> None:
    scripts = {dep for dep in deps(stage) if dep.startswith("stages/")}
    if behind := BARRIERS.keys() & deps(stage):
        assert not scripts
        assert script(stage) in deps(BARRIERS[behind.pop()])
    else:
        assert scripts == {script(stage), *OF_ROWS.get(stage, [])}


def test_what_all_scripts_import_and_no_stage_lists_imports_the_ground_floor_alone() -> None:
    assert packages(closure("stages/_project.py")) == {"bench/core"}
    assert all("bench/core" in listed(stage) for stage in STAGES)


def test_what_no_stage_lists_between_the_packages_holds_no_code() -> None:
    for name in ("bench/__init__.py", "bench/runtimes/__init__.py"):
        assert holds_only_a_docstring(name)
    assert [path.name for path in (ROOT / "bench").glob("*.py")] == ["__init__.py"]


@pytest.mark.parametrize("path", RUNTIME_FILES)
def test_a_runtime_imports_from_no_package_that_its_stage_does_not_list(path: str) -> None:
    stage = "infer_tensorrt" if path.endswith("tensorrt.py") else "infer"
    assert packages(closure(path)) <= listed(stage) | {path}


def test_an_infer_stage_lists_its_own_runtimes_file_and_no_other() -> None:
    assert OWN_RUNTIME in deps("infer")
    assert not listed("infer") & set(RUNTIME_FILES)


@pytest.mark.parametrize("stage", TIMED)
@pytest.mark.parametrize(
    "package", ["report", "runs", "findings", "summary", "sources", "classifier", "graphs", "peaks"]
)
def test_what_does_not_change_how_a_model_is_timed_is_no_part_of_a_timed_stage(stage: str, package: str) -> None:
    assert f"bench/{package}" not in listed(stage)


FLOORS = (
    ("core", "statistics"),
    ("machine", "peaks", "sources", "inputs", "classifier"),
    ("graphs", "proof", "runtimes"),
    ("workers", "summary", "findings"),
    ("timing", "report"),
    ("runs",),
    ("serving",),
    ("deploy",),
)
"""The packages of bench/ from the ground floor up."""


def test_every_package_has_a_floor() -> None:
    there = {path.parent.name for path in (ROOT / "bench").glob("*/__init__.py")}
    assert there == {name for floor in FLOORS for name in floor}


@pytest.mark.parametrize("package", [name for floor in FLOORS for name in floor])
def test_a_package_imports_only_from_floors_below_its_own_and_from_neighbours_without_a_circle(package: str) -> None:
    height = {name: number for number, floor in enumerate(FLOORS) for name in floor}
    for name in _imports(package):
        assert height[name] <= height[package]
        assert height[name] < height[package] or package not in _imports(name)


def _imports(package: str) -> set[str]:
    """Return the other packages that the files of a package import from, directly or not."""
    files = [path.relative_to(ROOT).as_posix() for path in (ROOT / "bench" / package).rglob("*.py")]
    return {Path(name).parts[1] for name in closure(*files) if Path(name).parts[:1] == ("bench",)} - {
        package,
        "__init__.py",
    }


def test_the_library_imports_nothing_from_what_stands_on_it() -> None:
    above = ("stages/", "fleet/", "compare/", "validation/", "tools/", "run.py")
    for path in (ROOT / "bench").rglob("*.py"):
        assert not any(name.startswith(above) for name in closure(path.relative_to(ROOT).as_posix()))


def test_commands_are_plain_python_on_every_platform() -> None:
    for definition in STAGES.values():
        command = definition.get("do", definition)["cmd"]
        assert command.startswith("python stages/")
        assert not set(command) & set("|&;<>\\'\"")


@pytest.mark.parametrize("stage", MADE_WITH)
def test_a_stage_writes_down_the_parameters_that_it_lists(stage: str) -> None:
    definition = STAGES[stage]
    params = definition.get("do", definition)["params"]
    assert {entry for entry in params if isinstance(entry, str)} == MADE_WITH[stage]


def test_every_stage_has_a_script_and_every_script_a_stage() -> None:
    scripts = {path.relative_to(ROOT).as_posix() for path in (ROOT / "stages").glob("*.py")} - {"stages/_project.py"}
    assert scripts == {script(stage) for stage in STAGES}


def test_the_pipeline_can_be_read_in_one_sitting() -> None:
    assert len((ROOT / "dvc.yaml").read_text(encoding="utf-8").splitlines()) < 320
