"""Which files of a hub's data set are read: what its metadata says, never what a name resembles."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import Project
from hub_server import COMMIT, Hub, serving

from bench.core.errors import BenchError
from bench.core.schemas import read_sentences
from bench.sources.hub_datasets import choose_files, read_card

DATASET = "someone/tweets"
TASKS = ("emotion", "irony", "sentiment")
CARD = "---\nlicense: mit\nconfigs:\n" + "".join(
    f"- config_name: {task}\n  data_files:\n  - split: test\n    path: {task}/test-*\n"
    f"  - split: train\n    path:\n    - {task}/train-*\n"
    for task in TASKS
)


def write(folder: Path, name: str, texts: list[str]) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame({"sentence": texts, "label": [place % 2 for place in range(len(texts))]})
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set with a configuration a task, each with ten sentences for evaluation and five for training."""
    folder = tmp_path / "tweets"
    for task in TASKS:
        for split, count in (("test", 10), ("train", 5)):
            write(folder, f"{task}/{split}-00000-of-00001.parquet", [f"{task} {split} {n}" for n in range(count)])
    (folder / "README.md").write_text(f"{CARD}---\n# Tweets\n", encoding="utf-8")
    return folder


@pytest.fixture
def hub(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving(Hub({DATASET: data})) as served:
        served.reach(tmp_path / "hub-home", monkeypatch)
        yield served


def download(project: Project, code: int = 0, **dataset: Any) -> str:
    def change(params: dict[str, Any]) -> None:
        params["dataset"] |= {"id": DATASET, "revision": COMMIT, "source": "hub", "split": "test", **dataset}

    project.set_params(change)
    ended = project.script("stages/download.py", code=code)
    return ended.stdout + ended.stderr


def sentences(project: Project, name: str = "evaluation") -> set[str]:
    return {row.sentence for row in read_sentences(project.folder / f"artifacts/sentences/{name}.parquet")}


def test_several_configurations_are_asked_for_and_the_advice_helps(project: Project, hub: Hub) -> None:
    message = download(project, code=1)
    assert "dataset.config: it has several, set one: emotion, irony, sentiment" in message
    download(project, config="irony")
    assert sentences(project) == {f"irony test {n}" for n in range(10)}
    assert sentences(project, "calibration") == {f"irony train {n}" for n in range(5)}
    assert f"{DATASET}@{COMMIT}, irony, test, calibrated with train" in project.read("metrics/model.json")
    assert not any("emotion" in request for request in hub.requests)
    assert "got 'joy', allowed: emotion, irony, sentiment" in download(project, code=1, config="joy")


@pytest.mark.usefixtures("hub")
def test_a_configuration_that_the_metadata_calls_default_is_taken(project: Project, data: Path) -> None:
    card = CARD.replace("- config_name: irony\n", "- config_name: irony\n  default: true\n")
    (data / "README.md").write_text(f"{card}---\n", encoding="utf-8")
    download(project)
    assert sentences(project) == {f"irony test {n}" for n in range(10)}
    assert "irony, test" in project.read("metrics/model.json")


@pytest.mark.usefixtures("hub")
def test_of_two_defaults_none_is_taken(project: Project, data: Path) -> None:
    (data / "README.md").write_text(CARD.replace("  data_files", "  default: true\n  data_files") + "---\n")
    assert "it has several, set one: emotion, irony, sentiment" in download(project, code=1)


@pytest.mark.usefixtures("hub")
def test_without_metadata_folders_that_share_a_split_are_asked_for(project: Project, data: Path) -> None:
    (data / "README.md").unlink()
    assert "set one: emotion, irony, sentiment, default (all in one table)" in download(project, code=1)
    download(project, config="emotion")
    assert sentences(project) == {f"emotion test {n}" for n in range(10)}
    download(project, config="default")
    assert len(sentences(project)) == 30


UNFIT = {"another column": "text,label\na,1\n", "no rows": "sentence,label\n", "no text": "sentence,label\n,1\n"}


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("name", UNFIT)
def test_a_train_split_that_cannot_calibrate_costs_a_share_and_is_named(
    name: str, project: Project, data: Path
) -> None:
    write(data, "plain/test.csv", ["one", "two", "three"])
    (data / "plain/train.csv").write_text(UNFIT[name], encoding="utf-8")
    (data / "README.md").write_text("---\nconfigs:\n- data_dir: plain\n---\n", encoding="utf-8")
    assert "train.csv" in download(project)
    assert "its split train cannot be used" in project.read("metrics/model.json")
    assert "1 of 3 sentences set aside for calibration" in project.read("metrics/model.json")


@pytest.mark.parametrize("split", ["test[:10]", "train+test", "my test", ""])
def test_what_is_no_name_of_a_split_says_so(split: str, project: Project) -> None:
    assert "allowed: the name of one split: no slices, no sums" in download(project, code=1, split=split)


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("split", ["test", "train"])
def test_a_share_is_set_aside_where_no_other_split_calibrates(split: str, project: Project, data: Path) -> None:
    for path in (data / "irony").iterdir():
        if not path.name.startswith(f"{split}-"):
            path.unlink()
    download(project, config="irony", split=split, calibration_share=0.4)
    count = {"test": 10, "train": 5}[split]
    evaluated, calibration = sentences(project), sentences(project, "calibration")
    assert evaluated | calibration == {f"irony {split} {n}" for n in range(count)}
    assert not evaluated & calibration
    assert f"{2 * count // 5} of {count} sentences set aside for calibration" in project.read("metrics/model.json")


@pytest.mark.parametrize(("shards", "taken"), [(1, [0]), (2, [0, 1]), (4, [0, 1, 2, 3]), (9, [0, 2, 5, 8])])
def test_calibration_is_drawn_from_files_of_the_whole_split(
    shards: int, taken: list[int], project: Project, data: Path, hub: Hub
) -> None:
    (data / "irony/train-00000-of-00001.parquet").unlink()
    for shard in range(shards):
        texts = [f"shard {shard} train {n}" for n in range(1500)]
        write(data, f"irony/train-{shard:05}-of-{shards:05}.parquet", texts)
    download(project, config="irony")
    drawn = [int(text.split()[1]) for text in sentences(project, "calibration")]
    assert len(drawn) == min(2000, 1500 * shards)
    assert sorted(set(drawn)) == taken
    assert all(drawn.count(shard) > 0.8 * len(drawn) / len(taken) for shard in taken)
    said = f"calibrated with train (4 of {shards} files)" if shards > 4 else 'calibrated with train"'
    assert said in project.read("metrics/model.json")
    assert sum("/train-" in request and "HEAD" not in request for request in hub.requests) >= len(taken)


@pytest.mark.usefixtures("hub")
def test_an_empty_file_of_a_split_is_passed_over(project: Project, data: Path) -> None:
    write(data, "irony/test-00000-of-00002.parquet", [])
    (data / "irony/test-00000-of-00001.parquet").rename(data / "irony/test-00001-of-00002.parquet")
    download(project, config="irony")
    assert len(sentences(project)) == 10


@pytest.mark.parametrize("revision", ["main", "refs/convert/parquet"])
def test_a_moving_revision_is_kept_as_its_commit(revision: str, project: Project, hub: Hub) -> None:
    hub.branches.add(revision)
    download(project, config="irony", revision=revision)
    assert f"{DATASET}@{COMMIT}, irony" in project.read("metrics/model.json")
    files = [request for request in hub.requests if "/resolve/" in request]
    assert files
    assert all(f"/resolve/{COMMIT}/" in request for request in files)


def test_a_warm_cache_serves_a_branch_while_the_hub_is_off(
    project: Project, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import hf_hub_download

    for name in hub.files(DATASET):
        hf_hub_download(DATASET, name, repo_type="dataset", revision="main")
    hub.requests.clear()
    hub.reach(tmp_path / "hub-home", monkeypatch, is_offline=True)
    download(project, config="irony", revision="main")
    assert f"{DATASET}@{COMMIT}, irony" in project.read("metrics/model.json")
    assert not hub.requests


@pytest.mark.usefixtures("hub")
def test_other_splits_and_bad_rows_are_named_as_the_hub_names_them(project: Project, data: Path) -> None:
    assert "set dataset.split to one that it has: test, train" in download(project, code=1, config="irony", split="dev")
    pd.DataFrame({"sentence": ["a", None]}).to_parquet(data / "irony/test-00000-of-00001.parquet")
    message = download(project, code=1, config="irony", label_column=None)
    assert f"{DATASET}@{COMMIT[:7]}: irony/test-00000-of-00001.parquet, row 2: sentence is None" in message


@pytest.mark.usefixtures("hub")
def test_a_table_in_another_format_is_read(project: Project, data: Path) -> None:
    write(data, "csv/test.csv", ["one", "two", "three"])
    entry = "configs:\n- config_name: plain\n  data_files: csv/*.csv\n"
    (data / "README.md").write_text(f"---\n{entry}---\n", encoding="utf-8")
    download(project, split="train")
    assert sentences(project) | sentences(project, "calibration") == {"one", "two", "three"}


MARKS = {";": ";", "tab": "\\t", "caret": "^"}


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("key", ["sep", "delimiter"])
@pytest.mark.parametrize("name", MARKS)
def test_the_separator_that_the_metadata_names_is_taken(name: str, key: str, project: Project, data: Path) -> None:
    mark = MARKS[name].replace("\\t", "\t")
    rows = "".join(f"{text}{mark}{place % 2}\n" for place, text in enumerate(["a, b", "c|d", "e"]))
    (data / "plain.csv").write_text(f"sentence{mark}label\n{rows}", encoding="utf-8")
    entry = f"configs:\n- config_name: plain\n  data_files: plain.csv\n  {key}: '{MARKS[name]}'\n"
    (data / "README.md").write_text(f"---\n{entry}---\n", encoding="utf-8")
    download(project, split="train")
    assert sentences(project) | sentences(project, "calibration") == {"a, b", "c|d", "e"}


def chosen(names: list[str], front: str, tmp_path: Path, wanted: str | None = None) -> tuple[str, dict[str, list[str]]]:
    readme = tmp_path / "README.md"
    readme.write_text(front, encoding="utf-8")
    return choose_files(names, read_card(readme, "a/b@c"), wanted, "a/b@c")


BY_NAME: dict[str, tuple[list[str], dict[str, list[str]]]] = {
    "shards": (
        ["data/test-00001-of-00002.parquet", "data/test-00000-of-00002.parquet", "README.md"],
        {"test": ["data/test-00000-of-00002.parquet", "data/test-00001-of-00002.parquet"]},
    ),
    "split of its own": (
        ["mnli/validation_matched-00000-of-00001.parquet", "mnli/validation_mismatched-00000-of-00001.parquet"],
        {
            "validation_matched": ["mnli/validation_matched-00000-of-00001.parquet"],
            "validation_mismatched": ["mnli/validation_mismatched-00000-of-00001.parquet"],
        },
    ),
    "files": (["dev.csv", "train.csv", "notes.txt"], {"validation": ["dev.csv"], "train": ["train.csv"]}),
    "folders": (["eval/0.jsonl", "eval/1.jsonl", "training/0.jsonl"], {
        "test": ["eval/0.jsonl", "eval/1.jsonl"], "train": ["training/0.jsonl"],
    }),
    "capitals": (["TEST.CSV", "Train.csv"], {"train": ["Train.csv"], "test": ["TEST.CSV"]}),
    "one file": (["reviews.csv"], {"train": ["reviews.csv"]}),
    "no split in a word": (["latest.csv", "contest.csv"], {"train": ["contest.csv", "latest.csv"]}),
    "two formats": (["test.csv", "test.parquet"], {"test": ["test.parquet"]}),
    "JSON": (["dataset_infos.json", "test.json", "train.json.gz"], {"test": ["test.json"], "train": ["train.json.gz"]}),
    "hidden": ([".cache/test.csv", "test.csv"], {"test": ["test.csv"]}),
    "converted": (["default/test/0000.parquet", "default/train/0000.parquet"], {
        "test": ["default/test/0000.parquet"], "train": ["default/train/0000.parquet"],
    }),
}  # fmt: skip


@pytest.mark.parametrize("name", BY_NAME)
def test_names_say_the_split_where_there_is_no_metadata(name: str, tmp_path: Path) -> None:
    names, splits = BY_NAME[name]
    assert chosen(names, "# No metadata\n", tmp_path, "default") == ("", splits) or name == "no split in a word"
    assert chosen(names, "---\ndataset_info:\n  features: []\n---\n", tmp_path) == ("", splits)


APART = {
    "by prefix": (["emotion_test.csv", "irony_test.csv"], ["emotion", "irony"]),
    "by suffix": (["test_emotion.csv", "test.csv"], [".", "emotion"]),
    "in the split's folder": (["test/emotion.csv", "test/irony.csv"], ["emotion", "irony"]),
    "by words for a split": (["eval.csv", "test.csv"], ["eval", "test"]),
    "by year": (["2018/test.csv", "2019/test.csv"], ["2018", "2019"]),
    "converted": (["emotion/test/0000.parquet", "irony/test/0000.parquet"], ["emotion", "irony"]),
}


@pytest.mark.parametrize("name", APART)
def test_files_of_one_split_that_lie_apart_are_asked_for(name: str, tmp_path: Path) -> None:
    names, parts = APART[name]
    with pytest.raises(BenchError, match=f"set one: {', '.join(parts)}, default"):
        chosen(names, "", tmp_path)
    for part in parts:
        found, splits = chosen(names, "", tmp_path, part)
        assert (found, [len(files) for files in splits.values()]) == (part, [1])


CARDS: dict[str, tuple[str, dict[str, list[str]]]] = {
    "a path": ("- data_files: b.csv", {"train": ["b.csv"]}),
    "paths": ("- data_files: [b.csv, a/*.csv]", {"train": ["b.csv", "a/test.csv"]}),
    "splits by name": ("- data_files: {test: a/**, train: b.csv}", {"test": ["a/test.csv"], "train": ["b.csv"]}),
    "no deeper": ("- data_files: [{split: test, path: '*.csv'}]", {"test": ["b.csv"]}),
    "a folder": ("- data_dir: ./a/", {"test": ["a/test.csv"]}),
    "a folder's files": ("- data_dir: a\n  data_files: '*.csv'", {"train": ["a/test.csv"]}),
    "names that are numbers": ("- config_name: 2019\n  data_files: [{split: 1, path: b.csv}]", {"1": ["b.csv"]}),
}


@pytest.mark.parametrize("name", CARDS)
def test_metadata_decides_before_any_name(name: str, tmp_path: Path) -> None:
    entry, splits = CARDS[name]
    assert chosen(["a/test.csv", "b.csv"], f"---\nconfigs:\n{entry}\n---\n", tmp_path) == ("", splits)


UNREADABLE = {
    "a script": ("", ["tweets.py"], "refs/convert/parquet"),
    "archives": ("configs:\n- data_files: [{split: test, path: a.zip}]\n", ["a.zip", "b.csv"], "refs/convert/parquet"),
    "no files": ("configs:\n- data_files: []\n", ["b.csv"], "has no .parquet"),
    "a pattern that is none": ("configs:\n- data_files: '**.csv'\n", ["b.csv"], "refs/convert/parquet"),
    "no YAML": ("configs: [\n", ["b.csv"], "README.md is damaged"),
    "another shape": ("configs: {a: 1}\n", ["b.csv"], "configs: Input should be a valid list"),
    "a name twice": ("configs:\n- data_files: b.csv\n- data_files: a.csv\n", ["a.csv", "b.csv"], "a name twice"),
    "other rows": (
        "configs:\n- data_files: b.csv\n  skiprows: 1\n",
        ["b.csv"],
        "its configs set skiprows, which",
    ),
    "no header": ("configs:\n- data_files: b.csv\n  names: [a, b]\n", ["b.csv"], "its configs set names, which"),
    "a long separator": ("configs:\n- data_files: b.csv\n  sep: '::'\n", ["b.csv"], "configs.0.sep"),
    "a list": ("- a\n", ["b.csv"], "README.md is damaged"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_data_set_that_cannot_be_read_names_a_way_out(name: str, tmp_path: Path) -> None:
    front, names, message = UNREADABLE[name]
    with pytest.raises(BenchError, match=r"dataset\.path") as raised:
        chosen(names, f"---\n{front}---\n", tmp_path)
    assert message in str(raised.value)
