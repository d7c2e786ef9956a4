"""Crashes, kills, full disks and wrong logits: one clear end, and nothing half-written is used."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import ROOT, Project, copy_of, shared_project, shim
from hub_server import COMMIT, Hub, serving

from bench.core.errors import describe_os_error
from bench.workers.unsupported import describe_out_of_memory, is_out_of_memory

FAULTY = {"runtime": "faulty", "device": "cpu", "precision": "fp32", "graph": "onnx/fp32.onnx"}
LIMIT_SECONDS = 600
"""What a busy machine may take to start a run, or to end one."""
posix_only = pytest.mark.skipif(os.name == "nt", reason="signals and permissions of POSIX systems")


TIMED = {
    "none": ("measured", ""),
    "memory": ("measured", ""),
    "perturbed": ("rejected", "relative error"),
    "no_mask": ("rejected", "relative error"),
    "empty": ("rejected", "the output is empty"),
    "not_a_number": ("rejected", "the output holds NaN or infinity"),
    "cpu_for_cuda": ("rejected", "wanted weights on cpu, observed cuda"),
    "traceback": ("failed", "the worker ended with code 1; its last words:"),
    "no_library": ("skipped", "cannot be imported: No module named 'no_such_library': install it"),
    "signal": ("failed", "the worker was ended by SIGSEGV; its last words:"),
    "dies_in_a_block": ("failed", "the worker was ended by SIGKILL"),
    "memory_in_a_block": ("measured", ""),
}
"""The faults of rows that are timed, what becomes of them at batch 2, and why."""
SERVED = {
    "none": ("measured", ""),
    "dies_under_load": ("failed", "the worker was ended by SIGKILL"),
    "memory_under_load": ("out_of_memory", "Unable to allocate"),
    "wrong_under_load": ("rejected", "relative error"),
    "mixed_up_under_load": ("rejected", "relative error"),
}
"""The faults of rows that are served."""
HANGS = "faulty_hangs_under_load"


def add_runtime(project: Project) -> None:
    """Add the faulty runtime: a runtime is one file."""
    shutil.copyfile(ROOT / "tests/faulty_runtime.py", project.folder / "bench/runtimes/faulty.py")


def add_row(project: Project, fault: str = "none", **timing: float) -> None:
    """Add the row `faulty` with a fault."""

    def change(params: dict[str, Any]) -> None:
        params["variants"]["faulty"] = {**FAULTY, "options": {"fault": fault}}
        params["timing"].update(timing)

    project.set_params(change)


def add_all_rows(params: dict[str, Any]) -> None:
    """Add a row for each fault."""
    rows = {f"faulty_{fault}": {**FAULTY, "options": {"fault": fault}} for fault in (*TIMED, *SERVED)}
    rows[HANGS] = {**FAULTY, "options": {"fault": "hangs_under_load"}}
    rows["faulty_no_library"] = {**FAULTY, "runtime": "no_library", "options": {}}
    params["variants"].update(rows)
    params["serving"]["variants"] += [f"faulty_{fault}" for fault in SERVED]


@pytest.fixture(scope="session")
def faulty(measured: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project after a `dvc repro` with a row for each fault; told.txt is what it said.  Read it, do not change it."""

    def run(project: Project) -> None:
        add_runtime(project)
        text = project.read("bench/runtimes/faulty.py")
        missing = text.replace("    import onnxruntime  # noqa: F401", "    import no_such_library")
        assert missing != text
        (project.folder / "bench/runtimes/no_library.py").write_text(missing, encoding="utf-8")
        project.set_params(add_all_rows)
        ended = project.dvc("repro", code=None)
        assert ended.returncode != 0
        (project.folder / "told.txt").write_text(ended.stdout + ended.stderr, encoding="utf-8")

    return shared_project(tmp_path_factory, "faulty", run, measured)


@pytest.mark.parametrize("fault", TIMED)
def test_a_fault_ends_its_own_row_with_the_reason(fault: str, faulty: Project) -> None:
    status, reason = TIMED[fault]
    key = f"faulty_{fault}"
    [row] = [row for row in faulty.rows() if (row["variant"], row["batch_size"]) == (key, "2")]
    assert row["status"] == status
    assert reason in (failures(faulty)[key] if status == "failed" else row["reason"])
    if status == "rejected":
        notes = faulty.read("notes/engineering_observations.md")
        assert any(line.startswith("- rejected (") and f"`{key}`" in line for line in notes.splitlines())
        assert f"`{key}` has the lowest p50" not in notes


