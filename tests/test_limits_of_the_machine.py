"""Cores, quotas, GPUs and the machine's own id: what limits a measurement, and whose it is."""

# ruff: noqa: N802  NVML's names
from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from bench.core.errors import ParameterError
from bench.core.params import Params, Variant, load_params
from bench.machine import cores, environment
from bench.machine.can_run import has_code, reason_to_skip
from bench.machine.gpus import chosen_gpu, handle_of, visible_gpus
from bench.timing.monitors import GpuMonitor

Write = Callable[[str, str], None]


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Stand in for Linux's files; returns a function that writes one."""
    monkeypatch.setattr(cores, "TOPOLOGY", tmp_path / "cpu")
    monkeypatch.setattr(environment, "TOPOLOGY", tmp_path / "cpu")
    monkeypatch.setattr(cores, "GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(cores, "OWN_GROUPS", tmp_path / "own")

    def write(name: str, text: str) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")

    return write


def four_cpus_of_two_cores(write: Write, monkeypatch: pytest.MonkeyPatch, usable: list[int]) -> None:
    monkeypatch.setattr(cores, "usable_cpus", lambda: usable)
    for cpu in range(4):
        write(f"cpu/cpu{cpu}/topology/physical_package_id", "0\n")
        write(f"cpu/cpu{cpu}/topology/core_id", f"{cpu % 2}\n")


@pytest.mark.parametrize(("usable", "expected"), [([0, 1, 2, 3], 2), ([0, 2], 1), ([0, 1], 2), ([3], 1)])
def test_two_threads_of_one_core_get_one_thread(
    usable: list[int], expected: int, system: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    four_cpus_of_two_cores(system, monkeypatch, usable)
    assert cores.physical_cores() == expected


QUOTAS: dict[str, tuple[dict[str, str], float | None]] = {
    "none": ({"own": "0::/\n", "cgroup/cpu.max": "max 100000\n"}, None),
    "version 2": ({"own": "0::/\n", "cgroup/cpu.max": "100000 100000\n"}, 1.0),
    "of a group above": (
        {"own": "0::/a/b\n", "cgroup/a/cpu.max": "150000 100000\n", "cgroup/a/b/cpu.max": "max 100000\n"},
        1.5,
    ),
    "seen from inside a container": ({"own": "0::/docker/of/the/host\n", "cgroup/cpu.max": "50000 100000\n"}, 0.5),
    "version 1": (
        {
            "own": "5:cpu,cpuacct:/x\n1:memory:/y\n",
            "cgroup/cpu,cpuacct/x/cpu.cfs_quota_us": "200000\n",
            "cgroup/cpu,cpuacct/x/cpu.cfs_period_us": "100000\n",
        },
        2.0,
    ),
    "version 1 without one": (
        {"own": "5:cpu:/\n", "cgroup/cpu/cpu.cfs_quota_us": "-1\n", "cgroup/cpu/cpu.cfs_period_us": "100000\n"},
        None,
    ),
    "unreadable": ({"own": "0::/\n", "cgroup/cpu.max": "what\n"}, None),
    "no control groups": ({}, None),
}


@pytest.mark.parametrize("name", QUOTAS)
def test_a_containers_quota_limits_the_threads_and_is_told(
    name: str, system: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, expected = QUOTAS[name]
    for file, text in files.items():
        system(file, text)
    four_cpus_of_two_cores(system, monkeypatch, [0, 1, 2, 3])
    assert cores.cpu_quota() == expected
    assert cores.physical_cores() == max(1, min(2, int(expected or 2)))
    assert environment.probe_cpu().get("quota_cpus") == expected


@pytest.mark.parametrize(("quota_us", "most"), [("max", 4), ("200000", 2), ("50000", 1)])
def test_more_threads_than_the_machine_runs_at_once_are_refused(
    quota_us: str, most: int, system: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    system("own", "0::/\n")
    system("cgroup/cpu.max", f"{quota_us} 100000\n")
    four_cpus_of_two_cores(system, monkeypatch, [0, 1, 2, 3])
    assert cores.thread_count(most) == most
    with pytest.raises(ParameterError, match=f"cpu_threads: got {most + 1}, allowed: physical, or at most {most}, "):
        cores.thread_count(most + 1)
    allowed = rf"allowed: 0 \(the cores that the row leaves, at least one\), or at most {most}, "
    with pytest.raises(ParameterError, match=f"tokenizer_threads: got {most + 1}, {allowed}"):
        cores.tokenizer_threads(threads(most + 1), "cpu")


def test_a_tokenizer_gets_the_cores_that_rows_leave(system: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    system("own", "0::/\n")
    four_cpus_of_two_cores(system, monkeypatch, [0, 1, 2, 3])
    assert cores.tokenizer_threads(threads(0, "physical"), "cpu") == 1
    assert cores.tokenizer_threads(threads(0, 1), "cpu") == 1
    assert cores.tokenizer_threads(threads(2, 1), "cpu") == 2
    monkeypatch.setattr(cores, "physical_cores", lambda: 4)
    assert cores.tokenizer_threads(threads(0, 2), "cpu") == 2
    assert cores.tokenizer_threads(threads(0, "physical"), "cuda") == 3


def threads(of_tokenizer: int, of_rows: int | str = 1) -> Params:
    """Return the project's parameters with these threads."""
    params = load_params(ROOT / "params.yaml")
    serving = params.serving.model_copy(update={"tokenizer_threads": of_tokenizer})
    timing = params.timing.model_copy(update={"cpu_threads": of_rows})
    return params.model_copy(update={"serving": serving, "timing": timing})


def test_memory_nodes_of_the_usable_cpus_are_counted(system: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    four_cpus_of_two_cores(system, monkeypatch, [0, 1, 2])
    assert cores.numa_nodes() == 0
    for cpu, node in enumerate((0, 0, 1, 2)):
        system(f"cpu/cpu{cpu}/node{node}/x", "")
    assert cores.numa_nodes() == 2


@pytest.mark.parametrize("text", ["nr_throttled 3\nthrottled_usec 2500000\n", "throttled_time 2500000000\n"])
def test_time_that_a_quota_took_is_counted(text: str, system: Write) -> None:
    system("own", "0::/\n")
    system("cgroup/cpu.stat", text)
    assert cores.throttled_seconds() == 2.5


def test_another_clock_governor_makes_timings_stale(system: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "usable_cpus", lambda: [0])
    before = environment.probe_cpu()
    system("cpu/cpu0/cpufreq/scaling_governor", "powersave\n")
    assert environment.probe_cpu() == {**before, "governor": "powersave"}


class NvmlError(Exception):
    """What the stand-in raises for a question that a GPU does not answer."""


class Nvml:
    """Two GPUs, the second of which is cut into MIG devices."""

    NVMLError = NvmlError
    UUIDS = ("GPU-aaaa-1111", "GPU-bbbb-2222")

    def nvmlInit(self) -> None: ...

    def nvmlShutdown(self) -> None: ...

    def nvmlDeviceGetCount(self) -> int:
        return len(self.UUIDS)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        if index >= len(self.UUIDS):
            raise NvmlError
        return self.UUIDS[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid != "MIG-cccc":
            raise NvmlError
        return uuid

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle: str) -> str:
        if handle != "MIG-cccc":
            raise NvmlError
        return self.UUIDS[1]

    def nvmlDeviceGetUUID(self, handle: str) -> str:
        return handle

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvml"):
            return 0

        def unanswered(*_arguments: object) -> Any:
            raise NvmlError

        return unanswered


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (None, ["0", "1"]),
        ("1", ["1"]),
        ("1,0", ["1", "0"]),
        ("GPU-bbbb", ["GPU-bbbb"]),
        ("GPU-", []),
        ("MIG-cccc", ["MIG-cccc"]),
        ("0,7,1", ["0"]),
        ("-1", []),
        ("", []),
    ],
)
def test_the_gpus_that_the_user_leaves_are_counted_as_cuda_counts_them(
    setting: str | None, expected: list[str]
) -> None:
    variables = {} if setting is None else {"CUDA_VISIBLE_DEVICES": setting}
    assert visible_gpus(Nvml(), variables) == expected


def test_gpu_index_counts_among_the_gpus_that_the_user_leaves() -> None:
    assert chosen_gpu(Nvml(), 1, {"CUDA_VISIBLE_DEVICES": "1,0"}) == "0"
    assert chosen_gpu(Nvml(), 0, {"CUDA_VISIBLE_DEVICES": ""}) is None
    message = r"timing.gpu_index = 1, allowed: 0 to 0 \(CUDA_VISIBLE_DEVICES=GPU-bbbb\)"
    with pytest.raises(ParameterError, match=message):
        chosen_gpu(Nvml(), 1, {"CUDA_VISIBLE_DEVICES": "GPU-bbbb"})


def use(nvml: Nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml)


def test_a_gpu_that_answers_nothing_is_probed_and_watched_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    use(Nvml(), monkeypatch)
    found = environment.probe_cuda(0)
    assert found is not None
    assert found["gpu"] == "an NVIDIA GPU"
    assert (found["memory_mib"], found["compute_capability"], found["driver"]) == (None, None, None)
    monitor = GpuMonitor("0")
    monitor.start_cell()
    assert set(monitor.end_cell().as_dict()) == {"window_seconds"}
    assert monitor.grown_memory_mib() is None


def test_a_part_of_a_gpu_is_told_from_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    use(Nvml(), monkeypatch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-cccc")
    found = environment.probe_cuda(0)
    assert found is not None
    assert found["mig"] is True
    assert found["count"] == 1
    assert handle_of(Nvml(), "MIG-cccc") == "MIG-cccc"


class Cut(Nvml):
    """A GPU in MIG mode, which CUDA takes the first part of; `parts`: what it is cut into."""

    parts: tuple[str, ...] = ("MIG-cccc",)

    def nvmlDeviceGetMigMode(self, handle: str) -> tuple[int, int]:
        return (int(handle == self.UUIDS[1]), 0)

    def nvmlDeviceGetMaxMigDeviceCount(self, _handle: str) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, _handle: str, index: int) -> str:
        if not 2 <= index < 2 + len(self.parts):
            raise NvmlError
        return self.parts[index - 2]


@pytest.mark.parametrize("parts", [("MIG-cccc",), ()])
def test_a_gpu_that_was_cut_meanwhile_is_another_machine(
    parts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(Nvml(), monkeypatch)
    whole, whole_id = environment.probe_cuda(1), environment.machine_id(1)
    library = Cut()
    library.parts = parts
    use(library, monkeypatch)
    assert whole is not None
    assert "mig" not in whole
    assert environment.probe_cuda(1) == {**whole, "mig": True}
    assert environment.machine_id(1) != whole_id
    assert "mig" not in (environment.probe_cuda(0) or {})
    assert handle_of(library, "1") == (parts or Nvml.UUIDS[1:])[0]


class NoLibraryError(NvmlError):
    """What NVML raises where no driver is installed."""


class Mismatched(Nvml):
    """A driver that was updated while it runs."""

    NVMLError_LibraryNotFound = NoLibraryError

    def nvmlInit(self) -> None:
        raise NvmlError("Driver/library version mismatch")


class NoDriver(Mismatched):
    """A machine without the driver's library."""

    def nvmlInit(self) -> None:
        raise NoLibraryError


def test_a_driver_that_does_not_answer_is_not_called_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    use(Mismatched(), monkeypatch)
    found = environment.probe_environment({"onnxruntime": ()})
    assert found["cuda"] is None
    assert "Driver/library version mismatch" in found["gpu_fault"]
    variant = Variant(runtime="onnxruntime", device="cuda", precision="fp32", graph="onnx/fp32.onnx")
    assert reason_to_skip(variant, found).startswith("the NVIDIA driver does not answer (Driver/library version")
    assert "restart the machine" in reason_to_skip(variant, found)
    use(NoDriver(), monkeypatch)
    without = environment.probe_environment({"onnxruntime": ()})
    assert "gpu_fault" not in without
    assert reason_to_skip(variant, without) == "no NVIDIA GPU found"


def test_a_clock_that_was_set_leaves_out_what_is_told_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    use(Busy(), monkeypatch)
    monitor = GpuMonitor("0")
    monitor.start_cell()
    hour_ago = time.time_ns() - 3600 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: hour_ago)
    reading = monitor.end_cell()
    assert reading.other_gpu_processes is None
    assert 0 <= (reading.window_seconds or 0) < 60


class Busy(Nvml):
    """Thirty processes that have the GPU open; those of `busy` keep it busy."""

    busy: tuple[int, ...] = ()

    def nvmlDeviceGetComputeRunningProcesses(self, _handle: str) -> list[Any]:
        return [Sample(pid, 0) for pid in range(30)]

    def nvmlDeviceGetProcessUtilization(self, _handle: str, _since_us: int) -> list[Any]:
        return [Sample(pid, 50 if pid in self.busy else 0) for pid in range(30)]


class Sample:
    def __init__(self, pid: int, busy: int) -> None:
        self.pid, self.smUtil, self.timeStamp = pid, busy, 2**62


@pytest.mark.parametrize(("busy", "others"), [((), 0), ((7,), 0), ((7, 8, 9), 2)])
def test_processes_that_only_have_the_gpu_open_are_not_called_other_load(
    busy: tuple[int, ...], others: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Busy()
    library.busy = busy
    use(library, monkeypatch)
    monitor = GpuMonitor("0")
    monitor.start_cell()
    assert monitor.end_cell().other_gpu_processes == others


@pytest.mark.parametrize(
    ("capability", "code", "expected"),
    [
        ("6.1", "sm_75 sm_80 sm_90 compute_90", False),
        ("7.5", "sm_75 sm_80", True),
        ("8.6", "sm_80", True),
        ("8.6", "sm_90", False),
        ("12.0", "sm_90 compute_90", True),
        ("12.1", "sm_100 sm_120", True),
        ("9.0", None, True),
        (None, "sm_75", True),
    ],
)
def test_a_gpu_that_pytorch_has_no_code_for_is_known_before_a_row_is_tried(
    capability: str | None, code: str | None, expected: bool
) -> None:
    assert has_code({"compute_capability": capability, "pytorch_code": code}) is expected


def test_the_machines_id_is_its_own_and_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(environment, "ID_FILES", (tmp_path / "missing", tmp_path / "id"))
    found = set()
    for text in ("one\n", "two\n"):
        (tmp_path / "id").write_text(text, encoding="utf-8")
        assert environment.machine_id() == environment.machine_id()
        found.add(environment.machine_id())
    assert len(found) == 2
    use(Nvml(), monkeypatch)
    assert {environment.machine_id(0), environment.machine_id(1)}.isdisjoint(found)
    assert environment.machine_id(0) != environment.machine_id(1)
