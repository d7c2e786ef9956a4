"""Engines on a small model with the real dvc: what builds one anew, what does not, what is never believed, what fails.

Each test runs with a stand-in for TensorRT and its GPU, and with the real ones where there are any (`-m gpu`).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import STAND_INS, Project, copy_of, in_front, shared_project, shim
from stand_ins.tensorrt_runtime import NO_BUILDER_RESOURCE, NO_INT8
from test_deploy import change, refused_start, serving

from bench.deploy.settings import Settings
from bench.machine.versions import library_version

REAL = pytest.param("real", marks=pytest.mark.gpu)
stand_in_only = pytest.mark.parametrize("built", ["stand_in"], indirect=True)
KEY = "ort_tensorrt_fp16"
BUILD, INFER = f"build_engine@{KEY}", f"infer_tensorrt@{KEY}"
ENGINES = Path("artifacts/engines") / KEY
Change = Callable[[dict[str, Any]], None]


def enlarge(params: dict[str, Any]) -> None:
    """Make the tiny model large enough for TensorRT to pick FP16 kernels."""
    params["model"]["synthetic"] |= {"dim": 256, "heads": 4, "hidden_dim": 1024}
    params["sequence_length"] = 64


def widen(params: dict[str, Any]) -> None:
    """Make the model's layers as wide as the real one's: an engine for batch 1 alone has FP16 kernels then."""
    params["model"]["synthetic"] |= {"dim": 768, "heads": 12, "hidden_dim": 3072}
    params["sequence_length"] = 128


def without_tensorrt(project: Project) -> None:
    """Let a project run as if there were a GPU and TensorRT."""
    shutil.copyfile(STAND_INS / "tensorrt_runtime.py", project.folder / "bench/runtimes/tensorrt.py")
    project.environment |= in_front(project, STAND_INS)


@pytest.fixture(scope="module", params=["stand_in", REAL])
def built(request: pytest.FixtureRequest, measured: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which the engine is built and timed; read it, do not change it."""
    is_real = request.param == "real"
    if is_real and library_version("tensorrt") is None:
        pytest.skip("needs TensorRT")

    def build(project: Project) -> None:
        if is_real:
            project.set_params(enlarge)
        else:
            without_tensorrt(project)
        project.repro(INFER)

    project = shared_project(tmp_path_factory, f"built_{request.param}", build, measured)
    if not is_real:
        project.environment |= in_front(project, STAND_INS)
    return project


@pytest.fixture
def copy(built: Project, tmp_path: Path) -> Iterator[Project]:
    """A copy of it, to be changed."""
    yield from copy_of(built, tmp_path / "copy")


def change_variant(project: Project, **changes: Any) -> None:
    """Change what params.yaml says of the row."""
    project.set_params(lambda params: params["tensorrt_variants"][KEY].update(changes))


def engines(project: Project) -> list[Path]:
    """Return the engine files of the row."""
    return sorted((project.folder / ENGINES).rglob("*.engine"))


def engine_folder(project: Project) -> str:
    """Return the name of the folder that the row's engine lies in."""
    record: dict[str, Any] = json.loads(project.read(f"{ENGINES.as_posix()}/build.json"))
    return str(record["folder"])


def build_and_time(project: Project) -> None:
    """Run the row's two stages without DVC."""
    project.python("stages/build_engine.py", KEY)
    project.python("stages/infer.py", KEY)


def statuses(project: Project) -> set[str]:
    """Return what became of the row at its batch sizes."""
    return {cell["status"] for cell in project.cells(KEY).values()}


def test_the_row_is_measured_from_a_cached_engine_and_proved(built: Project) -> None:
    record = json.loads(built.read(f"{ENGINES.as_posix()}/build.json"))
    assert record["status"] == "built"
    assert record["engine_bytes"] == sum(path.stat().st_size for path in engines(built)) > 0
    for cell in built.cells(KEY).values():
        assert cell["status"] == "measured", cell
        assert cell["proof"].startswith("DW")  # TensorRT may fuse so tiny products into kernels without a telling name


def change_weights(params: dict[str, Any]) -> None:
    params["model"]["synthetic"]["seed"] += 1


def change_opset(params: dict[str, Any]) -> None:
    params["export"]["opset"] = 18


def change_batch_sizes(params: dict[str, Any]) -> None:
    params["batch_sizes"] = [1, 4]


def change_precision(params: dict[str, Any]) -> None:
    params["tensorrt_variants"][KEY] |= {"precision": "tf32", "graph": "onnx/fp32.onnx"}


@pytest.mark.parametrize("change", [change_weights, change_opset, change_batch_sizes, change_precision])
def test_an_engine_is_built_anew_after_a_change_of(copy: Project, change: Change) -> None:
    copy.set_params(change)
    assert {BUILD, INFER} <= copy.stale(environment={})


def test_an_engine_is_built_anew_for_another_version_of_tensorrt(copy: Project) -> None:
    machine = shim(copy, "tensorrt.py", '__version__ = "0.0.1"\n')
    assert {BUILD, INFER} <= copy.stale(environment=machine)


def change_timing(params: dict[str, Any]) -> None:
    params["timing"]["warmup_runs"] += 1


def change_report(params: dict[str, Any]) -> None:
    params["report"]["margin"] = 0.05


@pytest.mark.parametrize("change", [change_timing, change_report])
def test_an_engine_stays_after_a_change_of(copy: Project, change: Change) -> None:
    copy.set_params(change)
    assert BUILD not in copy.stale(environment={})