def failures(project: Project) -> dict[str, str]:
    """Return what `check_rows` said of each row that failed."""
    found = re.findall(r"^ *- (faulty_\w+)(?: under load)?: (.*?)(?=^ *- |\Z)", project.read("told.txt"), re.M | re.S)
    return dict(found)


@pytest.mark.parametrize("fault", ["memory", "memory_in_a_block"])
def test_out_of_memory_ends_one_batch_size_and_keeps_the_others(fault: str, faulty: Project) -> None:
    status = {row["batch_size"]: row["status"] for row in faulty.rows() if row["variant"] == f"faulty_{fault}"}
    assert status == {"1": "out_of_memory", "2": "measured"}


@pytest.mark.parametrize("fault", SERVED)
def test_a_fault_under_load_is_told_and_the_row_stays_timed(fault: str, faulty: Project) -> None:
    status, reason = SERVED[fault]
    key = f"faulty_{fault}"
    assert {row["status"] for row in faulty.rows() if row["variant"] == key} == {"measured"}
    served = {row["variant"]: row for row in faulty.rows("results/serving.csv")}
    assert served[key]["status"] == status
    assert reason in (failures(faulty)[key] if status == "failed" else served[key]["reason"])
    assert served["ort_cpu_fp32"]["status"] == served["faulty_none"]["status"] == "measured", "the rows beside it"


COUNT_FROM_THE_HANG = """
import threading
from pathlib import Path

class Timer(threading.Timer):
    def run(self):
        while not Path("hangs").exists():
            if self.finished.wait(0.05):
                return
        super().run()
        Path("hangs").unlink(missing_ok=True)

threading.Timer = Timer
"""
"""Limits count from the moment when a worker hangs, so that no slow start on a busy machine is taken for it."""


def test_a_worker_that_hangs_is_ended_at_the_limit(faulty: Project, tmp_path: Path) -> None:
    def hang(params: dict[str, Any]) -> None:
        for fault in ("hang", "hangs_in_a_block"):
            params["variants"][f"faulty_{fault}"] = {**FAULTY, "options": {"fault": fault}}
        params["serving"]["variants"].append(HANGS)
        params["timing"]["worker_limit_seconds"] = 2.0

    for copied in copy_of(faulty, tmp_path / "copy"):
        copied.set_params(hang)
        copied.python("stages/probe.py")
        from_the_hang = shim(copied, "sitecustomize.py", COUNT_FROM_THE_HANG)
        for stage, key in (("infer", "faulty_hang"), ("infer", "faulty_hangs_in_a_block"), ("serve", HANGS)):
            copied.python(f"stages/{stage}.py", key, environment=from_the_hang)
            (copied.folder / "hangs").unlink(missing_ok=True)  # of a second process, which nobody waited for
        assert "the worker hung in a block for 2 s and was ended" in copied.report("faulty_hangs_in_a_block")["failure"]
        served = json.loads(copied.read(f"artifacts/served/{HANGS}.json"))["failure"]
        for failure in (copied.report("faulty_hang")["failure"], served):
            assert "the worker took longer than timing.worker_limit_seconds = 2 and was ended; raise" in failure
        assert "or lower serving.seconds" in served


def test_rows_that_failed_are_named_at_the_end_with_all_that_is_known(faulty: Project) -> None:
    told = faulty.read("told.txt")
    assert "error: 4 rows failed; the others are in results/summary_table.md" in told
    assert not re.search("^Traceback", told, re.M)
    wrong = re.search("wrong in fp32, .*: (.*); the reasons are in", told)
    fp32 = [f"faulty_{fault}" for fault, (status, _) in TIMED.items() if status == "rejected"]
    fp32 += [f"faulty_{fault} (under load)" for fault, (status, _) in SERVED.items() if status == "rejected"]
    assert wrong
    assert sorted(wrong[1].split(", ")) == sorted(fp32)
    assert "the driver is about to fail" in failures(faulty)["faulty_signal"]
    assert "the driver is about to fail" in failures(faulty)["faulty_dies_under_load"]
    assert "something nobody expected" in failures(faulty)["faulty_traceback"]
    table = faulty.read("results/summary_table.md")
    assert "failed (faulty_signal: the worker was ended by SIGSEGV; its last words:" in table
    assert "| `ort_cpu_fp32` |" in table


def test_a_row_that_failed_is_tried_again_and_a_rejected_one_is_not(faulty: Project, tmp_path: Path) -> None:
    for copied in copy_of(faulty, tmp_path / "copy"):
        timed = {key for key in copied.stale(environment={}) if key.startswith(("infer", "serve@faulty"))}
        assert timed == {f"infer@faulty_{fault}" for fault, (status, _) in TIMED.items() if status == "failed"} | {
            f"serve@faulty_{fault}" for fault, (status, _) in SERVED.items() if status == "failed"
        }


