"""A fleet on a real Ray cluster of made-up nodes on this machine: two kinds, a second start, a node that dies."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import Project

ray = pytest.importorskip("ray", reason="Ray has no package for this system")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="Ray makes no cluster of made-up nodes on Windows"),
]

OTHER_CPU = """
class _Known:
    features = ("avx2",)
class detect:
    detected_info = staticmethod(lambda: _Known)
def host():
    return _Known
"""
RECORDING = """#!{python}
import os, sys, time
from pathlib import Path
if "fleet.machine_types" in sys.argv:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
began = Path({place!r}, "began")
if "dvc" in sys.argv and "NODE" in os.environ and not began.exists():
    began.with_suffix(".new").write_text(os.environ["NODE"] + " " + str(os.getpid()))
    began.with_suffix(".new").rename(began)
    time.sleep(600)
if "bench.runs.record" in sys.argv:
    run = Path("runs", sys.argv[3])
    run.mkdir(parents=True)
    (run / "run.json").write_text("{{}}")
"""


class MadeUpCluster:
    """Ray's own cluster for tests: each node is a set of processes of this machine."""

    def __init__(self, place: Path) -> None:
        from ray.cluster_utils import Cluster

        self.place = place
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        self.address: str = self._cluster.address

    def add(self, **environment: str) -> Any:
        """Add a node whose processes have these variables."""
        return self._cluster.add_node(num_cpus=1, env_vars=environment)

    def remove(self, node: Any) -> None:
        """Let a node die."""
        self._cluster.remove_node(node, allow_graceful=False)

    def end(self) -> None:
        self._cluster.shutdown()


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, project: Project) -> Iterator[MadeUpCluster]:
    for name, value in project.environment.items():
        monkeypatch.setenv(name, value)
    made = MadeUpCluster(tmp_path)
    yield made
    made.end()


@pytest.fixture
def other_cpu(tmp_path: Path) -> dict[str, str]:
    """The variables of a node whose CPU has other instructions."""
    folder = tmp_path / "other_cpu" / "archspec"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("", encoding="utf-8")
    (folder / "cpu.py").write_text(OTHER_CPU, encoding="utf-8")
    return {"PYTHONPATH": str(folder.parent)}


def measure_less(params: dict[str, Any]) -> None:
    """Leave one row, and none under load."""
    params["serving"]["variants"] = []
    params["variants"] = {"ort_cpu_fp32": params["variants"]["ort_cpu_fp32"]}
    params["tensorrt_variants"] = {}


def start(cluster: MadeUpCluster, python: str, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "fleet", "--address", cluster.address, "--python", python),
        *("--folder", str(cluster.place / "nodes"), *more),
    ]


def recording(cluster: MadeUpCluster) -> str:
    """Return a Python for nodes that keeps a run without measuring; on the first node with a NODE it never ends."""
    path = cluster.place / "recording"
    path.write_text(RECORDING.format(python=sys.executable, place=str(cluster.place)), encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def test_each_kind_is_measured_once_and_the_runs_stand_side_by_side(
    project: Project, cluster: MadeUpCluster, other_cpu: dict[str, str]
) -> None:
    project.set_params(measure_less)
    project.commit("Measure less")
    cluster.add()
    cluster.add(**other_cpu)
    command = start(cluster, sys.executable)
    told = project.run(*command).stdout
    runs = sorted(path.name for path in (project.folder / "runs").iterdir() if path.is_dir())
    assert len(runs) == 2, told
    assert told.count("not needed: another node of its type was measured") == 1
    assert "side by side" in project.read("results/hardware.md")
    assert all(f"`{name}`" in project.read("results/hardware.md") for name in runs)

    again = project.run(*command).stdout
    assert "measures" not in again, "both kinds have a current run"
    assert again.count("is current") == 3


def test_a_node_that_dies_while_it_measures_is_replaced_and_what_it_ran_is_ended(
    project: Project, cluster: MadeUpCluster, other_cpu: dict[str, str]
) -> None:
    twins = [cluster.add(**other_cpu, NODE=str(number)) for number in range(2)]
    command = start(cluster, recording(cluster))
    fleet = subprocess.Popen(command, cwd=project.folder, env=project.environment, stdout=subprocess.PIPE, text=True)
    began = cluster.place / "began"
    while not began.exists() and fleet.poll() is None:
        time.sleep(0.1)
    number, process = map(int, began.read_text(encoding="utf-8").split())
    cluster.remove(twins[number])
    told, _ = fleet.communicate(timeout=300)
    assert fleet.returncode == 0, told
    lines = told.splitlines()[-3:]
    assert sorted(line.split("  ")[2].split(" ")[0] for line in lines) == ["failed:", "measured", "measured"], told
    wait_until(lambda: not psutil.pid_exists(process))
    assert len([path for path in (project.folder / "runs").iterdir() if path.is_dir()]) == 2


def test_a_fleet_that_was_killed_goes_on_with_what_is_missing(
    project: Project, cluster: MadeUpCluster, other_cpu: dict[str, str]
) -> None:
    cluster.add(**other_cpu, NODE="0")
    command = start(cluster, recording(cluster))
    fleet = subprocess.Popen(command, cwd=project.folder, env=project.environment, stdout=subprocess.PIPE, text=True)
    began, book = cluster.place / "began", project.folder / "runs/fleet.json"
    while not (began.exists() and book.exists()) and fleet.poll() is None:
        time.sleep(0.1)
    fleet.kill()
    fleet.communicate()
    _, process = map(int, began.read_text(encoding="utf-8").split())
    wait_until(lambda: not psutil.pid_exists(process))

    told = project.run(*command).stdout
    assert told.count(" measures ") == 1, "the kind that was finished is not measured again"
    assert told.count("is current") == 1
    assert len([path for path in (project.folder / "runs").iterdir() if path.is_dir()]) == 2


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait at most a minute."""
    until = time.monotonic() + 60
    while not is_so() and time.monotonic() < until:
        time.sleep(0.1)
    assert is_so()
