"""Tables of sentences: a text reaches the tokenizer as it stands in its cell, or its line is named."""

import csv
import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pytest
from conftest import Project
from pyarrow import parquet
from tiny_models import write_tiny_model

from bench.core.errors import BenchError
from bench.core.params import Dataset
from bench.core.schemas import Labelled, read_sentences, write_sentences
from bench.inputs.encoded import encode, load_encoded, load_reference
from bench.sources.labels import Row
from bench.sources.tables import read_table

TEXTS = [
    "a lone\rcarriage return",
    "it ends with a space ",
    "\tand begins with a tab",
    "two\r\nlines\n",
    "\r",
    "  ",
    'she said "fine", twice; then nothing',
    '"quoted"',
    "NUL \0, \u2028, \x85 and \x1f",
    "\ufeffa mark of order, 😀, עברית",
    "long " * 40_000,
]
COLUMNS: dict[str, Any] = {"id": "x", "revision": "y", "split": "test", "source": "local", "path": "x"}


def columns(**more: Any) -> Dataset:
    return Dataset.model_validate(COLUMNS | {"text_column": "text"} | more)


def read(path: Path, **more: Any) -> list[Row]:
    return read_table(path, columns(**more))


def write(path: Path, texts: list[str]) -> Path:
    frame = pd.DataFrame({"text": texts, "label": [place % 2 for place in range(len(texts))]})
    writers: dict[str, Callable[[], Any]] = {
        ".csv": lambda: frame.to_csv(path, index=False),
        ".tsv": lambda: frame.to_csv(path, index=False, sep="\t", quoting=csv.QUOTE_ALL),
        ".jsonl": lambda: frame.to_json(path, orient="records", lines=True),
        ".parquet": lambda: frame.to_parquet(path),
    }
    writers[path.suffix]()
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet"])
def test_texts_go_unchanged_from_file_to_stage(name: str, project: Project, tmp_path: Path) -> None:
    own = tmp_path / "own"
    write_tiny_model("bert", own, num_labels=2)
    others = write(tmp_path / "others.csv", ["something else", "and more"])

    def change(params: dict[str, Any]) -> None:
        params["model"] |= {"source": "auto", "path": str(own)}
        found = {"path": str(write(tmp_path / name, TEXTS)), "calibration_path": str(others)}
        params["dataset"] |= {"source": "auto", "text_column": "text", **found}

    project.set_params(change)
    project.script("stages/download.py")
    rows = read_sentences(project.folder / "artifacts/sentences/evaluation.parquet")
    assert [row.sentence for row in rows] == TEXTS
    assert [row.label for row in rows] == [place % 2 for place in range(len(TEXTS))]


