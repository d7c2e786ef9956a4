"""Each stage in dvc.yaml lists exactly the project files that it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from project_imports import ROOT, RUNTIMES, closure

STAGES: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
RUNTIME_FILES = sorted(f"{RUNTIMES}/{path.name}" for path in (ROOT / RUNTIMES).glob("*.py"))
ENTRY_POINTS = {
    "probe": RUNTIME_FILES,
    "build_engine": ["bench/engine_worker.py", f"{RUNTIMES}/tensorrt.py"],
    "infer": ["bench/worker.py"],
    "control": ["bench/worker.py"],
    "infer_tensorrt": ["bench/worker.py", f"{RUNTIMES}/tensorrt.py"],
}
"""What a stage runs besides its script: worker processes and runtimes, found by name while running."""
SCRIPTS = {"infer_tensorrt": "stages/infer.py"}


def listed(stage: str) -> set[str]:
    definition = STAGES[stage]
    deps = definition.get("do", definition)["deps"]
    return {dep for dep in deps if dep.startswith(("bench/", "stages/")) and "${" not in dep}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_exactly_the_code_it_runs(stage: str) -> None:
    script = SCRIPTS.get(stage, f"stages/{stage}.py")
    assert listed(stage) == closure(script, *ENTRY_POINTS.get(stage, []))


@pytest.mark.parametrize("path", RUNTIME_FILES)
def test_a_runtime_imports_no_project_file_that_its_stage_does_not_list(path: str) -> None:
    stage = "infer_tensorrt" if path.endswith("tensorrt.py") else "infer"
    assert closure(path) <= listed(stage) | {path}


def test_an_infer_stage_lists_its_own_runtimes_file() -> None:
    assert "bench/runtimes/${item.runtime}.py" in STAGES["infer"]["do"]["deps"]


def test_plotting_code_is_no_part_of_a_timed_stage() -> None:
    for stage in ("infer", "infer_tensorrt", "build_engine"):
        assert not any(name.startswith("bench/report") for name in listed(stage))


def test_the_library_imports_nothing_from_the_stages() -> None:
    for path in (ROOT / "bench").rglob("*.py"):
        assert not any(name.startswith("stages/") for name in closure(path.relative_to(ROOT).as_posix()))


def test_commands_are_plain_python_on_every_platform() -> None:
    for definition in STAGES.values():
        command = definition.get("do", definition)["cmd"]
        assert command.startswith("python stages/")
        assert not set(command) & set("|&;<>\\'\"")


def test_every_stage_has_a_script_of_its_name() -> None:
    for stage in STAGES:
        assert Path(ROOT / SCRIPTS.get(stage, f"stages/{stage}.py")).is_file()
