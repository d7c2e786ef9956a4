"""A fleet without a cluster: which nodes are of one machine type, who measures what, errors, and what is kept."""

from __future__ import annotations

import importlib.metadata
import io
import os
import random
import re
import subprocess
import sys
import tarfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, Project
from filelock import FileLock
from packaging.utils import canonicalize_name

from bench.core.errors import DataError, ParameterError
from fleet import node, results_store
from fleet.__main__ import parsed
from fleet.machine_types import Node, by_machine_type, chosen, fingerprint, machine_type_of, run_names
from fleet.results_store import NOT_MEASURED, bundle_of, clean_commit, measures_the_same
from fleet.schedule import Lines, Result, Work, measure_all, probe_all
from run import FLEET

SPEC = node.TaskSpec("0" * 40, "one", 60.0)


def gpu_node(name: str = "NVIDIA A100", memory_mib: int = 40_000, count: int = 1) -> dict[str, Any]:
    gpu = {"gpu": name, "memory_mib": memory_mib, "count": count, "driver": "580"}
    return {"cpu": {"model": "a CPU", "cores": 8}, "cuda": gpu, "os": "Linux x86_64"}


def nodes(count: int) -> list[Node]:
    return [Node(f"id{number}", f"10.0.0.{number}", 8.0, 1.0) for number in range(count)]


class Scripted:
    """An engine whose nodes do what a test says: their fingerprint, and for each try to measure a result."""

    def __init__(self, machines: dict[Node, Result], measuring: Callable[[Work], Result] | None = None) -> None:
        self.machines = machines
        self.measuring = measuring or (lambda _work: {"seconds": 60.0})
        self.tried: list[tuple[str, str]] = []
        self._waiting: list[Work] = []

    def start(self, work: Work) -> None:
        self._waiting.append(work)
        if work.what == "measure":
            self.tried.append((work.node.id, work.name))

    def next_ended(self) -> tuple[Work, Result]:
        work = self._waiting.pop(0)
        return work, self.machines[work.node] if work.what == "probe" else self.measuring(work)


def run_on(engine: Scripted, repeat: int = 1) -> tuple[list[str], Lines, list[str]]:
    """Return the kept runs, each node's line, and the runs that are missing."""
    lines: Lines = defaultdict(list)
    kept: list[str] = []
    nodes_of = by_machine_type(probe_all(engine, engine.machines, lines))
    required = {each: (run_names(each, min(repeat, len(there))), there) for each, there in nodes_of.items()}

    def keep(work: Work, result: Result) -> str:
        if "error" not in result:
            kept.append(work.name)
        return ""

    return kept, lines, measure_all(engine, required, lines, keep)


def test_cards_of_one_name_with_other_memory_are_two_kinds_and_equal_nodes_one() -> None:
    small, large = gpu_node(memory_mib=40_000), gpu_node(memory_mib=80_000)
    assert machine_type_of(small) == machine_type_of(gpu_node())
    assert machine_type_of(small) != machine_type_of(large)
    assert machine_type_of(small).startswith("nvidia-a100-")
    assert "x8" in machine_type_of(gpu_node(count=8))
    one, two, three = nodes(3)
    assert sorted(by_machine_type({three: large, one: small, two: small}).values(), key=len) == [[three], [one, two]]


def test_a_kind_name_can_be_the_name_of_a_kept_run() -> None:
    from bench.runs.record import NAME

    for machine in (fingerprint(), gpu_node("NVIDIA GeForce RTX 4090 Laptop GPU with a very long name (Ti)", count=16)):
        assert all(NAME.fullmatch(name) for name in run_names(machine_type_of(machine), 100))


def test_each_kind_is_measured_once_and_the_other_nodes_say_why_not() -> None:
    four = nodes(4)
    engine = Scripted(dict(zip(four, [gpu_node(), gpu_node(), gpu_node(), gpu_node("NVIDIA L4")], strict=True)))
    kept, lines, missing = run_on(engine)
    assert sorted(kept) == sorted({machine_type_of(gpu_node()), machine_type_of(gpu_node("NVIDIA L4"))})
    assert missing == []
    assert [lines[each][0].split(":")[0] for each in four[1:3]] == ["not needed"] * 2


def test_a_node_that_dies_is_replaced_by_another_of_its_kind_and_told() -> None:
    one, two = nodes(2)
    engine = Scripted(
        {one: gpu_node(), two: gpu_node()},
        lambda work: {"error": "NodeDiedError: it is gone"} if work.node == one else {"seconds": 60.0},
    )
    kept, lines, missing = run_on(engine)
    assert (len(kept), missing) == (1, [])
    assert lines[one] == ["failed: NodeDiedError: it is gone"]
    assert lines[two][0].startswith("measured nvidia-a100-")


