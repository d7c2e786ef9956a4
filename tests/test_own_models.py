"""A user's own model and sentences: taken as they are, or refused in one sentence that helps."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, Project
from hub_server import COMMIT, Hub, serving
from tiny_models import write_tiny_model

from bench.core.params import Gate
from bench.core.reports import Labels
from bench.core.schemas import read_sentences
from bench.statistics.shares import mcnemar_p, wilson_interval
from bench.timing.quality import accuracy_fault, agreement_of, compare, compare_labels

MODEL = "someone/own"
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "bert"
    write_tiny_model("bert", folder, id2label={0: "bad", 1: "good"}, label2id={"bad": 0, "good": 1})
    return folder


@pytest.fixture
def own(bert: Path, tmp_path: Path) -> Path:
    """A copy of the model, to be changed."""
    shutil.copytree(bert, tmp_path / "own-bert")
    return tmp_path / "own-bert"


def table(folder: Path, name: str = "reviews.csv", rows: int = 20) -> Path:
    path = folder / name
    texts = [f"{'a fine' if number % 2 else 'a dull'} film about number {number}" for number in range(rows)]
    frame = pd.DataFrame({"text": texts, "label": ["good" if number % 2 else "bad" for number in range(rows)]})
    writers: dict[str, Callable[[], Any]] = {
        ".csv": lambda: frame.to_csv(path, index=False),
        ".tsv": lambda: frame.to_csv(path, index=False, sep="\t"),
        ".jsonl": lambda: frame.to_json(path, orient="records", lines=True),
        ".parquet": lambda: frame.to_parquet(path),
    }
    writers[path.suffix]()
    return path


def use(project: Project, model: Path, data: Path | None = None, **dataset: Any) -> None:
    def change(params: dict[str, Any]) -> None:
        params["model"] |= {"source": "auto", "path": str(model)}
        if data:
            params["dataset"] |= {"source": "auto", "path": str(data), "text_column": "text", **dataset}

    project.set_params(change)


def end_of(project: Project, stage: str = "download", code: int = 1) -> str:
    ended = project.script(f"stages/{stage}.py", code=code)
    if code:
        assert ended.stderr.count("error:") == 1
        assert not (project.folder / "artifacts/model").exists() or stage != "download"
    return ended.stdout + ended.stderr


def edit(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content | changes), encoding="utf-8")


def test_a_sentence_that_the_tokenizer_refuses_is_named_by_file_and_line(
    project: Project, own: Path, tmp_path: Path
) -> None:
    tokenizer = json.loads((own / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["model"]["unk_token"] = "[NONE]"
    (own / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    data = tmp_path / "reviews.csv"
    data.write_text("text,label\na fine film,good\na dull film,bad\na film 🎬,good\nfine,good\n", encoding="utf-8")
    use(project, own, data)
    end_of(project, code=0)
    told = project.script("stages/prepare_inputs.py", code=1).stderr
    assert "error: reviews.csv, line 4: the model's tokenizer cannot encode 'a film 🎬' (WordPiece error: " in told
    assert told.endswith("leave such rows out of the table\n")


def test_the_three_lines_of_the_documentation_give_rows_with_accuracy(
    measured_copy: Project, own: Path, tmp_path: Path
) -> None:
    project = measured_copy
    page = (ROOT / "docs/own_model.md").read_text(encoding="utf-8")
    lines = re.findall(r"^(model|dataset)\.(\w+): (\S+)", page, flags=re.M)
    assert len(lines) == 3
    given = {"../my-model": str(own), "../reviews.csv": str(table(tmp_path))}

    def change(params: dict[str, Any]) -> None:
        params["model"]["source"] = params["dataset"]["source"] = "auto"
        for section, key, value in lines:
            assert key in params[section]
            params[section][key] = given.get(value, value)

    project.set_params(change)
    project.set_params(lambda params: params["serving"].update(variants=[]))
    project.repro()
    summary = pd.read_csv(project.folder / "results/summary.csv")
    rows = summary[summary["status"] == "measured"]
    assert set(rows["variant"]) == {"torch_cpu_fp32", "ort_cpu_fp32", "ort_cpu_int8"}
    alone = rows["cold_start_seconds"].notna()
    assert alone.any()
    taken = rows["accuracy"].notna()
    assert taken[alone].all()
    rows = rows[taken]
    assert (rows["labelled_sentences"] == 16).all(), "no accuracy of those alone that blocks met"
    assert ((rows["accuracy_low"] <= rows["accuracy"]) & (rows["accuracy"] <= rows["accuracy_high"])).all()
    assert (rows[rows["precision"] == "fp32"]["accuracy_loss"] == 0).all()
    page = project.read("results/summary_table.md")
    assert "accuracy (95% interval)" in project.read("results/report.html")
    assert "stand-in" not in page
    assert "own-bert (sha256 " in page
    assert (project.folder / "results/plots/cpu_accuracy.png").exists()
    assert project.repro() == {"probe"}

    edit(own / "config.json", hidden_dropout_prob=0.3)
    assert {"download", "export_onnx"} <= project.stale()


def test_calibration_sentences_are_never_evaluated_and_their_share_is_said(project: Project, own: Path) -> None:
    use(project, own, table(own.parent), calibration_share=0.25)
    end_of(project, code=0)
    folder = project.folder / "artifacts/sentences"
    evaluated, calibration = (read_sentences(folder / f"{name}.parquet") for name in ("evaluation", "calibration"))
    assert (len(evaluated), len(calibration)) == (15, 5)
    assert not {row.sentence for row in evaluated} & {row.sentence for row in calibration}
    assert "5 of 20 sentences set aside for calibration" in project.read("metrics/model.json")


@pytest.mark.parametrize("given", [(10, 2, 0.2, 2), (2, 9, 0.2, 1), (5, 1, 0.99, 4), (3, 4, 0.01, 1)])
def test_a_share_is_of_the_different_sentences(given: tuple[int, int, float, int], project: Project, own: Path) -> None:
    kinds, copies, share, aside = given
    path = table(own.parent, rows=kinds)
    pd.concat([pd.read_csv(path)] * copies).to_csv(path, index=False)
    use(project, own, path, calibration_share=share)
    end_of(project, code=0)
    folder = project.folder / "artifacts/sentences"
    evaluated, calibration = (read_sentences(folder / f"{name}.parquet") for name in ("evaluation", "calibration"))
    assert (len(evaluated), len(calibration)) == ((kinds - aside) * copies, aside * copies)
    assert not {row.sentence for row in evaluated} & {row.sentence for row in calibration}


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet"])
def test_every_kind_of_table_gives_the_same_sentences_and_labels_by_name(
    name: str, project: Project, own: Path
) -> None:
    use(project, own, table(own.parent, name), calibration_path=str(table(own.parent, "c.csv", 30)))
    end_of(project, code=0)
    rows = read_sentences(project.folder / "artifacts/sentences/evaluation.parquet")
    assert [row.label for row in rows] == [0, 1] * 10
    assert rows[3].sentence == "a fine film about number 3"
    assert len(read_sentences(project.folder / "artifacts/sentences/calibration.parquet")) == 10


TABLES: dict[str, tuple[str | bytes, str]] = {
    "no such column": ("a,b\nx,0\n", "dataset.text_column: got 'text', allowed: a column of bad.csv (a, b)"),
    "unknown label": ("text,label\nfine,great\ndull,bad\n", "line 2: the label is 'great', allowed: 0 to 1"),
    "label too large": ("text,label\nfine,0\ndull,2\n", "line 3: the label is '2', allowed: 0 to 1"),
    "no text": ("text,label\nfine,0\n,1\n", "line 3: text is None, wanted: a text"),
    "a cell too many": ("text,label\nfine,0,1\n", "line 2: 3 cells, the first line names 2"),
    "no rows": ("text,label\n", "holds no sentences"),
    "one row": ("text,label\nfine,0\n", "at least 2"),
    "not UTF-8": (b"text,label\n\xff\xfe,0\n", "is not UTF-8"),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_bad_row_is_named_with_file_and_line(name: str, project: Project, own: Path) -> None:
    content, message = TABLES[name]
    path = own.parent / "bad.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    use(project, own, path)
    assert message in project.script("stages/download.py", code=1).stderr


def drop_weights(own: Path, name: str) -> None:
    from safetensors.numpy import load_file, save_file

    weights = load_file(own / WEIGHTS)
    save_file({key: value for key, value in weights.items() if name not in key}, own / WEIGHTS, {"format": "pt"})


def add_weights(own: Path) -> None:
    from safetensors.numpy import load_file, save_file

    more = {"bert.adapter.weight": np.ones((2, 2), np.float32)}
    save_file(load_file(own / WEIGHTS) | more, own / WEIGHTS, {"format": "pt"})


def grow(own: Path) -> None:
    """Write the header of a model of 2.1 GiB; its weights are a hole in the file."""
    header = {"big": {"dtype": "F32", "shape": [600_000_000], "data_offsets": [0, 2_400_000_000]}}
    text = json.dumps(header).encode()
    with (own / WEIGHTS).open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + 2_400_000_000)


def split_badly(own: Path) -> None:
    (own / WEIGHTS).unlink()
    (own / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": {"a": "../other.safetensors"}}))


def link_outside(own: Path) -> None:
    shutil.move(own / "config.json", own.parent / "elsewhere.json")
    (own / "config.json").symlink_to(own.parent / "elsewhere.json")


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "longformer": (lambda own: edit(own / "config.json", model_type="longformer"), "kind 'longformer'"),
    "t5": (lambda own: edit(own / "config.json", model_type="t5"), "is not supported, allowed: albert"),
    "code of its own": (lambda own: edit(own / "config.json", auto_map={"AutoModel": "x.Y"}), "auto_map"),
    "tokenizer code": (
        lambda own: edit(own / "tokenizer_config.json", auto_map={"AutoTokenizer": ["x.Y", None]}),
        "auto_map",
    ),
    "quantized": (lambda own: edit(own / "config.json", quantization_config={"bits": 4}), "quantized already"),
    "more than 2 GiB": (grow, "takes 2.24 GiB in float32, allowed: less than 2 GiB"),
    "weights elsewhere": (split_badly, "names '../other.safetensors', allowed: safetensors files beside it"),
    "link to outside": (link_outside, "config.json is a link to a file outside of the folder"),
    "no tokenizer": (lambda own: (own / "tokenizer.json").unlink(), "has no tokenizer"),
    "pickled weights": (
        lambda own: (own / WEIGHTS).rename(own / "pytorch_model.bin"),
        "its pickled weights are not loaded",
    ),
    "no config": (lambda own: (own / "config.json").unlink(), "has no config.json"),
    "no pad token": (lambda own: edit(own / "tokenizer_config.json", pad_token=None), "has no pad token"),
    "no JSON": (lambda own: (own / "config.json").write_text("{"), "config.json is no JSON"),
    "cut weights": (lambda own: os.truncate(own / WEIGHTS, 5000), "model.safetensors is damaged"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_that_cannot_be_measured_is_refused_by_download_in_one_sentence(
    name: str, project: Project, own: Path
) -> None:
    change, message = REFUSED[name]
    change(own)
    use(project, own)
    output = end_of(project)
    assert message in output
    assert "trust_remote_code" not in output


UNFIT: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing head": (
        lambda own: drop_weights(own, "classifier"),
        "hold no weights for classifier.bias, classifier.weight",
    ),
    "left over": (add_weights, "has no place for: bert.adapter.weight"),
    "other labels": (
        lambda own: edit(own / "config.json", id2label={str(n): str(n) for n in range(5)}, label2id={}),
        "do not fit its config.json: classifier.bias ([2] in the file, [5] in the model)",
    ),
}


@pytest.mark.parametrize("name", UNFIT)
def test_weights_are_loaded_whole_or_not_at_all(name: str, project: Project, own: Path) -> None:
    change, message = UNFIT[name]
    change(own)
    use(project, own)
    end_of(project, code=0)
    output = end_of(project, "prepare_inputs")
    assert message in output
    assert "dvc repro -f download" not in output
    assert "ignore_mismatched_sizes" not in output


def test_a_float16_checkpoint_is_computed_in_float32(project: Project, own: Path) -> None:
    from safetensors.numpy import load_file, save_file

    halves = {name: value.astype(np.float16) for name, value in load_file(own / WEIGHTS).items()}
    save_file(halves, own / WEIGHTS, {"format": "pt"})
    edit(own / "config.json", dtype="float16")
    use(project, own)
    project.script("stages/probe.py")
    for stage in ("download", "prepare_inputs", "export_onnx"):
        end_of(project, stage, code=0)
    project.python("stages/infer.py", "torch_cpu_fp32")
    assert project.cells("torch_cpu_fp32")[1]["status"] == "measured"


def test_split_weights_give_the_same_model(project: Project, own: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    whole = AutoModelForSequenceClassification.from_pretrained(own)
    (own / WEIGHTS).unlink()
    whole.save_pretrained(own, max_shard_size="40KB")
    assert len(list(own.glob("*.safetensors"))) > 1
    use(project, own)
    end_of(project, code=0)
    again = AutoModelForSequenceClassification.from_pretrained(project.folder / "artifacts/model")
    assert all((value == again.state_dict()[name]).all() for name, value in whole.state_dict().items())


def test_a_path_that_would_not_be_looked_at_is_refused(project: Project, own: Path) -> None:
    use(project, own)
    project.set_params(lambda params: params["model"].update(source="hub"))
    assert "model.path: got" in project.script("bench/runtimes/base/check_params.py", code=1).stderr


def test_a_folder_that_is_not_there_is_named_before_anything_runs(project: Project, tmp_path: Path) -> None:
    use(project, tmp_path / "nowhere")
    ended = project.script("stages/probe.py", code=1)
    assert "model.path: got" in ended.stderr
    assert "no such folder" in ended.stderr


@pytest.fixture
def hub(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving(Hub({MODEL: own})) as served:
        served.reach(tmp_path / "hub-home", monkeypatch)
        yield served


def from_hub(project: Project, code: int, timeout_seconds: int = 60) -> str:
    def change(params: dict[str, Any]) -> None:
        params["model"] |= {"id": MODEL, "revision": COMMIT, "source": "auto", "hub_timeout_seconds": timeout_seconds}

    project.set_params(change)
    return end_of(project, code=code)


PERMANENT: dict[str, tuple[Callable[[Hub], Any], str]] = {
    "gated": (lambda hub: hub.refusals.update({MODEL: (403, "GatedRepo")}), "accept its terms"),
    "private": (lambda hub: hub.refusals.update({MODEL: (401, "RepoNotFound")}), "set HF_TOKEN"),
    "no repository": (lambda hub: hub.repositories.pop(MODEL), "no such repository"),
    "missing file": (
        lambda hub: hub.missing.add("config.json"),
        "config.json: the hub answers 404: it is missing",
    ),
    "other kind": (lambda hub: edit(hub.repositories[MODEL] / "config.json", model_type="xlnet"), "kind 'xlnet'"),
    "pickled": (lambda hub: (hub.repositories[MODEL] / WEIGHTS).rename(hub.repositories[MODEL] / "a.bin"), "pickled"),
}


@pytest.mark.parametrize("name", PERMANENT)
def test_no_stand_in_takes_the_place_of_a_model_that_the_hub_answers_for(name: str, project: Project, hub: Hub) -> None:
    change, message = PERMANENT[name]
    change(hub)
    output = from_hub(project, code=1)
    assert message in output
    assert "synthetic" not in output


def test_a_stand_in_names_the_model_that_it_stands_for_in_the_first_line(project: Project, hub: Hub) -> None:
    hub.hangs = True
    output = from_hub(project, code=0, timeout_seconds=1)
    assert f"it stands for {MODEL}" in output
    assert f'"stands_for": "{MODEL}"' in project.read("metrics/model.json")


def test_a_warm_cache_serves_while_the_hub_is_switched_off(
    project: Project, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import hf_hub_download

    for name in hub.files(MODEL):
        hf_hub_download(MODEL, name, revision=COMMIT)
    hub.requests.clear()
    hub.reach(tmp_path / "hub-home", monkeypatch, is_offline=True)
    output = from_hub(project, code=0)
    assert "stands for" not in output
    assert f"{MODEL}@{COMMIT}" in project.read("metrics/model.json")
    assert not hub.requests


def test_built_in_sentences_judge_no_model_whose_labels_are_others(project: Project, own: Path) -> None:
    use(project, own)
    project.set_params(lambda params: params["dataset"].update(source="builtin"))
    evaluation = project.folder / "artifacts/sentences/evaluation.parquet"
    end_of(project, code=0)
    assert {row.label for row in read_sentences(evaluation)} == {None}
    edit(own / "config.json", id2label={"0": "NEGATIVE", "1": "POSITIVE"}, label2id={"NEGATIVE": 0, "POSITIVE": 1})
    end_of(project, code=0)
    assert {row.label for row in read_sentences(evaluation)} == {0, 1}


def tasked(task: Any, logits: Any, reference: Any) -> float:
    return agreement_of(compare([(np.arange(len(reference)), logits)], reference, task))


def test_many_labels_are_judged_each_by_its_threshold_and_not_by_the_largest() -> None:
    reference = np.array([[2.0, 1.0, -1.0], [-3.0, -1.0, -2.0]], dtype=np.float32)
    other = np.array([[1.0, 2.0, -1.0], [-3.0, 0.5, -2.0]], dtype=np.float32)
    assert tasked("multi_label", other, reference) == pytest.approx(1 / 2), "label 0 right, 1 lost, 2 on no side"
    assert tasked("single_label", other, reference) == 0.5


def test_a_number_is_judged_by_correlation() -> None:
    reference = np.linspace(-1, 1, 20, dtype=np.float32)[:, None]
    assert tasked("regression", 2 * reference + 5, reference) == pytest.approx(1.0)
    assert tasked("regression", -reference, reference) == pytest.approx(-1.0)
    assert tasked("regression", np.zeros_like(reference), reference) == 0.0


@pytest.mark.parametrize(
    "settings",
    [{"num_labels": 1}, pytest.param({"problem_type": "multi_label_classification"}, marks=pytest.mark.slow)],
)
def test_models_without_one_label_a_sentence_have_rows_and_no_accuracy(
    settings: dict[str, Any], project: Project, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    write_tiny_model("bert", own, **settings)
    use(project, own, table(tmp_path))
    project.set_params(lambda params: params.update(variants={"ort_cpu_fp32": params["variants"]["ort_cpu_fp32"]}))
    project.script("stages/probe.py")
    for stage in ("download", "prepare_inputs", "export_onnx"):
        end_of(project, stage, code=0)
    project.python("stages/infer.py", "ort_cpu_fp32")
    report = project.report("ort_cpu_fp32")
    assert report.get("accuracy") is None
    assert {cell["status"] for cell in report["cells"].values()} == {"measured"}
    assert report["cells"]["1"]["agreement"] > 0.999


def test_accuracy_is_compared_on_the_same_sentences() -> None:
    labels, reference = np.array([0, 1, 1, 0, -1]), np.array([0, 1, 1, 1, 0])
    counts = compare_labels(np.array([0, 1, 0, 0, 0]), reference, labels)
    assert counts == Labels(labelled=4, right=3, reference_right=3, only_reference=1, only_row=1)
    assert mcnemar_p(10, 0) == pytest.approx(2 * 0.5**10)
    assert mcnemar_p(0, 0) == 1.0
    low, high = wilson_interval(767, 872)
    assert (round(low, 4), round(high, 4)) == (0.8563, 0.8995)


def test_a_row_that_loses_too_much_accuracy_is_rejected() -> None:
    gate = Gate(max_relative_error=1.0, min_agreement=0.5, max_accuracy_loss=0.02)
    counts = Labels(labelled=100, right=79, reference_right=87, only_reference=9, only_row=1)
    assert accuracy_fault(counts, gate) == "accuracy is 8.00% of 100 sentences below fp32's, allowed: 2.00%"
    assert accuracy_fault(counts.model_copy(update={"right": 86}), gate) == ""
    chance = Labels(labelled=32, right=27, reference_right=28, only_reference=1, only_row=0)
    assert accuracy_fault(chance, gate) == "", "one sentence of 32 may be chance"
