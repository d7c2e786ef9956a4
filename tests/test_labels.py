"""What labels of a table mean: one reading for the column, shown in every report, or a refusal that helps."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from conftest import Project
from hub_server import COMMIT, Hub, serving
from made_models import plain_logits, sentences
from pyarrow import parquet
from test_own_models import edit, end_of, use
from tiny_models import write_tiny_model

from bench.core.params import Dataset
from bench.inputs.encoded import load_encoded, load_reference
from bench.report.shown import Context
from bench.sources.tables import read_table

NLI = ["contradiction", "neutral", "entailment"]
OF_FILE = ["entailment", "neutral", "contradiction"]
TEXTS = [row.sentence for row in sentences()]


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    """A tiny model that gives each of three labels, and what plain transformers predicts for TEXTS."""
    folder = tmp_path_factory.mktemp("labels") / "bert"
    model = write_tiny_model("bert", folder)
    model.classifier.bias.data -= model.classifier.bias.data.new_tensor(plain_logits(folder).mean(axis=0))
    model.save_pretrained(folder)
    return folder, [int(label) for label in plain_logits(folder).argmax(axis=1)]


@pytest.fixture
def own(predicted: tuple[Path, list[int]], tmp_path: Path) -> Path:
    shutil.copytree(predicted[0], tmp_path / "own")
    return named(tmp_path / "own", NLI)


@pytest.fixture
def truth(predicted: tuple[Path, list[int]]) -> list[int]:
    assert set(predicted[1]) == {0, 1, 2}
    return predicted[1]


def named(own: Path, names: list[str], label2id: dict[str, int] | None = None) -> Path:
    ids = {str(number): name for number, name in enumerate(names)}
    edit(own / "config.json", id2label=ids, label2id=label2id or {name: n for n, name in enumerate(names)})
    return own


def csv(own: Path, labels: list[Any]) -> Path:
    path = own.parent / "data.csv"
    pd.DataFrame({"text": TEXTS, "label": labels}).to_csv(path, index=False)
    return path


def hub_parquet(own: Path, labels: list[Any], names: list[str], suffix: str = ".parquet") -> Path:
    """Write a table as the hub's library does: its features stand in the schema's metadata."""
    features = {"text": {"dtype": "string", "_type": "Value"}, "label": {"names": names, "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    path = own.parent / f"data{suffix}"
    parquet.write_table(pa.table({"text": TEXTS, "label": labels}).replace_schema_metadata(metadata), path)
    return path


def read(project: Project, own: Path, data: Path, **dataset: Any) -> dict[str, Any]:
    """Run `download` and return what model.json says of the labels."""
    use(project, own, data, **dataset)
    end_of(project, code=0)
    found: dict[str, Any] = json.loads(project.read("metrics/model.json"))["labels_read"]
    return found


def accuracy(project: Project) -> float:
    """Return the accuracy of the reference over the labelled sentences."""
    end_of(project, "prepare_inputs", code=0)
    path = project.folder / "artifacts/inputs/evaluation.npz"
    labels, predictions = load_encoded(path).labels, load_reference(path).argmax(axis=1)
    return float((labels == predictions)[labels >= 0].mean())


def refused(project: Project, own: Path, data: Path, **dataset: Any) -> str:
    use(project, own, data, **dataset)
    error = project.script("stages/download.py", code=1).stderr
    assert error.count("error:") == 1
    return error


def advice(message: str) -> Any:
    """Return what a message says to write under dataset.labels."""
    return yaml.safe_load(message[message.index("{") : message.rindex("}") + 1])


@pytest.mark.parametrize("suffix", [".parquet", ".PARQUET"])
def test_names_of_the_file_are_matched_to_the_model_by_name(
    suffix: str, project: Project, own: Path, truth: list[int]
) -> None:
    data = hub_parquet(own, [OF_FILE.index(NLI[label]) for label in truth], [name.upper() for name in OF_FILE], suffix)
    found = read(project, own, data)
    assert found["reading"] == "metadata"
    assert found["meanings"] == {"0": "entailment", "1": "neutral", "2": "contradiction"}
    assert accuracy(project) == 1.0


def test_label2id_that_contradicts_id2label_is_remarked(project: Project, own: Path, truth: list[int]) -> None:
    named(own, NLI, {"contradiction": 2, "neutral": 1, "entailment": 0})
    found = read(project, own, csv(own, [NLI[label] for label in truth]))
    assert found["reading"] == "names"
    assert "contradiction = 2, entailment = 0" in found["remarks"][0]
    assert accuracy(project) == 1.0


@pytest.mark.parametrize("gap", [-1, "", "-1.0", "-", "NaN", "N/A", "<NA>", -100])
def test_what_has_no_label_is_counted(gap: Any, project: Project, own: Path, truth: list[int]) -> None:
    found = read(project, own, csv(own, [gap, gap, *truth[2:]]), calibration_path=str(csv_of(own)))
    assert (found["reading"], found["unlabelled"]) == ("ids", 2)
    assert accuracy(project) == 1.0


NUMBERS: dict[str, tuple[int, list[Any]]] = {
    "around 0": (3, [-1, 0, 1]),
    "around 0, floating point": (3, [-1.0, 0.0, 1.0]),
    "around 0, the last not seen": (3, [-1, 0, 0]),
    "two": (2, [-1, 1, 1]),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_minus_one_that_may_be_a_label_is_asked_for(name: str, project: Project, own: Path, truth: list[int]) -> None:
    count, numbers = NUMBERS[name]
    labels = [numbers[label] for label in truth]
    edit(own / "config.json", id2label={str(n): each for n, each in enumerate(NLI[:count])}, label2id={})
    message = refused(project, own, csv(own, labels))
    assert "may be read as ids (" in message
    assert "-1 = no label) or from below 0 (" in message
    found = read(project, own, csv(own, labels), labels=advice(message[message.rindex("as in") :]))
    names = {round(each): NLI[round(each) + count // 2 if count == 3 else each > 0] for each in numbers}
    assert {int(float(text)): meaning for text, meaning in found["meanings"].items()} == names
    assert read(project, own, csv(own, labels), labels="ids")["unlabelled"]


def test_the_files_own_names_say_that_minus_one_is_none(project: Project, own: Path, truth: list[int]) -> None:
    found = read(project, own, hub_parquet(own, [-1 if label == 2 else label for label in truth], NLI))
    assert (found["reading"], accuracy(project)) == ("metadata", 1.0)


def test_numbers_that_may_count_from_1_are_remarked(project: Project, own: Path, truth: list[int]) -> None:
    labels = [max(1, label) for label in truth]
    [remark] = read(project, own, csv(own, labels))["remarks"]
    assert remark.startswith("no sentence has the label 0")
    found = read(project, own, csv(own, labels), labels=advice(remark))
    assert found["meanings"] == {"1": "contradiction", "2": "neutral"}
    assert not found["remarks"]


def csv_of(own: Path) -> Path:
    path = own.parent / "other.csv"
    pd.DataFrame({"text": [f"other {number}" for number in range(4)]}).to_csv(path, index=False)
    return path


def test_a_column_without_any_label_runs_without_accuracy(project: Project, own: Path) -> None:
    found = read(project, own, hub_parquet(own, [-1] * len(TEXTS), OF_FILE), calibration_path=str(csv_of(own)))
    assert (found["reading"], found["unlabelled"], found["examples"]) == ("none", len(TEXTS), [])


READ: dict[str, tuple[list[str], Any, str]] = {
    "names, case aside": (NLI, lambda n: NLI[n].title(), "names"),
    "names cut short": (["NEGATIVE", "NEUTRAL", "POSITIVE"], lambda n: ["neg", "neu", "pos"][n], "names"),
    "stars": (["1 star", "2 stars", "3 stars"], lambda n: n + 1, "names"),
    "no names in the model": (["LABEL_0", "LABEL_1", "LABEL_2"], lambda n: n, "ids"),
    "names that are numbers": (["0", "1", "2"], lambda n: n, "ids"),
    "floating point": (NLI, float, "ids"),
    "spaces around": (NLI, lambda n: f" {NLI[n]} ", "names"),
    "other separators": (["not_good", "so-so", "Sci/Tech"], lambda n: ["not-good", "So so", "sci_tech"][n], "names"),
    "accents in two parts": (
        ["négatif", "égal", "positif"],
        lambda n: ["ne\u0301gatif", "e\u0301gal", "positif"][n],
        "names",
    ),
    "the model's cut short": (["NEG", "NEU", "POS"], lambda n: ["negative", "neutral", "positive"][n], "names"),
    "transformers' own names": (NLI, lambda n: f"LABEL_{n}", "ids"),
    "such names turned round": (["LABEL_2", "LABEL_1", "LABEL_0"], lambda n: f"LABEL_{2 - n}", "names"),
    "two labels of one name": (["other", "good", "other"], lambda n: n, "ids"),
    "labels that are called yes and no": (["no", "yes", "-"], lambda n: ["no", "yes", "-"][n], "names"),
}


@pytest.mark.parametrize("name", READ)
def test_a_column_is_read_in_the_one_way(name: str, project: Project, own: Path, truth: list[int]) -> None:
    names, label, reading = READ[name]
    labels = [label(number) for number in truth]
    found = read(project, named(own, names), csv(own, labels))
    assert found["reading"] == reading
    assert accuracy(project) == 1.0


@pytest.mark.parametrize(("names", "reading"), [(["neg", "neu", "pos"], "metadata"), (["0", "1", "2"], "ids")])
def test_names_of_the_file_may_be_short_or_numbers(
    names: list[str], reading: str, project: Project, own: Path, truth: list[int]
) -> None:
    named(own, ["Negative", "Neutral", "Positive"])
    assert read(project, own, hub_parquet(own, truth, names))["reading"] == reading
    assert accuracy(project) == 1.0


CARD = """---
dataset_info:
- config_name: other
  features: [{name: label, dtype: {class_label: {names: {'0': a, '1': b, '2': c}}}}]
