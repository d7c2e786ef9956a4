"""Downloads from the hub, against a server on loopback that speaks its protocol."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import Project, tiny_params
from hub_server import COMMIT, Hub, serving

from bench.core.params import Params
from bench.core.schemas import read_sentences
from bench.sources.builtin import builtin_sentences
from bench.sources.synthetic import write_synthetic_model

MODEL, DATASET = "someone/tiny-sst2", "someone/sst2"


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("hub")
    model, data = folder / "model", folder / "dataset" / "data"
    model.mkdir()
    data.mkdir(parents=True)
    evaluation, calibration = builtin_sentences()
    settings = Params.model_validate(tiny_params()).model.synthetic
    write_synthetic_model(settings, [row.sentence for row in evaluation], model)
    for split, labelled in (("validation", evaluation[:20]), ("train", calibration[:30] + evaluation[:5])):
        table = pd.DataFrame([row[:2] for row in labelled], columns=["sentence", "label"])
        table.to_parquet(data / f"{split}-00000-of-00001.parquet")
    return {MODEL: model, DATASET: folder / "dataset"}


@pytest.fixture
def hub(repositories: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving(Hub(dict(repositories))) as served:
        served.reach(tmp_path / "hub-home", monkeypatch)
        yield served


def use_hub(params: dict[str, Any], source: str, revision: str = COMMIT, seconds: float = 60) -> None:
    params["model"] |= {"id": MODEL, "revision": revision, "source": source, "hub_timeout_seconds": seconds}
    params["dataset"] |= {"id": DATASET, "revision": COMMIT, "source": source}


def download(project: Project, source: str, code: int = 0, revision: str = COMMIT, seconds: float = 60) -> str:
    project.set_params(lambda params: use_hub(params, source, revision, seconds))
    ended = project.script("stages/download.py", code=code)
    return ended.stdout + ended.stderr


def test_the_model_and_the_sentences_come_from_the_hub_at_the_pinned_revision(project: Project, hub: Hub) -> None:
    project.set_params(lambda params: use_hub(params, "hub"))
    surroundings = {"HF_ENDPOINT": hub.address, "HF_HOME": str(project.folder / "hub-home"), "HF_HUB_OFFLINE": "0"}
    project.python("stages/download.py", environment=surroundings)
    provenance = project.read("metrics/model.json")
    assert f"{MODEL}@{COMMIT}" in provenance
    assert f"{DATASET}@{COMMIT}" in provenance
    assert '"model_is_real": true' in provenance
    fetched = project.folder / "artifacts/model/model.safetensors"
    assert fetched.read_bytes() == (hub.repositories[MODEL] / "model.safetensors").read_bytes()
    assert not list((project.folder / "artifacts/model").glob(".*"))


@pytest.mark.usefixtures("hub")
def test_calibration_never_uses_a_sentence_that_is_evaluated(project: Project) -> None:
    download(project, "hub")
    folder = project.folder / "artifacts/sentences"
    evaluated = {row.sentence for row in read_sentences(folder / "evaluation.parquet")}
    calibration = {row.sentence for row in read_sentences(folder / "calibration.parquet")}
    assert len(evaluated) == 20
    assert len(calibration) == 30
    assert not evaluated & calibration


def break_truncated(hub: Hub) -> None:
    hub.truncated.add("model.safetensors")


def break_hang(hub: Hub) -> None:
    hub.hangs = True


BREAKS = {
    "truncated body": (break_truncated, "model.safetensors: the download broke off"),
    "server that hangs": (break_hang, "silent for 1 s"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_hub_fails_with_one_message_and_leaves_no_half_model(name: str, project: Project, hub: Hub) -> None:
    breaks, message = BREAKS[name]
    breaks(hub)
    output = download(project, "hub", code=1, seconds=1 if hub.hangs else 60)
    assert message in output
    assert output.count("error:") == 1
    assert not (project.folder / "artifacts/model").exists()
    assert not list((project.folder / "artifacts").glob(".model*"))


def test_a_branch_of_a_model_is_kept_as_its_commit(project: Project, hub: Hub) -> None:
    hub.branches.add("main")
    download(project, "hub", revision="main")
    assert f"{MODEL}@{COMMIT}" in project.read("metrics/model.json")
    assert not any("/resolve/main/" in request for request in hub.requests)


@pytest.mark.usefixtures("hub")
def test_hub_names_a_wrong_revision(project: Project) -> None:
    output = download(project, "hub", code=1, revision="the-branch")
    assert "@the-branch: its list of files: the hub answers 404: it has no such revision" in output


def test_pickled_weights_are_never_loaded(project: Project, hub: Hub, tmp_path: Path) -> None:
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (pickled / name).write_bytes((hub.repositories[MODEL] / name).read_bytes())
    (pickled / "pytorch_model.bin").write_bytes(b"pickle")
    hub.repositories[MODEL] = pickled
    assert "has no model.safetensors" in download(project, "hub", code=1)
    assert not any("pytorch_model.bin" in request for request in hub.requests)


def test_a_download_that_breaks_off_brings_no_stand_in(project: Project, hub: Hub) -> None:
    break_truncated(hub)
    assert "run it again" in download(project, "auto", code=1)
    hub.truncated.clear()
    assert "synthetic" not in download(project, "auto")


def test_auto_falls_back_at_once_and_says_so(project: Project, hub: Hub) -> None:
    break_hang(hub)
    output = download(project, "auto", seconds=1)
    assert len(hub.requests) < 30, "it is not asked again and again"
    assert "NOTE: the model is synthetic distilbert, seed 0" in output
    assert '"model_is_real": false' in project.read("metrics/model.json")
    assert (project.folder / "artifacts/model/model.safetensors").exists()