def test_labels_from_plain_transformers_are_all_right(project: Project, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    own, texts = (
        tmp_path / "own",
        [*TEXTS, *(f"{words}{end}" for words in TEXTS[:4] for end in ("\r", " ", "\r\n", "\t"))],
    )
    write_tiny_model("roberta", own, num_labels=2)
    model, tokenizer = (kind.from_pretrained(own) for kind in (AutoModelForSequenceClassification, AutoTokenizer))
    with torch.inference_mode():
        tokens = [tokenizer(text, truncation=True, max_length=32, return_tensors="pt") for text in texts]
        logits = np.concatenate([model(**given).logits.numpy() for given in tokens])
    table = pd.DataFrame({"text": texts, "label": logits.argmax(axis=1)})
    table.to_json(tmp_path / "a.jsonl", orient="records", lines=True)

    def change(params: dict[str, Any]) -> None:
        params["model"] |= {"source": "auto", "path": str(own)}
        others = str(write(tmp_path / "others.csv", ["something else", "and more"]))
        data = {"path": str(tmp_path / "a.jsonl"), "calibration_path": others}
        params["dataset"] |= {"source": "auto", "text_column": "text", **data}

    project.set_params(change)
    for stage in ("probe", "download", "prepare_inputs"):
        project.script(f"stages/{stage}.py")
    inputs = project.folder / "artifacts/inputs/evaluation.npz"
    reference = load_reference(inputs)
    assert (load_encoded(inputs).labels == reference.argmax(axis=1)).all()
    assert np.allclose(np.sort(reference, axis=0), np.sort(logits, axis=0), atol=1e-5)


def test_pairs_and_missing_labels_survive_between_stages(tmp_path: Path) -> None:
    rows = [Labelled("a\r", None, ""), Labelled("", 1, " b\r\n"), Labelled("c", 0, "d")]
    write_sentences(tmp_path / "a.parquet", rows)
    assert read_sentences(tmp_path / "a.parquet") == rows
    alone = [Labelled(text, None) for text in TEXTS]
    write_sentences(tmp_path / "b.parquet", alone)
    assert read_sentences(tmp_path / "b.parquet") == alone


DAMAGED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-9]), "is damaged"),
    "missing": (lambda path: path.unlink(), "is missing"),
    "no sentences": (lambda path: write_sentences(path, []), "no sentences"),
    "a text for a label": (
        lambda path: parquet.write_table(pyarrow.table({"sentence": ["a"], "label": ["good"]}), path),
        "0.label",
    ),
    "another column": (lambda path: parquet.write_table(pyarrow.table({"text": ["a"]}), path), "0.sentence"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_between_stages_is_named_with_what_renews_it(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_sentences(path, [Labelled("a film", 1)])
    change, message = DAMAGED[name]
    change(path)
    with pytest.raises(BenchError, match="dvc repro -f download") as raised:
        read_sentences(path)
    assert message in str(raised.value)


TAKEN: dict[str, tuple[str, bytes, list[str]]] = {
    "a carriage return outside quotes": ("a.csv", b"text,label\none\rtwo,1\nthree,0\n", ["one\rtwo", "three"]),
    "carriage returns and line feeds": ("a.csv", b"text,label\r\none,1\r\n\r\ntwo,0\r\n", ["one", "two"]),
    "carriage returns alone": ("a.csv", b"text,label\rone,1\rtwo,0", ["one", "two"]),
    "text mode of Windows": ("a.csv", b'text,label\r\r\n"one\r\ntwo",1\r\r\nthree,0\r\r\n', ["one\ntwo", "three"]),
    "columns without a name": ("a.csv", b"text,label,,\none,1,,\ntwo,0,,\n", ["one", "two"]),
    "semicolons": ("a.csv", b'text;label\none, two;1\n"three; four";0\n', ["one, two", "three; four"]),
    "tabs": ("a.csv", b"label\ttext\n1\tone; two, three\n", ["one; two, three"]),
    "a mark of byte order": ("a.csv", b'\xef\xbb\xbf"text","label"\none,1\n', ["one"]),
    "a suffix in capitals": ("A.CSV", b"text,label\none,1\n", ["one"]),
    "spaces around": ("a.csv", b"text,label\n one ,1\n", [" one "]),
    "no line feed at the end": ("a.tsv", b"text\tlabel\none, two\t1", ["one, two"]),
    "an empty text": ("a.jsonl", b'{"text": "", "label": 1}\n', [""]),
    "a whole emoji": ("a.jsonl", b'{"text": "\\ud83d\\ude00", "label": 1}\n', ["😀"]),
    "a spreadsheet's separator": ("a.csv", b"sep=;\r\ntext;label\r\none, two;1\r\n", ["one, two"]),
    "a separator in quotes": ("a.csv", b'\xef\xbb\xbf"sep=\t"\r\ntext\tlabel\r\none\t1\r\n', ["one"]),
    "bars": ("a.csv", b"text|label\none, two|1\n", ["one, two"]),
    "spaces around names": ("a.csv", b"text , label\none, 1\n", ["one"]),
    "a blank line before the names": ("a.csv", b"\n\ntext;label\none;1\n", ["one"]),
    "rows of a spreadsheet below the table": ("a.csv", b"text,label,\none,1,\n,,\n,,\n", ["one"]),
    "spaces alone in a line": ("a.csv", b"text,label\none,1\n  \ntwo,1\n", ["one", "two"]),
    "UTF-16": ("a.csv", "text\tlabel\r\n\u05e2\t1\r\n".encode("utf-16"), ["\u05e2"]),
    "packed": ("a.csv.gz", gzip.compress(b"text,label\none,1\n"), ["one"]),
    "packed under another name": ("a.jsonl", gzip.compress(b'{"text": "one", "label": 1}'), ["one"]),
    "tabs without quotes": (
        "a.tsv",
        b'text\tlabel\n"one" he said\t1\ntwo " more\t0\n',
        ['"one" he said', 'two " more'],
    ),
    "a quote that opens a line": ("a.tsv", b'text\tlabel\n"one\t1\ntwo"\t0\n', ['"one', 'two"']),
    "a quote that never ends": ("a.tsv", b'text\tlabel\none\t1\n"two\t0\nthree\t1\n', ["one", '"two', "three"]),
    "tabs with quotes": ("a.tsv", b'text\tlabel\n"one\nmore"\t1\n"t""wo\tmore"\t0\n', ["one\nmore", 't"wo\tmore']),
    "a list": ("a.json", b'[\n {"text": "one", "label": 1},\n {"text": "two"}]\n', ["one", "two"]),
    "a list named otherwise": ("a.jsonl", b'[{"text": "one", "label": 1}]', ["one"]),
    "an object a line": ("a.json", b'{"text": "one", "label": 1}\n{"text": "two", "label": 1}\n', ["one", "two"]),
    "one object": ("a.json", b'{"text": "one", "label": 1}', ["one"]),
    "a list in an object": ("a.json", b'{"version": 1, "data": [{"text": "one", "label": 1}]}', ["one"]),
    "columns": ("a.json", b'{"text": {"0": "one", "3": "two"}, "label": {"0": 1, "3": 0}}', ["one", "two"]),
    "columns as lists": ("a.json", b'{"text": ["one", "two"], "label": [1, 0]}', ["one", "two"]),
    "another name for lines": ("a.ndjson", b'{"text": "one", "label": 1}\n', ["one"]),
    "keys in another order": ("a.jsonl", b'{"label": 1, "text": "one"}\n\n{"text": "two", "label": 0}', ["one", "two"]),
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_tables_commonly_hold_is_taken(name: str, tmp_path: Path) -> None:
    file, content, texts = TAKEN[name]
    (tmp_path / file).write_bytes(content)
    assert [row.sentence for row in read(tmp_path / file)] == texts


def test_a_cell_may_be_of_any_length(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"text,label\n{'x' * 3_000_000},1\n", encoding="utf-8")
    assert len(read(tmp_path / "a.csv")[0].sentence) == 3_000_000


REFUSED: dict[str, tuple[str, bytes, list[str]]] = {
    "a column of text twice": ("a.csv", b"text,label,text\na,1,b\n", ["a.csv has 2 columns 'text'"]),
    "a column of labels twice": ("a.tsv", b"text\tlabel\tlabel\na\t1\t0\n", ["a.tsv has 2 columns 'label'"]),
    "a key twice": ("a.jsonl", b'{"text": "a", "label": 1}\n{"text": "b", "text": "c"}\n', ["line 2", "'text'"]),
    "half an emoji": ("a.jsonl", b'\n{"text": "a \\ud83d", "label": 1}\n', ["line 2", "half a character"]),
    "another half": ("a.jsonl", b'{"text": "\\ude00 a", "label": 1}\n', ["line 1", "'\\ude00'"]),
    "a number for a text": ("a.jsonl", b'{"text": "a", "label": 1}\n{"text": 5, "label": 1}\n', ["line 2", "is 5"]),
    "null for a text": ("a.jsonl", b'{"text": null, "label": 1}\n', ["line 1", "text is None"]),
    "no key": ("a.jsonl", b'{"text": "a", "label": 1}\n{"label": 1}\n', ["line 2", "text is None"]),
    "a list of texts": ("a.json", b'["a"]', ["object 1 is 'a', wanted: a JSON object"]),
    "a key twice in a list": (
        "a.json",
        b'[{"text": "a", "text": "b", "label": 1}]',
        ["the key 'text' stands there twice"],
    ),
    "a list without an end": ("a.json", b'[{"text": "a",\n "label": 1},\n', ["a.json: ", "line 3"]),
    "columns of two lengths": ("a.json", b'{"text": ["a", "b"], "label": [1]}', ["line 1: text is ['a', 'b']"]),
    "a spreadsheet": ("a.csv", b"PK\x03\x04", ["a.csv is a spreadsheet or a .zip file: save it as .csv"]),
    "parquet under another name": ("a.csv", b"PAR1", ["a.csv is a .parquet file: name it so"]),
    "cut when packed": ("a.csv.gz", gzip.compress(b"text,label\n" + b"a,1\n" * 99)[:-9], ["is no whole .gz file"]),
    "half of UTF-16": ("a.csv", "text,label\na,1\n".encode("utf-16")[:-1], ["no whole UTF-16 text"]),
    "an empty cell": ("a.csv", b"text,label\na,1\n,1\n", ["line 3", "wanted: a text"]),
    "backslash and quote": ("a.csv", b'text,label\nfine,1\n"so \\"fine\\" it is",1\nx,0\n', ["line 3:", '("")']),
    "a quote two lines earlier": ("a.csv", b'text,label\na,1\n"b\nc\nd "x" e",1\n', ["line 3 to line 5"]),
    "a quote without an end": ("a.csv", b'text,label\na,1\n"b,1\nc,0\n', ["line 3 to line 4"]),
    "a cell too few": ("a.csv", b'text,label\n"a\nb"\n', ["line 2 to line 3: 1 cells, the first line names 2"]),
    "Latin-1": ("a.csv", b"text,label\na,1\ncaf\xe9,1\n", ["line 3", "0xe9", "not UTF-8"]),
    "no parquet": ("a.parquet", b"PAR1 nothing", ["a.parquet is no parquet file"]),
    "another format": ("a.xlsx", b"", ["allowed: a .parquet, .csv, .tsv, .jsonl, .ndjson, .json file (.gz too)"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_text_is_named_with_its_line(name: str, tmp_path: Path) -> None:
    file, content, messages = REFUSED[name]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(BenchError) as raised:
        read(tmp_path / file)
    assert all(message in str(raised.value) for message in messages), raised.value


def test_the_advice_about_quotes_helps(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,label\n"so ""fine"" it is",1\n', encoding="utf-8")
    assert read(tmp_path / "a.csv")[0].sentence == 'so "fine" it is'


def test_bytes_that_are_text_are_read_and_a_folder_is_named(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"text": [b"one"], "label": [b"1"]}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet")[0][:2] == ("one", "1")
    (tmp_path / "b.parquet").mkdir()
    with pytest.raises(BenchError, match=r"b\.parquet', a folder, allowed"):
        read(tmp_path / "b.parquet")


def test_a_path_may_begin_with_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write(tmp_path / "a.csv", ["one"])
    assert Path(str(columns(path="~/a.csv").path)) == tmp_path / "a.csv"


PARQUET: dict[str, tuple[pyarrow.Table, str]] = {
    "a column twice": (pyarrow.table([["a"], ["b"]], names=["text", "text"]), "has 2 columns 'text'"),
    "null": (pyarrow.table({"text": ["a", None]}), "row 2: text is None"),
    "numbers": (pyarrow.table({"text": [1, 2]}), "row 1: text is 1"),
    "bytes that are no text": (
        pyarrow.table({"text": pyarrow.array([b"a", b"\xff"]).view(pyarrow.string())}),
        "row 2: is not UTF-8",
    ),
}


@pytest.mark.parametrize("name", PARQUET)
def test_a_row_of_parquet_that_is_no_text_is_named(name: str, tmp_path: Path) -> None:
    table, message = PARQUET[name]
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(BenchError, match=message):
        read(tmp_path / "a.parquet", label_column=None)


def test_other_columns_of_parquet_are_left_unread(tmp_path: Path) -> None:
    kinds = {"a.text": ["x"], "text": pyarrow.array(["y"]).dictionary_encode(), "at": [1]}
    times = pyarrow.table({**kinds, "time": pyarrow.array([1], pyarrow.timestamp("ns"))})
    parquet.write_table(times, tmp_path / "a.parquet")
    assert [row[:3] for row in read(tmp_path / "a.parquet", label_column=None)] == [("y", None, None)]
    assert read(tmp_path / "a.parquet", text_column="a.text", label_column="at")[0][:3] == ("x", 1, None)


def test_a_text_without_any_token_is_named(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    write_tiny_model("gpt2", tmp_path / "own")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "own")
    tokenizer.backend_tokenizer.post_processor = None
    with pytest.raises(BenchError, match="no token of '  '"):
        encode(tokenizer, [Labelled("a film", 0), Labelled("  ", 0)], 16)
