"""A file between two stages that is damaged or of another shape is named, with what is wrong and what renews it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Project, copy_of

from bench.core.errors import DataError
from bench.inputs.encoded import Encoded, load_reference, save_encoded

FILES = {
    "metrics/env.json": ("render", ("cpu", "cores")),
    "metrics/model.json": ("render", ("model_is_real",)),
    "metrics/export.json": ("summarize", ("workload", "layers")),
    "metrics/peaks.json": ("summarize", ("cpu", "bytes_per_s")),
    "metrics/convert/fp16.json": ("summarize", ("seconds",)),
    "artifacts/samples/ort_cpu_fp32.json": ("summarize", ("cells", "1", "p50_ms")),
}
"""Each file, a stage that reads it, and a key that it must hold."""


def set_key(text: str, keys: tuple[str, ...], value: Any) -> str:
    content = json.loads(text)
    section = content
    for key in keys[:-1]:
        section = section[key]
    section[keys[-1]] = value
    return json.dumps(content)


DAMAGES: dict[str, Callable[[str, tuple[str, ...]], str]] = {
    "cut off": lambda text, _keys: text[: len(text) // 2],
    "empty": lambda _text, _keys: "",
    "another shape": lambda _text, _keys: "[1, 2]",
    "nested without end": lambda _text, _keys: "[" * 100_000,
    "a text for a value": lambda text, keys: set_key(text, keys, "x" * 1000),
    "not a number": lambda text, keys: set_key(text, keys, float("nan")),
}


@pytest.fixture(scope="module")
def damaged(measured: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A copy whose files are damaged one after another, and mended again."""
    yield from copy_of(measured, tmp_path_factory.mktemp("damaged") / "copy")


def told(project: Project, name: str, content: str | bytes, stage: str, *arguments: str) -> str:
    """Return what a stage ends with while a file holds this: a short message with what renews the file."""
    path = project.folder / name
    with project.mended(name):
        path.chmod(0o644)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        message = project.script(f"stages/{stage}.py", *arguments, code=1).stderr
    assert "dvc repro" in message
    assert len(message[message.index("error: ") :]) < 800
    return message


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named_with_the_key_and_what_renews_it(name: str, damage: str, damaged: Project) -> None:
    stage, keys = FILES[name]
    message = told(damaged, name, DAMAGES[damage](damaged.read(name), keys), stage)
    assert message.startswith(f"error: {name} is damaged (")
    if damage in ("a text for a value", "not a number"):
        assert ".".join(keys) in message


TABLES: dict[str, tuple[str, dict[str, tuple[str, str, str]]]] = {
    "artifacts/samples/ort_cpu_fp32.csv": (
        "render",
        {
            "a text for a number": (r"^0,0,1,0,.*$", "0,0,1,0,quick", "latency_ms"),
            "infinity": (r"^0,0,1,0,.*$", "0,0,1,0,inf", "latency_ms"),
            "a negative latency": (r"^0,0,1,0,", "0,0,1,0,-", "latency_ms"),
            "an empty cell": (r"^0,0,1,0,.*$", "0,0,1,0,", "latency_ms"),
            "a cell too many": (r"^(0,0,1,0,.*)$", r"\1,5", "batch"),
            "another first line": (r"^pass,", "round,", "pass"),
            "a run that is missing": (r"^0,0,1,0,.*\n", "", "runs at batch size 1"),
            "no rows": (r"(?s)^(pass,[^\n]*\n).*", r"\1", "0 runs"),
            "not CSV": (r"(?s)\A.*", '"open', "EOF"),
        },
    ),
    "results/summary.csv": (
        "render",
        {
            "a text for a number": (r"^(ort_cpu_fp32,.*?,measured,)[^,]*", r"\1many", "runs"),
            "an unknown status": (r"^(ort_cpu_fp32,.*?),measured,", r"\1,quick,", "status"),
            "a row twice": (r"^(ort_cpu_fp32,.*)$", r"\1\n\1", "two rows"),
            "figures that are missing": (r"^(ort_cpu_fp32,.*?,measured,[^,]*,)[^,]*", r"\1", "without p50_ms"),
            "another table": (r"(?s)\A.*", "a,b\n1,2\n", "variant"),
            "the first line alone": (r"(?s)^(variant,[^\n]*\n).*", r"\1", "no rows"),
        },
    ),
}
"""Each CSV file, a stage that reads it, and by what is wrong with it: pattern, replacement, what the message names."""


