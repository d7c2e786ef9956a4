"""Get the model and the sentences from where params.yaml says, and say where they came from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.core.errors import DownloadError
from bench.core.files import remove
from bench.core.params import Dataset, Model
from bench.core.sentences import Labelled, write_sentences
from bench.sources.builtin import builtin_sentences
from bench.sources.hub import HubSource, download_model, download_sentences
from bench.sources.parquet import read_parquet
from bench.sources.synthetic import write_synthetic_model

TRAIN_SENTENCES = 2000
Announce = Callable[[str], None]


def fetch_model(model: Model, folder: Path, announce: Announce) -> dict[str, Any]:
    """Fill `folder` with the model and return its provenance; DownloadError if `hub` cannot give it."""
    source = HubSource(model.id, model.revision, "model", model.hub_timeout_seconds)
    if model.source != "synthetic":
        try:
            announce(f"fetching {source} from the hub")
            download_model(source, folder)
            remove(folder / ".cache")  # the hub client's own, holds the time of the download
            return {"model": f"{model.id}@{model.revision}", "model_is_real": True}
        except DownloadError as problem:
            if model.source == "hub":
                raise DownloadError(
                    f"{problem}\n       model.source is hub: auto would go on with a synthetic model"
                ) from None
            announce(f"NOTE: {problem}")
            _empty(folder)
    sentences = [text for part in builtin_sentences() for text, _ in part]
    write_synthetic_model(model.synthetic, sentences, folder)
    name = f"synthetic {model.synthetic.architecture}, seed {model.synthetic.seed}"
    announce(f"NOTE: the model is {name}: its speed is the real one's, its predictions mean nothing")
    return {"model": name, "model_is_real": False}


def _empty(folder: Path) -> None:
    """Remove what a broken download left."""
    for leftover in folder.iterdir():
        remove(leftover)


def fetch_sentences(dataset: Dataset, timeout_seconds: float, folder: Path, announce: Announce) -> dict[str, Any]:
    """Write evaluation.csv and calibration.csv to `folder` and return their provenance."""
    source = HubSource(dataset.id, dataset.revision, "dataset", timeout_seconds)
    name = "built-in sentences"
    evaluation, calibration = builtin_sentences()
    if dataset.source != "builtin":
        try:
            announce(f"fetching {source} from the hub")
            evaluation, calibration = _fetch_from_hub(source, dataset.split, folder)
            name = f"{dataset.id}@{dataset.revision}"
        except DownloadError as problem:
            if dataset.source == "hub":
                raise DownloadError(
                    f"{problem}\n       dataset.source is hub: auto would go on with the built-in sentences"
                ) from None
            announce(f"NOTE: {problem}")
            announce("NOTE: the sentences are the built-in ones")
    write_sentences(folder / "evaluation.csv", evaluation)
    write_sentences(folder / "calibration.csv", calibration)
    return {"sentences": name, "evaluation_sentences": len(evaluation)}


def _fetch_from_hub(source: HubSource, split: str, folder: Path) -> tuple[list[Labelled], list[Labelled]]:
    """Return (evaluation, calibration): the named split, and train sentences, which are never evaluated."""
    downloads = folder / "downloads"
    evaluation = read_parquet(download_sentences(source, split, downloads))
    calibration = read_parquet(download_sentences(source, "train", downloads), TRAIN_SENTENCES)
    remove(downloads)
    evaluated = {text for text, _ in evaluation}
    return evaluation, [pair for pair in calibration if pair[0] not in evaluated]
