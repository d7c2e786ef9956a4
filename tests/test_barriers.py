"""What all rows of a device share is tracked once: the file that they depend on holds all that its stage lists."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, tiny_params

STAGES: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
ENVIRONMENT = {
    "cpu": {"model": "A CPU", "cores": 2},
    "cuda": None,
    "os": "Linux",
    "python": "3.12.3",
    "versions": {"mlcommons_loadgen": "6.0.17", "torch": "2.13.0"},
    "runtimes": {},
    "variables": {"MALLOC_ARENA_MAX": "1"},
}
PROVENANCE = {"model": "a model", "model_is_real": False, "sentences": "built-in sentences"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's files that the barriers read."""
    files = {
        "params.yaml": yaml.safe_dump(tiny_params()),
        "metrics/env.json": json.dumps(ENVIRONMENT),
        "metrics/model.json": json.dumps(PROVENANCE),
        "artifacts/inputs/evaluation.npz": "sentences",
        "dvc.yaml": (ROOT / "dvc.yaml").read_text(encoding="utf-8"),
        "bench/timing/worker.py": "turns = 1",
        "bench/serving/worker.py": "rates = 1",
        "stages/infer.py": "turns = 1",
        "stages/serve.py": "rates = 1",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT / "stages")
    return tmp_path


def barrier(folder: Path, item: str) -> dict[str, Any]:
    """Run a barrier's script and return what it wrote."""
    sys.argv = ["barrier", item]
    runpy.run_path(str(ROOT / "stages/barrier.py"), run_name="__main__")
    content: dict[str, Any] = json.loads((folder / f"artifacts/barriers/{item}.json").read_text(encoding="utf-8"))
    return content


def listed(stage: str, item: str) -> tuple[list[str], list[str]]:
    """Return the parameters and the keys of metrics/env.json that dvc.yaml lists for a barrier."""
    definition = STAGES[stage]
    params = definition.get("do", definition)["params"]
    of_machine = next(entry["metrics/env.json"] for entry in params if isinstance(entry, dict))
    return [entry for entry in params if isinstance(entry, str)], [key.replace("${item}", item) for key in of_machine]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_barrier_holds_what_its_stage_lists(device: str, folder: Path) -> None:
    found, params = barrier(folder, device), tiny_params()
    of_params, of_machine = listed("barrier", device)
    assert {name: found[name] for name in of_params} == {name: params[name] for name in of_params}
    assert found["machine"] == {name: ENVIRONMENT[name] for name in of_machine}
    assert set(found) == {*of_params, "machine", "model", "inputs", "code", "clone"}
    assert found["model"] == PROVENANCE


def test_the_serving_barrier_holds_what_its_stage_lists(folder: Path) -> None:
    found, params = barrier(folder, "serving"), tiny_params()
    of_params, of_machine = listed("serving_barrier", "serving")
    assert {f"serving.{name}" for name in found["serving"]} == set(of_params)
    assert found["serving"] == {name: params["serving"][name] for name in found["serving"]}
    assert of_machine == ["versions.mlcommons_loadgen", "versions.tokenizers"]
    assert found["versions"] == {"mlcommons_loadgen": "6.0.17"}


def test_other_sentences_change_a_barrier(folder: Path) -> None:
    before = barrier(folder, "cpu")
    (folder / "artifacts/inputs/evaluation.npz").write_text("others", encoding="utf-8")
    assert barrier(folder, "cpu") != before


@pytest.mark.parametrize(("item", "package"), [("cpu", "timing"), ("serving", "serving"), ("serving", "timing")])
def test_other_code_changes_the_barriers_that_list_it(item: str, package: str, folder: Path) -> None:
    before = barrier(folder, item)["code"]
    (folder / f"bench/{package}/worker.py").write_text("turns = 2", encoding="utf-8")
    after = barrier(folder, item)["code"]
    assert {name for name in after if after[name] != before[name]} == {f"bench/{package}"}


@pytest.mark.parametrize(("item", "name"), [("cpu", "stages/infer.py"), ("serving", "stages/serve.py")])
def test_another_script_of_the_rows_changes_their_barrier(item: str, name: str, folder: Path) -> None:
    before = barrier(folder, item)["code"]
    (folder / name).write_text("turns = 2", encoding="utf-8")
    after = barrier(folder, item)["code"]
    assert {name for name in after if after[name] != before[name]} == {name}
    assert "stages/barrier.py" not in after


@pytest.mark.parametrize("stage", ["infer", "infer_tensorrt"])
def test_a_timed_row_depends_on_its_devices_barrier(stage: str) -> None:
    assert "artifacts/barriers/${item.device}.json" in STAGES[stage]["do"]["deps"]
