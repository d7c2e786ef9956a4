"""Get the model and the sentences from where params.yaml says, and say where they came from."""

import random
from pathlib import Path
from typing import Any

from bench.core.errors import DataError, DownloadError, HubUnreachable, ParameterError
from bench.core.files import file_sha256, remove
from bench.core.params import Dataset, FromHubOrPath, Model
from bench.core.paths import SENTENCE_FILES
from bench.core.pretrained import CONFIG
from bench.core.progress import log
from bench.core.schemas import read_sentences, write_sentences
from bench.sources.builtin import NAMES, builtin_sentences
from bench.sources.hub import HubSource, download_model, fetch_file, list_files
from bench.sources.hub_datasets import choose_files, names_in_infos, names_on_card, read_card, separator
from bench.sources.labels import Column, ModelLabels, Row, read_labels
from bench.sources.model_files import check_content, check_size, copy_model, read_config, task_of
from bench.sources.synthetic import write_synthetic_model
from bench.sources.tables import names_in, read_table, read_tables

TRAIN_SENTENCES = 2000
TRAIN_FILES = 4
"""Of a split in many files, which may be sorted: from the first to the last, so that not all are downloaded."""
BUILTIN = "built-in sentences"
README = "README.md"
INFOS = "dataset_infos.json"
TRAIN = "train"
SHOWN_DIGITS = 12
Sentences = tuple[str, list[Row], list[Row]]
"""The name of the sentences, those to evaluate and those to calibrate with."""
Named = tuple[Sentences, list[str]]
"""Sentences, and the names that the data itself gives the numbers of its labels."""


def fetch_model(model: Model, folder: Path) -> dict[str, Any]:
    """Fill `folder` with the model, or with a stand-in where `source` allows it, and return its provenance.

    DownloadError for what the hub answers, ModelError for an unfit model, ParameterError for a missing folder.
    """
    provenance = _fill(model, folder)
    check_size(folder)
    config = read_config(folder / CONFIG)
    task, labels = task_of(config)
    return provenance | {"model_type": config["model_type"], "task": task, "labels": labels}


def _fill(model: Model, folder: Path) -> dict[str, Any]:
    if model.chosen_source == "local":
        content = copy_model(path := Path(str(model.path)), folder)
        return {"model": f"{path.resolve().name} (sha256 {content[:SHOWN_DIGITS]})", "model_is_real": True}
    if model.chosen_source == "synthetic":
        return _stand_in(model, folder)
    source_of_hub = _hub_source(model, "model", model.hub_timeout_seconds)
    try:
        log(f"fetching {source_of_hub} from the hub")
        found = download_model(source_of_hub, folder)
        remove(folder / ".cache")  # the hub client's own, holds the time of the download
        return {"model": f"{found.repo_id}@{found.revision}", "model_is_real": True}
    except HubUnreachable as problem:
        _go_on_without_the_hub(problem, model.chosen_source, "model.source", "a synthetic model")
        for leftover in folder.iterdir():
            remove(leftover)
        return _stand_in(model, folder, model.id)


def _hub_source(section: FromHubOrPath, kind: str, timeout_seconds: float) -> HubSource:
    """Return the repository that params.yaml names; ParameterError where it names a file or folder as well."""
    if section.source == "auto" and Path(section.id).expanduser().exists():
        raise ParameterError(
            f"params.yaml: {kind}.id: got {section.id!r}, which lies on this machine, allowed: OWNER/NAME of the hub: "
            f"set {kind}.path to it (or {kind}.source to hub if the repository of that name is meant)"
        )
    return HubSource(section.id, section.revision, kind, timeout_seconds)


def _go_on_without_the_hub(problem: HubUnreachable, source: str, key: str, instead: str) -> None:
    """Say that the hub does not answer; raise HubUnreachable where params.yaml asks for the hub alone."""
    if source == "hub":
        raise HubUnreachable(f"{problem}\n       {key} is hub: auto would go on with {instead}") from None
    log(f"NOTE: {problem}")


def _stand_in(model: Model, folder: Path, stands_for: str = "") -> dict[str, Any]:
    """Make the synthetic model; `stands_for`: the model that could not be had."""
    sentences = [row.sentence for part in builtin_sentences() for row in part]
    write_synthetic_model(model.synthetic, sentences, folder)
    name = f"synthetic {model.synthetic.architecture}, seed {model.synthetic.seed}"
    of = f"; it stands for {stands_for}, and has its speed if that has this architecture and these sizes"
    log(f"NOTE: the model is {name}, with random weights: its predictions mean nothing{of if stands_for else ''}")
    return {"model": name, "model_is_real": False} | ({"stands_for": stands_for} if stands_for else {})


def fit_stand_in(model: Model, sentences: Path, folder: Path) -> None:
    """Write the synthetic model with a tokenizer of its own sentences: others' words would be spelled by letters."""
    rows = [row for name in SENTENCE_FILES for row in read_sentences(sentences / name)]
    write_synthetic_model(model.synthetic, [text for row in rows for text in (row.sentence, row.pair) if text], folder)