def test_a_new_runtime_needs_one_file_and_one_entry(measured_copy: Project) -> None:
    add_runtime(measured_copy)
    add_row(measured_copy)
    expected = {"infer@faulty", "summarize", "render", "check_rows"}
    assert measured_copy.stale(environment={}) == expected


def test_out_of_memory_is_recognised_from_the_libraries_own_errors() -> None:
    import numpy as np
    import torch

    with pytest.raises(RuntimeError) as of_torch:
        torch.empty(2**50)
    with pytest.raises(MemoryError) as of_numpy:
        np.empty(2**60, dtype=np.int8)
    assert is_out_of_memory(of_torch.value)
    assert is_out_of_memory(of_numpy.value)
    assert not is_out_of_memory(RuntimeError("shape mismatch"))


ARENA = (
    "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Add node. Name:'node' Status Message: "
    "/src/arena.cc:360 void* Arena::Allocate(size_t, bool) Failed to allocate memory for requested buffer of size 64"
)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (ARENA, "Failed to allocate memory for requested buffer of size 64"),
        ("CUDA out of memory. Tried to allocate 2 GiB.\nMore.", "CUDA out of memory. Tried to allocate 2 GiB."),
    ],
)
def test_the_reason_for_out_of_memory_is_its_sentence_and_not_the_stack(message: str, reason: str) -> None:
    assert describe_out_of_memory(RuntimeError(message)) == reason


def _wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)