def test_an_engine_stays_after_an_edit_of_the_plots(copy: Project) -> None:
    with (copy.folder / "bench/report/charts/write.py").open("a", encoding="utf-8") as stream:
        stream.write("# another colour\n")
    assert not {BUILD, INFER} & copy.stale(environment={})


@pytest.mark.slow
def test_an_old_engine_of_other_weights_in_the_folder_is_never_believed(copy: Project) -> None:
    """TensorRT's provider takes any engine of that file name: DVC replaces it, and the gate refuses it."""
    old = engines(copy)[0]
    kept = copy.folder / "old.engine"
    shutil.copyfile(old, kept)
    folder = engine_folder(copy)
    copy.set_params(change_weights)
    copy.repro(INFER)
    assert statuses(copy) == {"measured"}
    [new] = engines(copy)
    assert new.name == old.name, "the file's name does not tell the weights apart"
    assert new.parent.name == engine_folder(copy) != folder
    right = new.read_bytes()

    new.unlink()
    shutil.copyfile(kept, new)
    copy.python("stages/infer.py", KEY)
    assert statuses(copy) == {"rejected"}
    assert {BUILD, INFER} <= copy.stale(environment={})

    copy.repro(BUILD)
    assert engines(copy)[0].read_bytes() != kept.read_bytes() or right == kept.read_bytes()


def test_a_run_that_would_build_an_engine_while_timing_fails_its_row(copy: Project) -> None:
    for engine in engines(copy):
        engine.unlink()
    copy.python("stages/infer.py", KEY)
    assert statuses(copy) == {"failed"}
    assert "built an engine instead of using the built one" in copy.cells(KEY)[1]["reason"]


@pytest.mark.parametrize("built", [REAL], indirect=True)
def test_a_cuda_graph_gives_right_logits_at_every_batch_size(copy: Project) -> None:
    copy.set_params(widen)
    change_variant(copy, options={"cuda_graph": True})
    copy.repro(INFER)
    assert len(engines(copy)) == 2, "an engine a batch size"
    assert [cell.get("reason", "measured") for cell in copy.cells(KEY).values()] == ["measured", "measured"]


@stand_in_only
def test_a_missing_builder_resource_skips_the_row_and_says_so(copy: Project) -> None:
    change_variant(copy, options={"fails_with": NO_BUILDER_RESOURCE})
    build_and_time(copy)
    assert statuses(copy) == {"skipped"}
    reason = copy.cells(KEY)[1]["reason"]
    assert reason.startswith("TensorRT 99.0 does not load its builder resource for this GPU")
    assert reason.endswith(NO_BUILDER_RESOURCE)


@stand_in_only
def test_an_int8_engine_that_is_not_built_rejects_its_row_with_tensorrts_words(copy: Project) -> None:
    change_variant(copy, precision="int8", options={"fails_with": NO_INT8})
    build_and_time(copy)
    assert statuses(copy) == {"rejected"}
    assert copy.cells(KEY)[1]["reason"].endswith(NO_INT8)


@stand_in_only
def test_any_other_failed_build_fails_its_row_and_is_tried_again(copy: Project) -> None:
    change_variant(copy, options={"fails_with": NO_INT8})
    copy.repro(BUILD)
    copy.python("stages/infer.py", KEY)
    for stage in ("summarize", "render"):
        copy.script(f"stages/{stage}.py")
    assert BUILD not in copy.stale(environment={})
    told = copy.script("stages/check_rows.py", code=1).stderr
    assert "error: 1 row failed" in told
    assert NO_INT8 in told
    assert "\x1b[" not in told
    assert f"failed ({KEY}: " in copy.read("results/summary_table.md")
    assert {BUILD, INFER} <= copy.stale(environment={})


def test_a_row_that_is_off_builds_nothing(copy: Project) -> None:
    copy.set_params(lambda params: params["precisions"].update(fp16=False))
    build_and_time(copy)
    assert not engines(copy)
    assert statuses(copy) == {"off"}


DEPLOY = f"""
from pathlib import Path
from bench.core.params import load_params
from bench.deploy.build import Folder
from bench.deploy.row import chosen
Path("out").mkdir()
Folder(Path("out"), chosen(load_params(), "{KEY}")).write()
"""
"""As `run.py deploy out` does, but of this row alone: the others of the project are stale."""


def test_an_engine_is_deployed_served_and_never_another_one(copy: Project) -> None:
    copy.python("-c", DEPLOY)
    out = copy.folder / "out"
    environment = {"PYTHONPATH": copy.environment.get("PYTHONPATH", "")}
    settings = Settings.read(out)
    deployed = {f"engine/{path.relative_to(copy.folder / ENGINES / engine_folder(copy))}" for path in engines(copy)}
    assert deployed <= set(settings.files)
    with serving(out, **environment) as running:
        assert {own["label"] for own in running.results("fine", "bad")} <= {"NEGATIVE", "POSITIVE"}
    [engine] = (out / "engine").rglob("*.engine")
    engine.write_bytes(engine.read_bytes() + b"\0")
    assert f"error: engine/{engine.name} is another file than was deployed" in refused_start(out, **environment)
    engine.unlink()
    assert f"error: engine/{engine.name} is missing" in refused_start(out, **environment)
    change(out, lambda settings: settings["files"].pop(f"engine/{engine.name}"))
    said = refused_start(out, **environment)
    assert f"built an engine instead of loading the deployed one: engine/{engine.name} was not deployed" in said
