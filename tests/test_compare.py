"""Two versions side by side: what is worse, what differs by noise alone, and what cannot be measured."""

from __future__ import annotations

import json
import math
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, Project, copy_of
from filelock import FileLock

from bench.core.errors import WorkerError
from bench.core.files import file_sha256
from bench.core.interrupt import Interrupt
from bench.core.params import load_params
from bench.statistics.blocks import Level, Panel, pool_processes
from bench.timing.results import ProcessResult
from compare import judge, sides
from compare.__main__ import exit_code, main
from compare.judge import Judge
from compare.loaded import to_be_loaded
from compare.report import Beside, Change, Comparison, cells, escaped
from compare.sides import Side, check_space
from compare.timed import Group, Outcome, Timed
from run import Environment

SCHEMA = ROOT / "docs/compare.schema.json"
SIDES = ("before", "after")
RUN = '        logits: Logits = self._session.run(["logits"], dict(zip(self._names, batch.arrays, strict=True)))[0]\n'
SLOW_OR_WRONG = f"""        import time
        began = time.perf_counter()
{RUN}        if self._spec.precision == "int8":
            return -logits
        end = time.perf_counter() + 9 * (time.perf_counter() - began)
        while time.perf_counter() < end:
            pass
"""
"""A runtime whose fp32 rows take ten times as long, and whose INT8 rows are wrong."""


def compare(project: Project, *options: str, code: int = 0) -> str:
    """Compare in a project; return what was said."""
    ended = project.python("-m", "compare", *options, code=code)
    return ended.stdout + ended.stderr