def fetch_sentences(dataset: Dataset, model_folder: Path, timeout_seconds: float, folder: Path) -> dict[str, Any]:
    """Write the files of sentences to `folder` and return their provenance; stand-in and errors as for the model."""
    config = read_config(model_folder / CONFIG)
    model = ModelLabels.of(config)
    is_labelled = task_of(config)[0] == "single_label" and dataset.label_column is not None
    columns = dataset if is_labelled else dataset.without_labels()
    (name, evaluation, calibration), own_names = _sentences(columns, model, timeout_seconds, folder)
    column = Column.of(f"the column {dataset.label_column!r}", [*evaluation, *calibration], own_names)
    reading = read_labels(column, model, dataset.labels if is_labelled and name != BUILTIN else None)
    evaluated = {(row.sentence, row.pair) for row in evaluation}
    calibration = [row for row in calibration if (row.sentence, row.pair) not in evaluated]
    if not calibration:
        raise DataError(
            "params.yaml: dataset: no sentence is left for calibration that is not evaluated too: give more "
            "sentences, another calibration_path, or a larger calibration_share"
        )
    for file, rows in zip(SENTENCE_FILES, (evaluation, calibration), strict=True):
        write_sentences(folder / file, reading.labelled(rows))
    found = {"sentences": name, "evaluation_sentences": len(evaluation)}
    return found | ({"labels_read": reading.record(evaluation)} if is_labelled else {})


def _sentences(dataset: Dataset, model: ModelLabels, timeout_seconds: float, folder: Path) -> Named:
    if dataset.chosen_source == "builtin":
        return _builtin(dataset, model)
    if dataset.chosen_source == "local":
        return _local_sentences(dataset), names_in(Path(str(dataset.path)), dataset.label_column)
    source, downloads = _hub_source(dataset, "dataset", timeout_seconds), folder / "downloads"
    try:
        log(f"fetching {source} from the hub")
        return _hub_sentences(source, dataset, downloads)
    except HubUnreachable as problem:
        _go_on_without_the_hub(problem, dataset.chosen_source, "dataset.source", "the built-in sentences")
        log("NOTE: the sentences are the built-in ones")
        return _builtin(dataset, model)
    finally:
        remove(downloads)


def _builtin(dataset: Dataset, model: ModelLabels) -> Named:
    """Return the built-in sentences; a model that does not name its labels NEGATIVE and POSITIVE gets none."""
    has_these = {name.upper() for name in model.names.values()} == set(NAMES) and dataset.label_column is not None
    evaluation, calibration = (
        [Row(row.sentence, NAMES[row.label or 0] if has_these else None, None, BUILTIN) for row in rows]
        for rows in builtin_sentences()
    )
    return (BUILTIN, evaluation, calibration), []


def _hub_sentences(source: HubSource, dataset: Dataset, downloads: Path) -> Named:
    """Read a split of the hub's; calibrate with the split `train`, or with a share where that is not another one."""
    source, files = list_files(source)
    card = read_card(fetch_file(source, README, downloads), str(source)) if README in files else {}
    chosen, splits = choose_files(files, card, dataset.config, str(source))
    if dataset.split not in splits:
        has = f"has no split {dataset.split!r}: set dataset.split to one that it has: {', '.join(splits)}"
        raise DownloadError(f"{source}: {has}")
    mark = separator(card, chosen)

    def read(names: list[str], columns: Dataset, limit: int | None = None) -> list[Row]:
        files = ((fetch_file(source, name, downloads), f"{source}: {name}") for name in names)
        return read_tables(files, columns, limit, mark)

    rows = read(splits[dataset.split], dataset)
    config, column = dataset.config or chosen, dataset.label_column
    own_names = names_in(downloads / splits[dataset.split][0], column) or names_on_card(card, config, column)
    if not own_names and INFOS in files:
        own_names = names_in_infos(fetch_file(source, INFOS, downloads), config, column)
    title = f"{source.repo_id}@{source.revision}, {f'{chosen}, ' if chosen else ''}{dataset.split}"
    if dataset.split != TRAIN and TRAIN in splits:
        every = splits[TRAIN]
        count = min(TRAIN_FILES, len(every))
        some = [every[place * (len(every) - 1) // max(1, count - 1)] for place in range(count)]
        share = f" ({count} of {len(every)} files)" if count < len(every) else ""
        try:
            calibration = read(some, dataset.without_labels(), TRAIN_SENTENCES)
            return (f"{title}, calibrated with {TRAIN}{share}", rows, calibration), own_names
        except (DataError, ParameterError) as problem:
            log(f"NOTE: {problem}: a share of {dataset.split} calibrates instead")
            title += f", its split {TRAIN} cannot be used"
    return _set_aside(title, rows, dataset.calibration_share), own_names


def _local_sentences(dataset: Dataset) -> Sentences:
    """Read the user's tables; without one for calibration, set a share of the sentences aside."""
    path = Path(str(dataset.path))
    for table in filter(Path.is_file, map(Path, filter(None, (dataset.path, dataset.calibration_path)))):
        check_content(table, "params.yaml: dataset")
    rows = read_table(path, dataset)
    name = f"{path.name} (sha256 {file_sha256(path)[:SHOWN_DIGITS]})"
    if dataset.calibration_path is not None:
        other = Path(dataset.calibration_path)
        calibration = read_table(other, dataset.without_labels(), limit=TRAIN_SENTENCES)
        return f"{name}, calibrated with {other.name}", rows, calibration
    return _set_aside(name, rows, dataset.calibration_share)


def _set_aside(name: str, rows: list[Row], share: float) -> Sentences:
    """Take a share of the different sentences for calibration, by a fixed seed, and say so in their name."""
    different = list(dict.fromkeys((row.sentence, row.pair) for row in rows))
    if len(different) < 2:
        raise DataError(f"{name} holds {len(different)} sentence, wanted: at least 2, one of them for calibration")
    count = min(max(1, round(share * len(different))), len(different) - 1)
    chosen = set(random.Random(0).sample(different, count))
    aside = [row for row in rows if (row.sentence, row.pair) in chosen]
    kept = [row for row in rows if (row.sentence, row.pair) not in chosen]
    return f"{name}, {len(aside)} of {len(rows)} sentences set aside for calibration", kept, aside