@pytest.mark.parametrize(("name", "fault"), [(name, fault) for name, (_, faults) in TABLES.items() for fault in faults])
def test_a_damaged_table_is_named_with_the_row_and_what_renews_it(name: str, fault: str, damaged: Project) -> None:
    stage, faults = TABLES[name]
    pattern, replacement, named = faults[fault]
    whole = damaged.read(name)
    changed = re.sub(pattern, replacement, whole, count=1, flags=re.M)
    assert changed != whole
    message = told(damaged, name, changed, stage)
    assert message.startswith(f"error: {name} is damaged (")
    assert named in message


CONTRADICTIONS: dict[str, tuple[str, Any]] = {
    "measured without a latency": ("p50_ms", None),
    "a block too few": ("block_p50_ms", [1.0, 2.0]),
    "a pass as text": ("passes", ["0"]),
    "another count of runs": ("runs", 0),
    "a number as text": ("p50_ms", "1.5"),
}


def cut_to(text: str, lines: int) -> str:
    return "".join(text.splitlines(keepends=True)[:lines])


@pytest.mark.parametrize(
    ("name", "change", "fault"),
    [
        ("results/summary.csv", lambda text: cut_to(text, 4), "no row of ort_cpu_fp32 batch size 2"),
        ("results/summary.csv", lambda text: cut_to(text, 2), "no row of torch_cpu_fp32 batch size 2"),
        ("results/summary.csv", lambda text: text[:-3], "its last line is cut"),
        ("results/summary.csv", lambda text: text.replace("ort_cpu_int8,", "ort_cpu_int9,"), "no row of ort_cpu_int8"),
        ("results/serving.csv", lambda text: cut_to(text, 1), "no row of ort_cpu_fp32"),
    ],
)
def test_a_cut_or_contradicting_file_ends_a_stage_by_hand(
    name: str, change: Callable[[str], str], fault: str, damaged: Project
) -> None:
    message = told(damaged, name, change(damaged.read(name)), "render")
    assert message.startswith(f"error: {name} is damaged (")
    assert fault in message


@pytest.mark.parametrize("fault", CONTRADICTIONS)
def test_a_report_whose_parts_contradict_each_other_is_refused(fault: str, damaged: Project) -> None:
    key, value = CONTRADICTIONS[fault]
    report = damaged.report("ort_cpu_fp32")
    report["cells"]["1"] = {name: old for name, old in {**report["cells"]["1"], key: value}.items() if old is not None}
    message = told(damaged, "artifacts/samples/ort_cpu_fp32.json", json.dumps(report), "summarize")
    assert "ort_cpu_fp32.json is damaged (cells.1" in message
    assert "`dvc repro` measures ort_cpu_fp32 again" in message


ARRAYS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "input_ids": lambda arrays: arrays["input_ids"][:, :3],
    "attention_mask": lambda arrays: arrays["attention_mask"].astype(float),
    "labels": lambda arrays: arrays["labels"][:1],
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_of_another_shape_are_refused(name: str, damaged: Project) -> None:
    file, changed = "artifacts/inputs/evaluation.npz", io.BytesIO()
    with np.load(damaged.folder / file) as arrays:
        np.savez(changed, allow_pickle=False, **{**arrays, name: ARRAYS[name](arrays)})
    message = told(damaged, file, changed.getvalue(), "export_onnx")
    assert message.startswith("error: artifacts/inputs/evaluation.npz is damaged (")
    assert name in message
    assert "dvc repro -f prepare_inputs" in message


def test_a_reference_of_other_sentences_is_refused(tmp_path: Path) -> None:
    ids = np.ones((3, 4), dtype=np.int64)
    encoded = Encoded(ids, ids, np.zeros(3, dtype=np.int64))
    for logits in (np.zeros((2, 2), np.float32), np.zeros(3, np.float32), np.full((3, 2), np.nan, np.float32)):
        save_encoded(tmp_path / "x.npz", encoded, reference_logits=logits)
        with pytest.raises(DataError, match="reference_logits"):
            load_reference(tmp_path / "x.npz")


BINARIES = {
    "artifacts/model/model.safetensors": "prepare_inputs",
    "artifacts/model/tokenizer.json": "prepare_inputs",
    "artifacts/model/config.json": "prepare_inputs",
    "artifacts/inputs/evaluation.npz": "export_onnx",
    "artifacts/onnx/fp32.onnx": "convert_onnx",
}
"""Each file of another format, and a stage that reads it."""


@pytest.mark.parametrize("part", [0.0, 0.9])
@pytest.mark.parametrize("name", BINARIES)
def test_a_file_that_was_cut_off_ends_a_stage_with_one_message(name: str, part: float, damaged: Project) -> None:
    whole = (damaged.folder / name).read_bytes()
    message = told(damaged, name, whole[: int(len(whole) * part)], BINARIES[name], "int8_dynamic")
    assert message[message.index("error: ") :].startswith("error: artifacts/")
