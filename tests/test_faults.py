"""Crashes, kills, full disks and wrong logits: one clear end, and nothing half-written is used."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from conftest import ROOT, Project, shim
from hub_server import COMMIT, Hub, serving

from bench.core.errors import describe_os_error
from bench.machine.lock import timing_lock
from bench.timing.out_of_memory import describe_out_of_memory, is_out_of_memory

FAULTY = {"runtime": "faulty", "device": "cpu", "precision": "fp32", "graph": "onnx/fp32.onnx"}
posix_only = pytest.mark.skipif(os.name == "nt", reason="signals and permissions of POSIX systems")


@pytest.fixture
def faulty(measured_copy: Project) -> Callable[..., Project]:
    """Return a function that adds a variant with a fault: a runtime is one file and one entry."""
    shutil.copyfile(ROOT / "tests/faulty_runtime.py", measured_copy.folder / "bench/runtimes/faulty.py")

    def add(fault: str, **timing: float) -> Project:
        def change(params: dict[str, object]) -> None:
            params["variants"]["faulty"] = {**FAULTY, "options": {"fault": fault}}  # type: ignore[index]
            params["timing"].update(timing)  # type: ignore[attr-defined]

        measured_copy.set_params(change)
        return measured_copy

    return add


def cell(project: Project, size: int) -> dict[str, object]:
    content: dict[str, object] = json.loads(project.read(f"metrics/faulty/bs{size:03d}.json"))
    return content


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("perturbed", "relative error"),
        ("no_mask", "relative error"),
        ("empty", "the output is empty"),
        ("not_a_number", "the output holds NaN or infinity"),
        ("cpu_for_cuda", "wanted weights on cpu, observed cuda"),
    ],
)
def test_a_row_with_wrong_logits_is_rejected_and_never_called_fastest(
    fault: str, reason: str, faulty: Callable[..., Project]
) -> None:
    project = faulty(fault)
    project.repro()
    assert cell(project, 1)["status"] == "rejected"
    assert f"rejected: {reason}" in project.read("results/summary_table.md")
    notes = project.read("notes/engineering_observations.md")
    assert "`faulty`: rejected, " in notes
    assert "`faulty` has the lowest p50" not in notes


def test_a_new_runtime_needs_one_file_and_one_entry(faulty: Callable[..., Project]) -> None:
    project = faulty("none")
    assert project.repro() == {"probe", "infer@faulty", "gather_rows", "summarize", "render", "check_rows"}
    assert cell(project, 2)["status"] == "measured"


def test_out_of_memory_ends_one_batch_size_and_keeps_the_others(faulty: Callable[..., Project]) -> None:
    project = faulty("memory")
    project.set_params(lambda params: params.update(batch_sizes=[1, 2, 3]))
    project.repro("infer@faulty")
    assert [cell(project, size)["status"] for size in (1, 2, 3)] == ["measured", "out_of_memory", "measured"]


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


def failure(project: Project) -> str:
    """Run the faulty row's stage and return why the row failed."""
    project.repro("probe")
    project.python("stages/infer.py", "faulty")
    report = json.loads(project.read("artifacts/samples/cpu/faulty.json"))
    assert {cell["status"] for cell in report["cells"].values()} == {"failed"}
    return str(report["failure"])


@posix_only
def test_a_worker_that_dies_fails_its_own_row_and_is_tried_again(faulty: Callable[..., Project]) -> None:
    project = faulty("signal")
    for _ in range(2):
        ended = project.dvc("repro", code=None)
        assert ended.returncode != 0
        assert "Running stage 'infer@faulty'" in ended.stdout
        assert "error: 1 row failed; the others are in results/summary_table.md" in ended.stderr
        assert "- faulty: the worker was ended by SIGSEGV; its last words:" in ended.stderr
        assert "the driver is about to fail" in ended.stderr
        assert cell(project, 1) == {"status": "failed"}
        table = project.read("results/summary_table.md")
        assert "failed (faulty: the worker was ended by SIGSEGV; its last words:" in table
        assert "| ort_cpu_fp32 |" in table


def test_an_unexpected_error_in_a_worker_fails_its_row_with_its_last_words(faulty: Callable[..., Project]) -> None:
    told = failure(faulty("traceback"))
    assert "the worker ended with code 1; its last words:" in told
    assert "something nobody expected" in told


def test_a_worker_that_hangs_is_ended_at_the_limit(faulty: Callable[..., Project]) -> None:
    project = faulty("hang", worker_limit_seconds=5.0)
    began = time.monotonic()
    assert "longer than timing.worker_limit_seconds = 5 and was ended" in failure(project)
    assert time.monotonic() - began < 90


def _wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
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
def test_a_run_killed_while_timing_leaves_nothing_and_completes_afterwards(faulty: Callable[..., Project]) -> None:
    project = faulty("none", min_seconds=30.0, max_seconds=60.0)
    running = _start_repro(project, "infer@faulty")
    _wait_for(lambda: bool(_children(running.pid, "bench.timing.worker")))
    worker = _children(running.pid, "bench.timing.worker")[0]
    # dvc's shell may stay as the stage's parent or be replaced by it: all that name the stage end.
    stages = _children(running.pid, "stages/infer.py")
    for pid in (running.pid, *(stage.pid for stage in stages)):
        os.kill(pid, signal.SIGKILL)
    running.wait()
    assert worker.pid not in [stage.pid for stage in stages]
    _wait_for(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, 20)
    assert not (project.folder / "metrics/faulty").exists()
    faulty("none", min_seconds=0.0, max_seconds=5.0)
    assert "infer@faulty" in project.repro("infer@faulty")
    assert cell(project, 1)["status"] == "measured"


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
    (measured_copy.folder / "artifacts/wanted/fp16").write_text("yes\n", encoding="utf-8")
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


def test_two_runs_never_time_at_once(tmp_path: Path) -> None:
    held = "import sys; from pathlib import Path; from bench.machine.lock import timing_lock\n"
    held += "with timing_lock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", held, str(tmp_path)]
    first = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdin is not None
    assert first.stdout.readline() == "held\n"
    second = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert second.stdout is not None
    assert "another run is timing" in second.stdout.readline()
    assert second.poll() is None
    first.stdin.close()
    assert second.stdout.readline() == "held\n"
    assert first.wait() == second.wait() == 0
    first.stdout.close()
    second.stdout.close()
    with timing_lock(tmp_path):
        pass


def test_processes_that_start_together_are_timed_one_after_another(faulty: Callable[..., Project]) -> None:
    project = faulty("none", processes=4, max_processes=4, min_seconds=0.0)
    project.repro("infer@faulty")
    report = json.loads(project.read("artifacts/samples/cpu/faulty.json"))
    assert ["start_seconds" in process for process in report["processes"]] == [True, False, False, False]
    turns = [process["turn_unix_ns"] for process in report["processes"]]
    assert all(earlier[1] <= later[0] for earlier, later in pairwise(turns))


def test_a_library_that_cannot_be_imported_fails_the_row_with_the_reason(faulty: Callable[..., Project]) -> None:
    project = faulty("none", processes=3, max_processes=3)
    file = project.folder / "bench/runtimes/faulty.py"
    wanted, missing = "    import onnxruntime  # noqa: F401", "    import no_such_library"
    file.write_text(file.read_text(encoding="utf-8").replace(wanted, missing), encoding="utf-8")
    assert "No module named 'no_such_library'" in failure(project)