def test_a_kind_that_no_node_measures_is_missing_and_the_others_are_not_lost() -> None:
    one, two, three = nodes(3)
    engine = Scripted(
        {one: gpu_node(), two: gpu_node(), three: gpu_node("NVIDIA L4")},
        lambda work: {"seconds": 60.0} if work.node == three else {"error": "no space left on the disk"},
    )
    kept, lines, missing = run_on(engine)
    assert kept == [machine_type_of(gpu_node("NVIDIA L4"))]
    assert missing == [machine_type_of(gpu_node())]
    assert [each for each, _ in engine.tried if each != three.id] == [one.id, two.id], "each node tries once"
    assert lines[two] == ["failed: no space left on the disk"]


def test_a_node_that_does_not_tell_what_it_is_measures_nothing() -> None:
    one, two = nodes(2)
    engine = Scripted({one: {"error": "git is not installed"}, two: gpu_node()})
    kept, lines, missing = run_on(engine)
    assert (kept, missing) == ([machine_type_of(gpu_node())], [])
    assert lines[one] == ["failed: git is not installed"]


def test_a_node_whose_driver_shows_no_gpu_is_no_cpu_machine() -> None:
    one, two = nodes(2)
    engine = Scripted({one: {**gpu_node(), "cuda": None}, two: gpu_node()})
    kept, lines, _missing = run_on(engine)
    assert kept == [machine_type_of(gpu_node())]
    assert lines[one] == ["failed: the cluster counts 1 GPUs here, the driver shows none"]


def test_a_repeat_measures_different_nodes_and_no_more_than_there_are() -> None:
    three = nodes(3)
    engine = Scripted(dict.fromkeys(three, gpu_node()))
    kept, _lines, missing = run_on(engine, repeat=5)
    assert kept == run_names(machine_type_of(gpu_node()), 3)
    assert missing == []
    assert len({each for each, _ in engine.tried}) == 3


class Unordered(Scripted):
    """An engine whose work ends in any order; one of ten nodes dies, whatever it does."""

    def __init__(self, machines: dict[Node, Result], chance: random.Random) -> None:
        super().__init__(machines)
        self.chance = chance
        self.probed: dict[Node, Result] = {}

    def next_ended(self) -> tuple[Work, Result]:
        self.chance.shuffle(self._waiting)
        work, result = super().next_ended()
        if self.chance.random() < 0.1:
            return work, {"error": "died"}
        if work.what == "probe":
            self.probed[work.node] = result
        return work, result


@pytest.mark.parametrize("seed", range(5))
def test_of_hundreds_of_nodes_no_run_is_lost_or_made_twice(seed: int) -> None:
    chance = random.Random(seed)
    cards = [*range(20), *(chance.randrange(5) for _ in range(280))]
    engine = Unordered({each: gpu_node(f"GPU {card}") for each, card in zip(nodes(300), cards, strict=True)}, chance)
    kept, lines, missing = run_on(engine, repeat=2)
    required = [
        name for each, there in by_machine_type(engine.probed).items() for name in run_names(each, min(2, len(there)))
    ]
    assert sorted([*kept, *missing]) == sorted(required)
    assert len(kept) > len(missing)
    assert set(lines) == set(engine.machines), "each node has a line"
    assert len({each for each, _ in engine.tried}) == len(engine.tried), "each node tries once"