- config_name: nli
  features: [{name: text, dtype: string}, {name: label, dtype: {class_label: {names: NAMES}}}]
configs: [{config_name: nli, data_files: [{split: test, path: test.parquet}]}]
---
"""


def test_names_on_the_card_of_a_hub_set_are_read(
    project: Project, own: Path, truth: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "hub-set"
    folder.mkdir()
    frame = pd.DataFrame({"text": TEXTS, "label": [OF_FILE.index(NLI[label]) for label in truth]})
    frame.to_parquet(folder / "test.parquet")
    use(project, own)
    given = {"id": "someone/nli", "revision": COMMIT, "source": "hub", "split": "test", "text_column": "text"}
    project.set_params(lambda params: params["dataset"].update(given))
    with serving(Hub({"someone/nli": folder})) as hub:
        for names in (dict(enumerate(OF_FILE)), OF_FILE, None):
            (folder / "README.md").write_text(CARD.replace("NAMES", json.dumps(names)), encoding="utf-8")
            if names is None:  # dataset_infos.json alone, as older data sets have it
                infos = {"default": {"features": {"label": {"names": OF_FILE, "_type": "ClassLabel"}}}}
                (folder / "README.md").unlink()
                (folder / "dataset_infos.json").write_text(json.dumps(infos), encoding="utf-8")
            hub.reach(tmp_path / f"home of {type(names).__name__}", monkeypatch)
            end_of(project, code=0)
            assert json.loads(project.read("metrics/model.json"))["labels_read"]["reading"] == "metadata"
            assert accuracy(project) == 1.0


def test_calibration_is_drawn_from_the_whole_table(own: Path) -> None:
    path = own.parent / "many.csv"
    pd.DataFrame({"text": [f"number {number}" for number in range(9000)]}).to_csv(path, index=False)
    given = {"id": "x", "revision": "y", "split": "test", "source": "local", "path": str(path), "text_column": "text"}
    columns = Dataset.model_validate(given | {"label_column": None})
    rows = read_table(path, columns, limit=2000)
    numbers = [int(row.sentence.split()[1]) for row in rows]
    assert len(set(numbers)) == 2000
    assert 4200 < sum(numbers) / 2000 < 4800
    assert rows == read_table(path, columns, limit=2000)


def test_two_readings_are_refused_and_the_key_decides(project: Project, own: Path, truth: list[int]) -> None:
    named(own, ["1", "2", "0"])
    data = csv(own, [int(["1", "2", "0"][label]) for label in truth])
    message = refused(project, own, data)
    assert "dataset.labels: got null" in message
    assert "as ids (" in message
    assert "as names (" in message
    assert read(project, own, data, labels="names")["reading"] == "names"
    assert accuracy(project) == 1.0
    read(project, own, data, labels="ids")
    assert accuracy(project) == 0.0


def test_nothing_is_read_against_the_names_of_the_file(project: Project, own: Path, truth: list[int]) -> None:
    data = hub_parquet(own, truth, ["nein", "egal", "ja"])
    message = refused(project, own, data)
    assert "by the data's own names" in message
    assert "nein" in message
    assert read(project, own, data, labels=advice(message[message.rindex("as in") :]))["reading"] == "params"
    assert accuracy(project) == 1.0
    read(project, own, data, labels="ids")
    assert accuracy(project) == 1.0


@pytest.mark.parametrize(
    "labels", [["good", "bad", "unsure"], [1, 2, 3], ["0", "1", "neutral"], ["True", "False", "Null?"], [0, 1, -2]]
)
def test_a_column_without_a_reading_is_refused_and_the_advice_helps(
    labels: list[Any], project: Project, own: Path, truth: list[int]
) -> None:
    own_label = [labels[number] for number in truth]
    message = refused(project, own, csv(own, own_label))
    assert "data.csv, line " in message
    assert "allowed: 0 to 2, or contradiction, neutral, entailment" in message
    meanings = advice(message)
    assert meanings.keys() == {str(label) for label in own_label}
    assert set(meanings.values()) <= {"neutral", "?"}
    assert "got '?', allowed: a label of the model" in refused(project, own, csv(own, own_label), labels=meanings)
    meanings |= {str(label): NLI[number] for number, label in zip(truth, own_label, strict=True)}
    read(project, own, csv(own, own_label), labels=meanings)
    assert accuracy(project) == 1.0


GIVEN: dict[str, tuple[Any, str]] = {
    "no such label": ({"a": "great"}, "dataset.labels.a: got 'great', allowed: a label of the model (contradiction"),
    "number too large": ({"a": 3}, "dataset.labels.a: got 3, allowed"),
    "not all": (
        {"b": 1},
        "data.csv, line 2: the label is 'a', allowed: what params.yaml names under dataset.labels (b)",
    ),
    "metadata": ("metadata", "dataset.labels: got 'metadata', but the column 'label' has no names for its numbers"),
    "other word": ("guess", "dataset.labels: got 'guess', allowed: null, ids, names, metadata, or what each"),
    "a list": (["a"], "dataset.labels: got ['a'], allowed: null, ids"),
    "quotes here and there": ({"a": 0, True: 1}, "dataset.labels.true: got a key without quotes beside texts"),
    "a fraction": ({"a": 0.5}, "dataset.labels.a: got 0.5, allowed:"),
    "only names": (
        "names",
        "the label is 'a', allowed: contradiction, neutral, entailment, as dataset.labels is names",
    ),
}


@pytest.mark.parametrize("name", GIVEN)
def test_what_is_said_of_labels_must_hold(name: str, project: Project, own: Path) -> None:
    labels, message = GIVEN[name]
    assert message in refused(project, own, csv(own, ["a"] * len(TEXTS)), labels=labels)


def test_null_is_no_label_and_case_is_put_aside(project: Project, own: Path, truth: list[int]) -> None:
    data = csv(own, [["True", "unsure", "FALSE"][label] for label in truth])
    found = read(project, own, data, labels={"true": 0, "unsure": None, "False": "Entailment"})
    assert accuracy(project) == 1.0
    assert "unsure" not in found["meanings"]


@pytest.mark.parametrize("meanings", [{True: 2, False: "neutral"}, {"True": 2, "False": "neutral"}])
def test_keys_may_be_written_as_yaml_reads_them(
    meanings: dict[Any, Any], project: Project, own: Path, truth: list[int]
) -> None:
    found = read(project, own, csv(own, [["FALSE", "True"][label == 2] for label in truth]), labels=meanings)
    assert found["meanings"] == {"FALSE": "neutral", "True": "entailment"}


@pytest.mark.parametrize("meanings", [{1: 0, 2: 1, 3: 2}, {"1.0": 0, "2.0": 1, "3.0": 2}])
@pytest.mark.parametrize("kind", [int, float])
def test_a_number_is_the_same_with_a_decimal_point(
    meanings: dict[Any, int], kind: type, project: Project, own: Path, truth: list[int]
) -> None:
    read(project, own, csv(own, [kind(label + 1) for label in truth]), labels=meanings)
    assert accuracy(project) == 1.0


def test_labels_that_differ_in_case_alone_are_two(project: Project, own: Path, truth: list[int]) -> None:
    data = csv(own, [["US", "us", "Us"][label] for label in truth])
    read(project, own, data, labels={"US": 0, "us": 1, "Us": 2})
    assert accuracy(project) == 1.0
    assert "the label is 'Us', allowed: what params.yaml names" in refused(
        project, own, data, labels={"US": 0, "us": 1}
    )


def test_a_name_of_two_labels_is_told(project: Project, own: Path) -> None:
    named(own, ["other", "good", "other"])
    message = refused(project, own, csv(own, ["other"] * len(TEXTS)))
    assert "the label is 'other', a name of 2 of the model's labels (0, 2)" in message


def test_a_list_in_a_cell_is_refused(project: Project, own: Path) -> None:
    path = own.parent / "data.jsonl"
    path.write_text("".join(json.dumps({"text": text, "label": [0]}) + "\n" for text in TEXTS))
    assert "data.jsonl, line 1: the label is [0], wanted: one number" in refused(project, own, path)


def test_reports_show_the_reading_with_three_sentences(project: Project, own: Path, truth: list[int]) -> None:
    found = read(project, own, csv(own, [*truth[:-1], -1]), calibration_path=str(csv_of(own)))
    labels = [example["label"] for example in found["examples"]]
    assert len(labels) == 3
    assert len(set(labels)) == len(set(truth[:-1]))
    provenance = json.loads(project.read("metrics/model.json"))
    text = Context({}, provenance, {}, None, {}).label_text()  # type: ignore[arg-type]
    assert text.startswith(f"1 of {len(TEXTS)} sentences have none; read as numbers of the model's id2label (")
    for example in found["examples"]:
        assert f"has {example['label']}, {NLI[int(example['label'])]}" in text


def test_labels_of_a_stand_in_are_not_read(project: Project, own: Path) -> None:
    data = csv(own, ["anything"] * len(TEXTS))
    project.set_params(lambda params: params["dataset"].update(source="auto", path=str(data), text_column="text"))
    end_of(project, code=0)
    assert "labels_read" not in json.loads(project.read("metrics/model.json"))
    assert np.isin(-1, load_encoded_labels(project)).all()


def load_encoded_labels(project: Project) -> Any:
    end_of(project, "prepare_inputs", code=0)
    return load_encoded(project.folder / "artifacts/inputs/evaluation.npz").labels
