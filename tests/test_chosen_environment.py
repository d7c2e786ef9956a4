"""What a user's shell holds never changes what is timed unseen: it is taken out and named, or recorded."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, Project, in_front

from bench.core.model_inputs import Batch
from bench.core.params import Variant
from bench.core.reports import Evidence
from bench.core.variables import CLEARED, KEPT, RECORDED, chosen_variables, is_cleared, recorded_variables
from bench.machine import lock
from bench.runtimes.base.session import SessionSpec
from bench.runtimes.pytorch import open_session
from bench.timing.evidence import contradiction

SLOWING = {
    "TORCHDYNAMO_DISABLE": "1",
    "TORCH_COMPILE_DISABLE": "1",
    "OMP_WAIT_POLICY": "passive",
    "MKL_CBWR": "COMPATIBLE",
    "ATEN_CPU_CAPABILITY": "default",
    "DNNL_MAX_CPU_ISA": "SSE41",
    "CUDA_LAUNCH_BLOCKING": "1",
    "NVIDIA_TF32_OVERRIDE": "1",
    "CUBLAS_WORKSPACE_CONFIG": ":16:8",
    "ORT_DISABLE_ALL": "1",
    "PYTHONDEVMODE": "1",
}


def test_workers_are_not_given_what_changes_speed_or_arithmetic() -> None:
    base = {**SLOWING, "HOME": "/home/someone", "CUDA_PATH": "/cuda", "LD_PRELOAD": "liba.so"}
    left = chosen_variables(base, threads=3, gpu="GPU-1")
    assert left == {
        "HOME": "/home/someone",
        "CUDA_PATH": "/cuda",
        "LD_PRELOAD": "liba.so",
        "OMP_NUM_THREADS": "3",
        "MKL_NUM_THREADS": "3",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": "GPU-1",
    }


def test_what_cannot_be_taken_back_is_recorded_without_paths_and_makes_rows_stale(measured_copy: Project) -> None:
    assert recorded_variables({"LD_PRELOAD": "/home/me/liba.so /x/libb.so", "MALLOC_CONF": "a:1", "HOME": "/h"}) == {
        "LD_PRELOAD": "liba.so libb.so",
        "MALLOC_CONF": "a:1",
    }
    compiler = {"CXX": "/opt/g++-9", "CXXFLAGS": "-O0", "CPATH": "/usr/include"}
    assert recorded_variables({**compiler, "CXX11": "1"}) == {"CPATH": "include", "CXX": "g++-9", "CXXFLAGS": "-O0"}
    changed = measured_copy.stale(environment={"MALLOC_TRIM_THRESHOLD_": "99999"})
    assert {"measure_peaks", "infer@torch_cpu_fp32", "infer@ort_cpu_fp32"} <= changed
    measured_copy.script("stages/render.py")
    assert "Variables in force: MALLOC_TRIM_THRESHOLD_=99999" in measured_copy.read("results/summary_table.md")


def test_probe_names_what_is_not_passed_on_and_nothing_is_stale(measured_copy: Project) -> None:
    told = measured_copy.python("stages/probe.py", environment=SLOWING).stdout
    line = next(line for line in told.splitlines() if line.startswith("not passed on to what is measured"))
    for name, value in SLOWING.items():
        assert f"{name}={value}" in line
    assert not measured_copy.stale(environment=SLOWING)


def test_the_page_lists_every_variable_that_is_taken_out_or_recorded() -> None:
    page = (ROOT / "docs/machine.md").read_text(encoding="utf-8")
    for name in (*(name for names in CLEARED.values() for name in names), *KEPT, *RECORDED):
        assert f"`{name}`" in page


def test_what_a_stage_imports_finds_none_of_them(measured_copy: Project) -> None:
    code = "import _project, os, json; print(json.dumps(sorted(os.environ)))"
    found = measured_copy.python(
        "-c", code, environment={**SLOWING, **in_front(measured_copy, measured_copy.folder / "stages")}
    )
    assert not [name for name in json.loads(found.stdout) if is_cleared(name)]


def compiled_evidence(project: Project) -> Evidence:
    import numpy as np

    spec = SessionSpec(
        device="cpu",
        precision="fp32",
        graph=project.folder / "artifacts/model",
        options={"compile": "default"},
        batch_sizes=[1],
        sequence_length=8,
        cpu_threads=1,
        engine=None,
        engine_options={},
    )
    session = open_session(spec)
    session.run(Batch(np.ones((1, 8), dtype=np.int64), np.ones((1, 8), dtype=np.int64)))
    return session.evidence()


@pytest.mark.parametrize(("backend", "is_compiled"), [("eager", True), (None, False)])
def test_a_compiled_row_proves_that_compiled_code_ran(
    backend: str | None, is_compiled: bool, measured: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backend `eager` runs what was captured without a C++ compiler; without any the model itself is called."""
    import torch

    compile_by = torch.compile

    def compile_or_not(function: Callable[..., object], **settings: object) -> object:
        settings.pop("mode")
        return compile_by(function, backend=backend, **settings) if backend else function

    monkeypatch.setattr(torch, "compile", compile_or_not)
    monkeypatch.setattr("bench.runtimes.base.torch_model.check_compiler", lambda: None)
    row = Variant(runtime="pytorch", device="cpu", precision="fp32", graph="model", options={"compile": "default"})
    found = contradiction(row, compiled_evidence(measured))
    assert found == ("" if is_compiled else "wanted compiled code, observed 1 calls of the model without it")


def test_two_clones_with_unlike_settings_share_one_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(lock.FOLDER_VARIABLE, raising=False)
    places = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for variable in ("TMPDIR", "TEMP", "TMP", "HOME", "XDG_CACHE_HOME"):
            monkeypatch.setenv(variable, str(tmp_path / name))
        places.add(lock.shared_folder())
    assert len(places) == 1


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX systems")
def test_the_locks_folder_is_open_to_all_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(lock.FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(lock, "shared_folder", lambda: tmp_path / "shared")
    assert lock.lock_folder() == tmp_path / "shared"
    assert (tmp_path / "shared").stat().st_mode & 0o7777 == 0o777


def test_without_a_common_place_the_lock_is_the_users_own_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(lock.FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(lock, "shared_folder", lambda: tmp_path / "missing" / "shared")
    assert lock.lock_folder().is_relative_to(Path.home())
    assert "is not writable: other users of this machine could time at the same time" in capsys.readouterr().out