def test_a_pattern_that_names_no_kind_is_refused_with_the_kinds_that_there_are() -> None:
    assert chosen(["nvidia-h100-1", "nvidia-l4-2"], "*H100*") == ["nvidia-h100-1"]
    with pytest.raises(ParameterError, match=r"--machine-types: '\*a100\*' names none of this cluster's: nvidia-l4-2"):
        chosen(["nvidia-l4-2"], "*a100*")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--repeat", "0"], "argument --repeat: got '0', allowed: more than 0, up to 100"),
        (["--repeat", "many"], "argument --repeat: got 'many', allowed: more than 0, up to 100"),
        (["--hours", "-1"], "argument --hours: got '-1', allowed: more than 0, up to 240"),
        (["--hours", "nan"], "argument --hours: got 'nan', allowed: more than 0, up to 240"),
    ],
)
def test_bad_arguments_are_refused_by_name(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parsed(arguments)
    assert message in capsys.readouterr().err


@pytest.fixture
def here(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(project.folder)
    return project


def test_uncommitted_changes_are_refused_but_for_what_a_fleet_writes(here: Project) -> None:
    commit = clean_commit()
    (here.folder / "runs/a-run").mkdir()
    (here.folder / "runs/a-run/run.json").write_text("{}", encoding="utf-8")
    assert clean_commit() == commit
    (here.folder / "stages/new.py").write_text("", encoding="utf-8")
    with pytest.raises(ParameterError, match=r"not in git: stages/new\.py; commit or stash them"):
        clean_commit()


def test_a_clone_without_history_is_refused_with_the_command_that_gets_it(
    here: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.run("git", "commit", "--quiet", "--allow-empty", "-m", "Another")
    shallow = here.folder.with_name("shallow")
    here.run("git", "clone", "--quiet", "--depth", "1", here.folder.as_uri(), str(shallow))
    monkeypatch.chdir(shallow)
    with pytest.raises(ParameterError, match="`git fetch --unshallow`"):
        clean_commit()
    here.run("git", "-C", str(shallow), "fetch", "--quiet", "--unshallow")
    assert clean_commit()


def test_what_ray_sets_for_its_tasks_does_not_reach_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert not {"CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"} & set(node.environment(SPEC))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert node.environment(SPEC)["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_a_run_is_out_of_date_after_a_change_of_what_is_measured_and_not_of_the_report(here: Project) -> None:
    first = clean_commit()
    report = here.folder / "bench/report/texts.py"
    report.write_text(report.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    here.commit("Change the report")
    assert measures_the_same(first, clean_commit())
    here.set_params(lambda params: params["timing"].update(warmup_runs=2))
    here.commit("Change the parameters")
    assert not measures_the_same(first, clean_commit())
    assert not measures_the_same("1" * 40, clean_commit()), "a commit that is not known here"


def test_only_packages_of_no_measuring_stage_leave_a_run_current() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    measuring = {name: stages[name].get("do", stages[name]) for name in set(stages) - REPORTING}
    measured = {Path(dep).parts[1] for stage in measuring.values() for dep in stage["deps"] if dep.startswith("bench/")}
    packages = {path.parent.name for path in (ROOT / "bench").glob("*/__init__.py")}
    assert {f"bench/{name}" for name in packages - measured} == set(NOT_MEASURED)


REPORTING = {"summarize", "render", "check_rows", "compare_runs"}
"""Stages that make reports of what was measured."""
MEASURED = Work(nodes(1)[0], "measure", "a-run", "a-type")


def packed_run(folder: str = ".") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:xz") as archive:
        info = tarfile.TarInfo(f"{folder}/run.json")
        info.size = 2
        archive.addfile(info, io.BytesIO(b"{}"))
    return stream.getvalue()


def test_a_kept_run_is_current_until_its_commit_measures_something_else(here: Project) -> None:
    commit = clean_commit()
    assert not results_store.is_current("a-run", commit)
    assert results_store.keep(commit, MEASURED, {"archive": packed_run()}) == ""
    assert results_store.is_current("a-run", commit)
    assert results_store.read_index()["a-run"] == {"commit": commit, "machine_type": "a-type", "node": "10.0.0.0"}
    here.set_params(lambda params: params["timing"].update(warmup_runs=2))
    here.commit("Change the parameters")
    assert not results_store.is_current("a-run", clean_commit())


def test_what_a_node_sends_cannot_be_written_outside_of_runs(here: Project) -> None:
    problem = results_store.keep(clean_commit(), MEASURED, {"archive": packed_run("../../elsewhere")})
    assert problem.startswith("what it sent could not be kept: ")
    assert not (here.folder.parent / "elsewhere").exists()
    assert not (here.folder / "runs/fleet.json").exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"a-run": {"commit": "0", "node": "10.0.0.0"}}'])
def test_a_damaged_index_is_refused_with_what_to_do(here: Project, text: str) -> None:
    (here.folder / "runs/fleet.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"runs/fleet\.json is damaged .*restore it with git, or remove it"):
        results_store.is_current("a-run", "0" * 40)


def spec(here: Project, **changes: Any) -> node.TaskSpec:
    given = node.TaskSpec(clean_commit(), "a-run", 60.0, sys.executable, str(here.folder.parent / "node"))
    return replace(given, **changes)


def test_a_node_tells_its_fingerprint_from_the_commit_alone(here: Project) -> None:
    commit = clean_commit()
    assert node.probe(spec(here), bundle_of(commit)) == fingerprint()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"python": "no-such-python"}, "No such file or directory: no-such-python"),
        ({"commit": "2" * 40}, "git checkout: "),
    ],
)
def test_a_node_that_cannot_do_it_says_why_in_a_line(here: Project, changes: dict[str, Any], reason: str) -> None:
    told = node.measure(spec(here, **changes), bundle_of(clean_commit()))
    assert told["error"].startswith(reason)
    assert "\n" not in told["error"]


def program(folder: Path, text: str) -> str:
    """Return a stand-in for a node's Python: a script that gets the arguments."""
    path = folder / "stand-in"
    path.write_text(f"#!{sys.executable}\nimport os, sys, time\nfrom pathlib import Path\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


posix = pytest.mark.skipif(os.name == "nt", reason="a script cannot stand for a program there")
RECORDS = "if 'bench.runs.record' in sys.argv: Path('runs/a-run').mkdir(parents=True, exist_ok=True); {}"


def test_two_fleets_never_measure_in_one_folder_at_once(here: Project) -> None:
    asked, bundle = spec(here), bundle_of(clean_commit())
    place = node.unpack(asked, bundle).parent
    with FileLock(place / "measuring.lock"):
        told = node.measure(asked, bundle)
    assert told["error"] == f"another fleet measures in {place}"


class Cluster(Scripted):
    """A scripted engine in the place of Ray's."""

    def connected(self, _address: str | None) -> AbstractContextManager[None]:
        return nullcontext()

    def nodes(self) -> list[Node]:
        return list(self.machines)

    def RayEngine(self, *_arguments: object) -> Cluster:  # noqa: N802  (as the module has it)
        return self


def run_fleet(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run `python run.py fleet` on a scripted cluster; return its exit code."""
    from fleet import __main__ as command

    monkeypatch.setattr(command, "ray_engine", cluster)
    monkeypatch.setattr(command, "compare", lambda _python: None)
    monkeypatch.setattr(sys, "argv", ["fleet", *arguments])
    try:
        command.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_the_command_tells_each_nodes_line_and_fails_if_a_kind_has_no_run(
    here: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = nodes(2)
    sound, broken = machine_type_of(gpu_node()), machine_type_of(gpu_node("NVIDIA L4"))
    asked = {one: gpu_node(), two: gpu_node("NVIDIA L4")}

    def measuring(work: Work) -> Result:
        if work.node == two:
            return {"error": "no space left on the disk", "log": "much\n"}
        return {"seconds": 600.0, "archive": packed_run(), "log": ""}

    assert run_fleet(Cluster(asked, measuring), monkeypatch) == 1
    said = capsys.readouterr()
    assert said.out.splitlines()[-2:] == [
        f"10.0.0.0  {sound}  measured {sound} in 10 min",
        f"10.0.0.1  {broken}  failed: no space left on the disk",
    ]
    assert f"no run: {broken}" in said.err
    assert here.read(f"artifacts/fleet/{broken}@10.0.0.1.log") == "much\n"

    again = Cluster(asked, lambda _work: {"seconds": 60.0, "archive": packed_run()})
    assert run_fleet(again, monkeypatch) == 0
    assert again.tried == [(two.id, broken)], "what is current is not measured again"
    assert run_fleet(again, monkeypatch, "--machine-types", "*a100*", "--again") == 0
    assert again.tried[1:] == [(one.id, sound)]


def test_what_a_node_sends_damaged_is_a_fault_of_that_node_and_loses_nothing_else(
    here: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = nodes(2)
    damaged = {one.id: b"no archive", two.id: packed_run()}
    cluster = Cluster(
        dict.fromkeys((one, two), gpu_node()), lambda work: {"seconds": 60.0, "archive": damaged[work.node.id]}
    )
    assert run_fleet(cluster, monkeypatch) == 0
    assert "10.0.0.0 failed: what it sent could not be kept" in capsys.readouterr().out
    assert (here.folder / "runs" / machine_type_of(gpu_node()) / "run.json").exists()


@posix
def test_a_finished_run_is_given_back_and_not_measured_again(here: Project, tmp_path: Path) -> None:
    count = tmp_path / "count"
    text = f"open({str(count)!r}, 'a').write('.')\n" + RECORDS.format("Path('runs/a-run/run.json').write_text('{}')")
    asked = spec(here, python=program(tmp_path, text))
    bundle = bundle_of(clean_commit())
    first, second = node.measure(asked, bundle), node.measure(asked, bundle)
    assert count.read_text() == "...", "check, dvc repro, record"
    assert not first["is_from_before"]
    assert second["is_from_before"]
    assert first["archive"]
    assert not node.measure(replace(asked, again=True), bundle)["is_from_before"]
    assert count.read_text() == "......"


@posix
def test_a_secret_reaches_the_run_and_no_log_and_nothing_that_is_brought_back(here: Project, tmp_path: Path) -> None:
    bundle = bundle_of(clean_commit())
    text = "print('token', os.environ['HF_TOKEN'])\n" + RECORDS.format("Path('runs/a-run/run.json').write_text('{}')")
    asked = spec(here, python=program(tmp_path, text), secrets={"HF_TOKEN": "hf_something_secret"})
    told = node.measure(asked, bundle)
    assert "token (HF_TOKEN)" in told["log"]
    assert "hf_something_secret" not in told["log"]

    leaky = RECORDS.format("Path('runs/a-run/run.json').write_text(os.environ['HF_TOKEN'])")
    told = node.measure(replace(asked, python=program(tmp_path, leaky), folder=str(tmp_path / "other")), bundle)
    assert told["error"] == "run.json holds a secret: the run is not brought back"


@posix
def test_the_error_of_a_failed_run_is_the_nodes_line(here: Project, tmp_path: Path) -> None:
    text = (
        "print('much'); print('error: no space left on the disk: free some', file=sys.stderr); print('x'); sys.exit(1)"
    )
    told = node.measure(spec(here, python=program(tmp_path, text)), bundle_of(clean_commit()))
    assert told["error"] == "no space left on the disk: free some"
    assert "much" in told["log"]


@posix
def test_a_run_that_hangs_is_ended_at_its_limit_with_all_that_it_started(here: Project, tmp_path: Path) -> None:
    beat = tmp_path / "beat"
    child = f"import time\\nwhile True: open({str(beat)!r}, 'a').write('.'); time.sleep(0.05)"
    text = f"import subprocess; subprocess.run([sys.executable, '-c', {child!r}.replace('\\\\n', chr(10))])"
    told = node.measure(spec(here, python=program(tmp_path, text), limit_seconds=3.0), bundle_of(clean_commit()))
    assert told["error"].startswith("was not done after ")
    assert stops_growing(beat)


def stops_growing(path: Path) -> bool:
    size = path.stat().st_size
    time.sleep(0.5)
    return size > 0 and path.stat().st_size == size


def test_a_measurement_ends_with_whoever_waits_for_it(tmp_path: Path) -> None:
    beat = tmp_path / "beat"
    code = f"import time\nwhile True:\n    open({str(beat)!r}, 'a').write('.'); time.sleep(0.05)"
    command = [sys.executable, node.__file__, str(tmp_path / "lock"), str(tmp_path / "log"), "600"]
    process = subprocess.Popen([*command, sys.executable, "-c", code], stdin=subprocess.PIPE)
    while not beat.exists():
        time.sleep(0.05)
    busy = subprocess.run([*command, sys.executable, "-c", ""], stdin=subprocess.PIPE, check=False)
    assert busy.returncode == node.BUSY, "two at once in one folder"
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(30) == node.ABANDONED
    assert stops_growing(beat)


def test_what_goes_to_a_node_needs_the_standard_library_alone() -> None:
    code = "import fleet.node; print(*[name for name in sys.modules if name.startswith('bench')])"
    told = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split() == []


OPTIONAL = {"setuptools", "ruamel-yaml-clib"}
"""Imported where they are there: by Python's start-up, and by ruamel.yaml."""
USED = """
import sys; sys.path.insert(0, {root!r})
import fleet.__main__
from fleet.machine_types import fingerprint
fingerprint()
print(*{{name.partition(".")[0] for name, module in sys.modules.items() if getattr(module, "__spec__", None)}})
"""


def test_a_fleet_needs_only_packages_of_its_own_lock() -> None:
    command = [sys.executable, "-c", USED.format(root=str(ROOT))]
    no_gpu = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}  # with one, PyTorch is asked for its version if it is there
    used = subprocess.run(command, capture_output=True, text=True, check=True, env=no_gpu).stdout.split()
    packages = importlib.metadata.packages_distributions()
    needed = {canonicalize_name(name) for module in used for name in packages.get(module, [])[:1]}
    lock = (ROOT / FLEET).read_text(encoding="utf-8")
    pins = {canonicalize_name(name) for name in re.findall(r"^([\w.-]+)==", lock, flags=re.MULTILINE)}
    assert {"filelock", "pydantic"} <= needed
    assert needed - OPTIONAL <= pins