def _start_repro(project: Project, *arguments: str, **surroundings: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", *arguments],
        cwd=project.folder,
        env={**project.environment, **surroundings},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _children(pid: int, words: str) -> list[psutil.Process]:
    try:
        children = psutil.Process(pid).children(recursive=True)
        return [child for child in children if words in " ".join(child.cmdline())]
    except psutil.NoSuchProcess:
        return []


@posix_only
def test_a_run_killed_while_timing_leaves_nothing_and_completes_afterwards(measured_copy: Project) -> None:
    project = measured_copy
    add_runtime(project)
    add_row(project, minutes=30.0)
    running = _start_repro(project, "infer@faulty")
    _wait_for(lambda: len(_children(running.pid, "bench.timing.worker")) == 3)
    worker = _children(running.pid, "bench.timing.worker")[0]
    # dvc's shell may stay as the stage's parent or be replaced by it: all that name the stage end.
    stages = _children(running.pid, "stages/infer.py")
    for pid in (running.pid, *(stage.pid for stage in stages)):
        os.kill(pid, signal.SIGKILL)
    running.wait()
    assert worker.pid not in [stage.pid for stage in stages]
    _wait_for(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)
    assert not list((project.folder / "artifacts/samples").rglob("faulty.*"))
    add_row(project, minutes=0.05)
    assert "infer@faulty" in project.repro("infer@faulty")
    assert project.cells("faulty")[1]["status"] == "measured"


def _press_ctrl_c(running: subprocess.Popen[bytes]) -> None:
    """Send what a terminal sends: SIGINT to the whole group of what runs in it."""
    os.killpg(running.pid, signal.SIGINT)


def _waits(project: Project, told: str) -> Callable[[], bool]:
    return lambda: told in (project.folder / "told.txt").read_text(encoding="utf-8")


def _start_in_a_terminal(project: Project) -> subprocess.Popen[bytes]:
    """Start a `dvc repro` in a group of its own; what it says is in told.txt."""
    with (project.folder / "told.txt").open("wb") as told:
        return subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro"],
            cwd=project.folder,
            env=project.environment,
            stdout=told,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def time_two_rows_for_long(params: dict[str, Any]) -> None:
    """Leave the rows that start fastest, and none under load."""
    params["timing"]["minutes"] = 30.0
    params["variants"] = {key: params["variants"][key] for key in ("ort_cpu_fp32", "ort_cpu_int8")}
    params["serving"]["variants"] = []


@posix_only
@pytest.mark.parametrize("moment", ["  starting 3 rows", "pass 1: p50 in ms"])
def test_ctrl_c_ends_the_measuring_and_the_reports_follow(moment: str, measured_copy: Project) -> None:
    project = measured_copy
    project.set_params(time_two_rows_for_long)
    running = _start_in_a_terminal(project)
    _wait_for(_waits(project, moment))
    _press_ctrl_c(running)
    assert running.wait(LIMIT_SECONDS) == 0, project.read("told.txt")
    timed = [row for row in project.rows() if row["device"] == "cpu"]
    assert {row["cut_short"] for row in timed} == {"cut short by Ctrl-C"}
    assert "cut short by Ctrl-C" in project.read("results/summary_table.md")
    due = {name for name in project.stale(environment={}) if name.startswith("infer@")}
    assert due == {f"infer@{row['variant']}" for row in timed}


@posix_only
def test_a_second_ctrl_c_aborts_and_leaves_no_worker(measured_copy: Project) -> None:
    project = measured_copy
    project.set_params(lambda params: params["timing"].update(minutes=30.0))
    running = _start_in_a_terminal(project)
    _wait_for(_waits(project, "pass 1: p50 in ms"))
    workers = _children(running.pid, "bench.timing.worker")
    _press_ctrl_c(running)
    _wait_for(_waits(project, "Ctrl-C: measuring ends here"))
    _press_ctrl_c(running)
    assert running.wait(LIMIT_SECONDS) != 0
    assert workers
    _wait_for(lambda: not any(worker.is_running() for worker in workers))


@posix_only
def test_a_run_killed_while_downloading_leaves_nothing_and_completes_afterwards(project: Project) -> None:
    (project.folder / "empty").mkdir()
    with serving(Hub({"someone/model": project.folder / "empty"})) as hub:
        hub.hangs = True
        project.set_params(
            lambda params: params["model"].update(
                id="someone/model", revision=COMMIT, source="hub", hub_timeout_seconds=60
            )
        )
        running = _start_repro(project, "download", HF_ENDPOINT=hub.address, HF_HUB_OFFLINE="0")
        _wait_for(lambda: bool(hub.requests))
        for pid in (running.pid, *(child.pid for child in _children(running.pid, "stages/download.py"))):
            os.kill(pid, signal.SIGKILL)
        running.wait()
    assert not (project.folder / "artifacts/model").exists()
    project.set_params(lambda params: params["model"].update(source="synthetic"))
    assert project.repro("download") == {"probe", "download"}
    assert not list((project.folder / "artifacts").glob(".*.tmp"))


def _as_ordinary_user() -> list[str]:
    """Return what to put before a command so that folder permissions bind root too."""
    if os.geteuid() != 0:
        return []
    if not shutil.which("setpriv"):
        pytest.skip("root ignores folder permissions, and there is no setpriv")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


@posix_only
def test_a_read_only_folder_is_named(measured_copy: Project) -> None:
    folder = measured_copy.folder / "artifacts" / "onnx"
    folder.chmod(0o555)
    try:
        command = [*_as_ordinary_user(), sys.executable, "stages/convert_onnx.py", "fp16"]
        ended = measured_copy.run(*command, code=1)
    finally:
        folder.chmod(0o755)
    assert "error: not allowed to write" in ended.stderr
    assert "fp16.onnx" in ended.stderr
    assert "Traceback" not in ended.stderr


REFUSED = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name == "packaging":
            raise ModuleNotFoundError("No module named 'sympy'", name=name)
sys.meta_path.insert(0, Refuse())
"""


def test_a_package_that_a_converter_lacks_is_named_with_what_to_do(measured_copy: Project) -> None:
    (measured_copy.folder / "artifacts/required/fp16").write_text("yes\n", encoding="utf-8")
    convert = ("stages/convert_onnx.py", "fp16")
    told = measured_copy.python(*convert, environment=shim(measured_copy, "sitecustomize.py", REFUSED)).stdout
    assert "fp16: not made: ONNX Runtime's converter needs the package packaging: install it, then" in told
    assert "not made" not in measured_copy.python(*convert).stdout
    assert (measured_copy.folder / "artifacts/onnx/fp16.onnx").stat().st_size > 10_000


@pytest.fixture
def small_disk(project: Project) -> Iterator[Project]:
    """Put the artifacts on a disk of 64 KiB, where the system lets us make one."""
    folder = project.folder / "artifacts"
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this system does not let the test mount a small disk")
    yield project
    subprocess.run(["umount", str(folder)], check=True)


@posix_only
def test_a_full_disk_is_named_and_leaves_nothing_half_written(small_disk: Project) -> None:
    ended = small_disk.python("stages/download.py", code=1)
    assert "no space left on the disk" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert list((small_disk.folder / "artifacts").iterdir()) == []


def test_a_full_disk_and_a_forbidden_folder_have_messages_with_the_mend() -> None:
    assert "free some space" in describe_os_error(OSError(28, "No space left on device", "x"))
    assert "make the folder writable" in describe_os_error(PermissionError(13, "Permission denied", "x"))
