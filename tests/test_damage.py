"""A file between two stages that is damaged or of another shape is named, with what is wrong and what renews it."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Project, copy_of

FILES = {
    "metrics/env.json": ("render", ("cpu", "cores")),
    "metrics/model.json": ("render", ("model_is_real",)),
    "metrics/export.json": ("summarize", ("workload", "layers")),
    "metrics/peaks.json": ("summarize", ("cpu", "bytes_per_s")),
    "metrics/convert/fp16.json": ("summarize", ("seconds",)),
    "artifacts/samples/cpu/ort_cpu_fp32.json": ("summarize", ("cells", "1", "p50_ms")),
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


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named_with_the_key_and_what_renews_it(
    name: str, damage: str, damaged: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, keys = FILES[name]
    path: Path = damaged.folder / name
    whole = path.read_text(encoding="utf-8")
    path.write_text(DAMAGES[damage](whole, keys), encoding="utf-8")
    try:
        message = end_of(f"stages/{stage}.py", damaged, monkeypatch)
    finally:
        path.write_text(whole, encoding="utf-8")
    assert message.startswith(f"error: {name} is damaged (")
    assert "dvc repro" in message
    assert len(message) < 800
    if damage in ("a text for a value", "not a number"):
        assert ".".join(keys) in message


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
    path: Path = damaged.folder / name
    whole = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(whole[: int(len(whole) * part)])
    try:
        ended = damaged.python(f"stages/{BINARIES[name]}.py", "fp16", code=1)
    finally:
        path.write_bytes(whole)
    message = ended.stderr[ended.stderr.index("error: ") :]
    assert message.startswith("error: artifacts/")
    assert "dvc repro" in message
    assert "Traceback" not in ended.stderr
    assert len(message) < 800


def end_of(script: str, project: Project, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a stage's script in this process and return what it ends with; any other exception is a failure."""
    monkeypatch.chdir(project.folder)
    monkeypatch.syspath_prepend(project.folder / "stages")
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(script, run_name="__main__")
    return str(ended.value)