def result(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(project.read("artifacts/compare/compare.json"))
    return found


def state(project: Project) -> dict[str, str]:
    """Return the hashes of what must stay as it is: everything but git's and DVC's own notes and the comparison."""
    files = (path for path in project.folder.rglob("*") if path.is_file())
    names = {path: path.relative_to(project.folder).as_posix() for path in files}
    passing = re.compile(r"\.dvc/(tmp|cache)/|artifacts/compare/|.*__pycache__/")
    return {name: file_sha256(path) for path, name in names.items() if not passing.match(name)}


def verdicts(found: Mapping[str, Any]) -> dict[str, set[str]]:
    rows: dict[str, set[str]] = {}
    for change in found["changes"]:
        rows.setdefault(change["row"], set()).add(change["verdict"])
    return rows


@pytest.mark.slow
def test_a_slower_row_is_found_and_a_wrong_one_and_the_workspace_stays_as_it_is(
    measured_copy: Project, tmp_path: Path
) -> None:
    openvino = {"runtime": "openvino", "device": "cpu", "precision": "fp32", "graph": "onnx/fp32.onnx"}
    rows = {"ort_cpu_fp32", "ort_cpu_int8", "ort_cuda_fp16"}
    kept = {key: row for key, row in measured_copy.params()["variants"].items() if key in rows}
    measured_copy.set_params(lambda params: params.update(variants={**kept, "openvino_cpu_fp32": openvino}))
    measured_copy.commit("Take OpenVINO, which starts faster than PyTorch")
    other = tmp_path / "other"
    shutil.copytree(measured_copy.folder, other, symlinks=True)
    runtime = other / "bench/runtimes/onnxruntime.py"
    text = runtime.read_text(encoding="utf-8")
    assert RUN in text
    runtime.write_text(text.replace(RUN, SLOW_OR_WRONG), encoding="utf-8")
    before = state(measured_copy)
    limits = ["--minutes", "0.4", "--margin", "20%", "--batch-sizes", "1"]  # a busy machine's noise stays below it
    said = compare(measured_copy, ".", str(other), *limits, code=1)
    assert state(measured_copy) == before
    found = result(measured_copy)
    verdict = verdicts(found)
    assert verdict["ort_cpu_fp32"] == {"slower"}, said
    assert verdict["ort_cpu_int8"] == {"lost"}
    assert verdict["openvino_cpu_fp32"] <= {"no difference", "inconclusive"}
    assert "ort_cuda_fp16" not in verdict, "what neither side can run is left out"
    [slower] = [each for each in found["changes"] if each["verdict"] == "slower"]
    assert 0 < slower["low"] < slower["change"], "how much beyond tenfold depends on what else runs"
    assert found["after"]["changed_files"] == ["bench/runtimes/onnxruntime.py"]
    assert {control["side"] for control in found["controls"]} == {"before", "after"}
    made = measured_copy.read("artifacts/compare/before.log")
    assert "Stage 'export_onnx' didn't change" in made, "what the workspace has made is not made again"


@pytest.mark.slow
def test_a_revision_and_parameters_are_compared_under_load_too(project: Project) -> None:
    project.set_params(lambda params: params["variants"].pop("ort_cpu_int8"))
    options = [
        "-S",
        "lengths.multiple_of=16",
        "--rows",
        "ort_cpu_*",
        "--batch-sizes",
        "1",
        "--minutes",
        "0.1",
        "--margin",
        "50%",
        "--served",
    ]
    said = compare(project, "HEAD", *options, code=1)
    found = result(project)
    fp32 = {each["batch_size"]: each for each in found["changes"] if each["row"] == "ort_cpu_fp32"}
    assert verdicts(found)["ort_cpu_int8"] == {"lost"}, said
    assert fp32[1]["verdict"] in ("no difference", "inconclusive")
    loaded = fp32[None]
    assert loaded["verdict"] in ("no difference", "inconclusive"), said
    assert all(loaded[side] or has_no_rate(side, loaded["reason"]) for side in SIDES), said
    assert found["after"]["settings"] == ["lengths.multiple_of=16"]
    assert found["after"]["changed_files"] == ["params.yaml"]
    [beside] = found["beside"]
    assert beside["labels_compared"] > 0 == beside["labels_changed"]
    assert all(memory > 0 for memory in beside["memory_mib"])
    assert project.read("artifacts/compare/compare.md").startswith("| row ")
    made = project.read("artifacts/compare/after.log")
    assert "Stage 'export_onnx' didn't change" in made, "the second side makes nothing that the first has made"


def has_no_rate(side: str, reason: str) -> bool:
    """Tell whether the machine was too busy for a rate of a side, by the reason of a verdict."""
    return "too slow to be tried: it should hold about " in reason or f"{side}: no rate from " in reason


@pytest.fixture(scope="module")
def prepared(fresh: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A copy with two revisions whose workers cannot be driven from here; nothing in it is changed."""
    for project in copy_of(fresh, tmp_path_factory.mktemp("prepared") / "project"):
        file = project.folder / "bench/workers/protocol.py"
        for name, old, new in (("foreign", "PROTOCOL = 1", "PROTOCOL = 99"), ("early", "PROTOCOL = 99", "OTHER = 1")):
            file.write_text(file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
            project.commit(name)
            project.run("git", "tag", name)
        project.run("git", "reset", "--quiet", "--hard", "HEAD~2")
        yield project


Refused = Callable[..., str]


@pytest.fixture
def refused(prepared: Project, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Refused:
    """Return what compares in this process, ends with 2, and returns what was said."""
    monkeypatch.chdir(prepared.folder)

    def run(*options: str) -> str:
        monkeypatch.setattr(sys, "argv", ["compare", *options])
        try:
            code: Any = main()
        except SystemExit as ended:  # of the parser
            code = ended.code
        said = capfd.readouterr()
        assert code == 2, said
        return said.out + said.err

    return run


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["nothing"], "nothing: neither a folder of this project with a commit nor a git revision"),
        (["early"], "early is from before `compare`"),
        (["foreign"], "the workers of foreign speak protocol 99, those of this checkout 1"),
        (["--rows", "ort_*,torch_gpu"], "--rows torch_gpu: no such row, allowed: torch_cpu_fp32, ort_cpu_fp32"),
        (["-S", "model.nothing.id=x"], "-S model.nothing.id=x: allowed: KEY=VALUE with a key of params.yaml"),
        (["--both", "sequence_length=3"], "params.yaml: sequence_length: got 3, allowed: "),
        (["--with", "torch"], "--with torch: allowed: PACKAGE==VERSION"),
        (["--margin", "x%"], "--margin: got x, allowed: a number above 0 and below 100"),
        (["--with", "no-such-package-of-this-project==1.0"], "error: compare: "),
    ],
)
def test_what_cannot_be_compared_ends_with_2_and_says_why(refused: Refused, options: list[str], reason: str) -> None:
    assert reason in refused(*options)


def test_two_at_once_are_refused(refused: Refused) -> None:
    Path("artifacts/compare").mkdir(parents=True, exist_ok=True)
    with FileLock("artifacts/compare/lock"):
        assert "another compare runs in this folder" in refused()


def test_an_environment_that_cannot_be_made_ends_the_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Environment, "prepare", lambda _self, *_locks: 1)
    side = Side("after", ".", tmp_path, tmp_path / "after")
    with pytest.raises(WorkerError, match="the environment of after could not be made: see above"):
        side.make(tmp_path / "pins.lock", [])


def test_a_disk_too_small_is_told_of_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "artifacts/model").mkdir(parents=True)
    (tmp_path / "artifacts/compare").mkdir()
    (tmp_path / "artifacts/model/weights").write_bytes(bytes(3000))
    monkeypatch.setattr(sides, "shutil", SimpleNamespace(disk_usage=lambda _path: SimpleNamespace(free=5000)))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "artifacts"))
    both: list[Any] = [None, None]
    with pytest.raises(WorkerError, match="the disk is too small"):
        check_space(both, [None, None])
    monkeypatch.setattr(sides, "GIB", 1)
    with pytest.raises(WorkerError):
        check_space(both, [None, tmp_path / "new.lock"])
    assert "needs up to 9000.0 GiB (1 new environments); 5000.0 GiB are free" in capsys.readouterr().out


def test_pins_move_where_they_are_asked_to_and_nowhere_else() -> None:
    wanted = {"onnxruntime-gpu": "1.32.0"}
    line = 'onnxruntime_gpu==1.31.1; sys_platform == "linux"'
    assert sides._repinned(line, wanted) == 'onnxruntime_gpu==1.32.0; sys_platform == "linux"'
    assert sides._repinned("onnxruntime==1.31.1", wanted) == "onnxruntime==1.31.1"
    assert sides._repinned("# onnxruntime-gpu==1.31.1", wanted) == "# onnxruntime-gpu==1.31.1"


def group(change: float, control: float = 0.0, noise: float = 0.004, size: int | None = 1, **statuses: Any) -> Group:
    """Return a group of two rows, of which `x` changed by so much, and `y` not at all; `control`: of the after side."""
    ms = {"before/x": 1.0, "after/x": 1 + change, "before/y": 2.0, "after/y": 2.0}
    ms |= {"before_again/y": 2.0, "after_again/y": 2.0 * (1 + control)}
    random = np.random.default_rng(0)
    panel = Panel(
        [
            {p: {n: value * math.exp(noise * random.standard_normal()) for n in range(30)} for p in range(2)}
            for value in ms.values()
        ]
    )
    pool_processes([panel], [None])
    outcomes: dict[str, dict[int | None, Outcome]] = {
        name: {size: Outcome(statuses.get(name.replace("/", "_"), "measured"), value=value)}
        for name, value in ms.items()
    }
    pairs = [("after/x", "before/x"), ("after/y", "before/y"), ("after_again/y", "after/y")]
    levels = dict(zip(ms, panel.levels(), strict=True))
    return Group(["x", "y"], [*pairs, ("before_again/y", "before/y")], {size: levels}, outcomes)


def drawn(random: np.random.Generator, changes: Mapping[str, float]) -> Group:
    """Return a group of six rows of two processes, 25 passes, two batch sizes, on a host of two states that drifts.

    Noise of heavy tails; a block in twenty meets another state than its neighbours; processes differ by about 1%.
    """
    keys = list("uvwxyz")
    names = [f"{side}/{key}" for key in keys for side in ("before", "after")] + ["before_again/u", "after_again/u"]
    pairs = [(f"after/{key}", f"before/{key}") for key in keys] + [(f"{s}_again/u", f"{s}/u") for s in SIDES]
    place = {name: number for number, name in enumerate(names)}
    panels = []
    for _ in range(2):
        host = {key: 0.4 * (random.random(25) < 0.5) + np.cumsum(random.normal(0.0, 0.02, 25)) for key in keys}
        rows = []
        for name in names:
            side, key = name.split("/")
            noise = 0.02 * random.standard_t(2.2, (2, 25)) + 0.4 * (random.random((2, 25)) < 0.05)
            logs = host[key] + noise + random.normal(0.0, 0.01, (2, 1)) + changes.get(key, 0.0) * ("after" in side)
            rows.append({process: dict(enumerate(own.tolist())) for process, own in enumerate(np.exp(logs))})
        panels.append(Panel(rows, neighbours=[(place[b], place[a]) for a, b in pairs]))
    pool_processes(panels, [None, None])
    levels: dict[int | None, dict[str, Level]] = {
        size: dict(zip(names, panel.levels(), strict=True)) for size, panel in zip((1, 4), panels, strict=True)
    }
    outcome = {size: Outcome("measured", value=1.0) for size in levels}
    return Group(keys, pairs, levels, dict.fromkeys(names, outcome))


def test_heavy_tails_accuse_no_equal_row_and_hide_no_slower_one() -> None:
    random = np.random.default_rng(0)
    accused = found = 0
    for _ in range(60):
        said = {each.row: each.verdict for each in Judge([drawn(random, {"x": 0.15})], margin=0.02).changes()}
        found += said.pop("x") == "slower"
        accused += not {"slower", "faster"}.isdisjoint(said.values())
    assert accused <= 3
    assert found >= 54


def judged(made: Group) -> dict[str, Change]:
    return {change.row: change for change in Judge([made], margin=0.02).changes()}


@pytest.mark.parametrize(("change", "said"), [(0.1, "slower"), (-0.1, "faster"), (0.0, "no difference")])
def test_verdicts_are_of_latency_and_of_rows_with_their_twins_alone(change: float, said: str) -> None:
    found = judged(group(change))
    assert (found["x"].verdict, found["y"].verdict) == (said, "no difference")
    assert found["x"].low is not None
    assert found["x"].high is not None
    assert found["x"].low < change < found["x"].high
    assert found["x"].high - found["x"].low < 0.02


def test_under_load_more_time_a_request_is_fewer_requests() -> None:
    found = judged(group(0.25, size=None))["x"]
    assert (found.verdict, found.batch_size) == ("slower", None)
    assert found.change == pytest.approx(-0.2, abs=0.01)


def test_what_noise_hides_is_inconclusive_and_says_what_could_have_been_seen() -> None:
    found = judged(group(0.05, noise=0.3))["x"]
    assert (found.verdict, found.reason) == ("inconclusive", "")
    assert found.smallest is not None
    assert found.smallest > 0.05


def test_a_side_that_differs_from_itself_accuses_nobody() -> None:
    found = judged(group(0.1, control=0.1))["x"]
    assert (found.verdict, found.reason) == ("inconclusive", "the after side differs from itself")


def test_a_row_of_one_side_alone_is_lost_or_gained() -> None:
    found = judged(group(0.0, after_x="rejected", before_y="failed"))
    assert (found["x"].verdict, found["x"].reason) == ("lost", "after rejected")
    assert (found["y"].verdict, found["y"].reason) == ("gained", "before failed")


@pytest.mark.parametrize(
    ("peak_mib", "wrong", "worse"),
    [
        ((1000.0, 1010.0), 1, []),
        ((1000.0, 1500.0), 1, ["memory beyond report.max_memory_gib = 1"]),
        ((1500.0, 1600.0), 1, []),
        ((1000.0, 1010.0), 31, ["accuracy lost: 30 of 100, allowed 1.00%"]),
    ],
)
def test_memory_beyond_a_limit_and_lost_accuracy_are_worse(
    peak_mib: tuple[float, float], wrong: int, worse: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = np.zeros(100, dtype=np.int64)
    monkeypatch.setattr(judge, "load_encoded", lambda _path: SimpleNamespace(labels=truth))
    params = load_params(ROOT / "params.yaml")
    report = params.report.model_copy(update={"max_memory_gib": 1.0})
    described = SimpleNamespace(sentences="", rows={"x": SimpleNamespace(variant=SimpleNamespace(precision="bf16"))})
    labels = [truth.copy(), truth.copy()]
    labels[0][:1], labels[1][:wrong] = 1, 1
    names = ["before/x", "after/x"]
    processes = [ProcessResult(status="measured", peak_host_mib=peak, start_seconds=1.0) for peak in peak_mib]
    results = {name: [each] for name, each in zip(names, processes, strict=True)}
    own = {name: each.tolist() for name, each in zip(names, labels, strict=True)}
    made = Group(["x"], [], {}, {}, results=results, labels=own)
    both: Any = dict.fromkeys(["before", "after"], SimpleNamespace(place=Path(), described=described))
    [found] = judge.beside(made, both, params.model_copy(update={"report": report}))
    assert (found.memory_mib, found.worse) == (peak_mib, worse)
    assert (found.labels_compared, found.labels_changed, found.right) == (100, wrong - 1, (99, 100 - wrong))


def timed(**mean_ms: float) -> tuple[Timed, list[Group]]:
    """Return what timed a row at batch size 1, and the group in which a call took so many ms on each side."""
    reports: Any = {
        f"{side}/x": SimpleNamespace(measured=lambda ms=ms: {"1": SimpleNamespace(mean_ms=ms)})
        for side, ms in mean_ms.items()
    }
    sides: Any = dict.fromkeys(SIDES)
    params = load_params(ROOT / "params.yaml")
    serving = params.serving.model_copy(update={"minutes": 0.1, "p99_ms": {"cpu": 250.0}})
    params = params.model_copy(update={"serving": serving})
    return Timed(["x"], "x", sides, params, [1], Path(), Interrupt()), [Group(["x"], [], {}, {}, reports=reports)]


@pytest.mark.parametrize(
    ("before", "after", "verdict", "reason"),
    [
        (5.0, 8.0, "inconclusive", "after not tried (too slow to be tried: it should hold about "),
        (8.0, 5.0, "inconclusive", "before not tried (too slow to be tried: it should hold about "),
        (8.0, 8.0, "inconclusive", "before not tried (too slow to be tried: it should hold about "),
        (5.0, 300.0, "lost", "after over_budget (holds no rate within 250 ms)"),
        (300.0, 300.0, "neither", "before over_budget (holds no rate within 250 ms); after over_budget ("),
    ],
)
def test_a_row_that_time_kept_from_a_load_is_neither_lost_nor_gained(
    before: float, after: float, verdict: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Timed, "device", "cpu")
    loaded, others = to_be_loaded(*timed(before=before, after=after))
    found = judge.unmeasured("x", None, others["x"])
    assert (loaded.keys, found.verdict) == ([], verdict)
    assert found.reason.startswith(reason)


def test_a_side_that_met_the_slo_at_no_rate_is_named() -> None:
    made = group(0.0, size=None)
    reason = "no rate from 120/s on met the SLO"
    outcomes: dict[str, Any] = {**made.outcomes, "after/x": {None: Outcome("measured", reason)}}
    found = judged(replace(made, levels={None: {}}, outcomes=outcomes))["x"]
    assert (found.verdict, found.reason) == ("inconclusive", f"too few passes; after: {reason}")
    assert (found.before, found.after) == (1.0, None)


def test_what_would_end_a_cell_or_begin_html_is_escaped() -> None:
    lost = Change(row="x", batch_size=1, verdict="lost", reason="after failed (a|b\n<frozen>)")
    assert escaped(cells(lost)[-1]) == r"lost: after failed (a\|b \<frozen>)"


def change(verdict: Any) -> Change:
    """Return a verdict with an interval, `few` for one without."""
    if verdict in ("few", "lost", "neither"):
        return Change(row="x", batch_size=1, verdict="inconclusive" if verdict == "few" else verdict)
    return Change(row="x", batch_size=1, verdict=verdict, change=0.0)


@pytest.mark.parametrize(
    ("verdicts", "worse", "strict", "cut", "code"),
    [
        (["no difference", "faster", "inconclusive", "gained", "neither"], [], False, "", 0),
        (["no difference", "inconclusive"], [], True, "", 1),
        (["slower", "faster"], [], False, "", 1),
        (["lost"], [], False, "", 1),
        (["no difference"], ["accuracy lost"], False, "", 1),
        (["no difference"], [], False, "cut short", 2),
        (["slower"], [], False, "cut short", 1),
        (["neither"], [], False, "", 2),
        (["few", "few"], [], False, "", 2),
        (["few", "no difference"], [], False, "", 0),
        ([], [], False, "", 2),
    ],
)
def test_the_exit_code_says_whether_anything_is_worse(
    verdicts: list[str], worse: list[str], strict: bool, cut: str, code: int
) -> None:
    rows = [Beside(row="x", memory_mib=(None, None), start_seconds=(None, None), worse=worse)]
    assert exit_code([change(said) for said in verdicts], rows, strict, cut) == code


def test_the_schema_is_published(request: pytest.FixtureRequest) -> None:
    schema = json.dumps(Comparison.model_json_schema(), indent=1) + "\n"
    if request.config.getoption("--update-golden"):
        SCHEMA.write_text(schema, encoding="utf-8")
    assert SCHEMA.read_text(encoding="utf-8") == schema
    assert Comparison.model_fields["schema_version"].default == 2


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C as a signal")
def test_ctrl_c_ends_the_timing_with_what_there_is_and_2(measured_copy: Project) -> None:
    command = [sys.executable, "-m", "compare", "--rows", "ort_cpu_fp32", "--minutes", "10"]
    process = subprocess.Popen(
        command, cwd=measured_copy.folder, env=measured_copy.environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    said = ""
    while "pass 1:" not in said:
        said += process.stdout.readline()
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    said += process.communicate(timeout=300)[0]
    assert process.returncode == 2, said
    assert "cut short by Ctrl-C" in said
    assert result(measured_copy)["exit_code"] == 2
