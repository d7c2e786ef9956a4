"""Tiny models with their graphs, each made once for all test processes and kept on disk."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from tiny_models import write_tiny_model

from bench.classifier.model import load_classifier, reference_logits
from bench.core.model_inputs import Padding
from bench.core.params import Export
from bench.core.pretrained import load_tokenizer
from bench.core.schemas import Labelled
from bench.graphs.convert import convert
from bench.graphs.export import Exported, export_checked
from bench.graphs.onnx_files import save_graph
from bench.inputs.encoded import Encoded, encode
from bench.runtimes.base.registry import import_runtime
from bench.runtimes.base.session import SessionSpec
from bench.sources.builtin import builtin_sentences
from bench.sources.model_files import check_description

LENGTH = 32
SETTINGS = Export(opset="auto", max_abs_diff=1e-4)


@dataclass(frozen=True)
class Made:
    """A model, and the logits of a plain run of transformers; its graphs are made when they are asked for."""

    kind: str
    folder: Path
    encoded: Encoded
    wanted: Any

    @property
    def exported(self) -> Exported:
        """How the graph of full precision was made, without the graph itself."""
        found: Exported = kept(self.folder / "exported", self._export)
        return found

    def graph(self, name: str) -> Path:
        """Return the folder `model`, the exported `fp32.onnx`, or a converted graph by its file's name."""
        path = self.folder / name
        if name == "model":
            return path
        exported = self.exported
        if name != "fp32.onnx":
            assert exported.graph is None
            kept(self.folder / path.stem, lambda: self._convert(path))
        return path

    def _export(self) -> Exported:
        classifier = load_classifier(self.folder / "model")
        made = export_checked(classifier, self.encoded, self.wanted, SETTINGS, self.folder / "fp32.onnx")
        return replace(made, graph=None)

    def _convert(self, path: Path) -> None:
        save_graph(convert(path.stem, self.graph("fp32.onnx"), self.encoded.first(4)), path)

    def session(self, runtime: str, precision: str, graph: str, padding: Padding = "fixed", **options: Any) -> Any:
        spec = SessionSpec("cpu", precision, self.graph(graph), options, [1, 3], LENGTH, cpu_threads=1, padding=padding)
        return import_runtime(runtime).open_session(spec)


class MadeModels:
    """The models that are made so far, in a folder that all test processes share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, kind: str, padding_side: str = "right", **more: Any) -> Made:
        """Return a model of a kind; `more` goes into its configuration."""
        folder = self.folder / "-".join([kind, padding_side, *(f"{key}-{value}" for key, value in more.items())])
        encoded, wanted = kept(folder / "encoded", lambda: _write(kind, folder / "model", padding_side, more))
        return Made(kind, folder, encoded, wanted)


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """Return what lies pickled under a name, made first where nothing does; one test process makes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            content = pickle.dumps(make())
            path.write_bytes(content)
        return pickle.loads(path.read_bytes())


def _write(kind: str, folder: Path, padding_side: str, more: dict[str, Any]) -> tuple[Encoded, Any]:
    """Write the model; return its sentences, and the logits of the project's own code, held against transformers'."""
    write_tiny_model(kind, folder, padding_side, **more)
    check_description(folder)
    encoded = encode(load_tokenizer(folder), sentences(), LENGTH)
    wanted = reference_logits(load_classifier(folder), encoded)
    assert np.allclose(wanted, plain_logits(folder), atol=1e-5)
    return encoded if encoded.has_types else encoded.without_types(), wanted


def sentences() -> list[Labelled]:
    """Return short and long sentences, some of them longer than LENGTH tokens, some filling it."""
    rows = [row.sentence for row in builtin_sentences()[0]]
    return [Labelled(text, 0) for text in ["fine .", *rows[:24:3], " ".join(rows[:6]), " ".join(rows[6:12])]]


def plain_logits(folder: Path) -> Any:
    """Run the model as transformers' own documentation does, sentence by sentence."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = []
    for row in sentences():
        tokens = tokenizer(row.sentence, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt")
        with torch.inference_mode():
            found.append(model(**tokens).logits.numpy()[0])
    return np.array(found)
