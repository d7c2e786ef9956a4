"""Which models can be measured, and which of their files are taken: no pickled weights and no code."""

import json
import math
import shutil
from collections.abc import Callable, Collection
from pathlib import Path, PurePosixPath
from typing import Any

from bench.core.errors import ModelError, ParameterError
from bench.core.files import file_sha256, files_sha256, shortened
from bench.core.model_inputs import Task
from bench.core.params import Params
from bench.core.pretrained import CONFIG, check_config, load_config, load_tokenizer

SUPPORTED = (
    "albert", "bart", "bert", "biogpt", "camembert", "convbert", "data2vec-text", "deberta", "deberta-v2", "distilbert",
    "electra", "ernie", "esm", "eurobert", "flaubert", "gpt2", "jina_embeddings_v3", "llama", "megatron-bert",
    "mobilebert", "modernbert", "mpnet", "nomic_bert", "nystromformer", "opt", "qwen2", "rembert", "roberta",
    "roberta-prelayernorm", "roformer", "squeezebert", "xlm", "xlm-roberta", "xlm-roberta-xl",
)  # fmt: skip
"""Kinds (`model_type`) of which a tiny model went through export and the CPU's runtimes with its own logits
(tests/test_models.py, docs/own_model.md)."""
LARGEST_ONNX_BYTES = 2**31
"""Protocol Buffers hold at most 2 GiB, and an ONNX file is one."""
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
SETTINGS = "tokenizer_config.json"
INSTEAD = {CONFIG: ("configuration_files", "transformers_weights"), SETTINGS: ("fast_tokenizer_files",)}
"""Keys that name files which transformers loads instead of the usual ones."""
POINTER = b"version https://git-lfs"
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt",
    "vocab.json", "merges.txt", "bpe.codes", "spiece.model", "spm.model", "sentencepiece.bpe.model",
    "sentencepiece.model", "tokenizer.model", "emoji.model",
)  # fmt: skip
VOCABULARIES = frozenset(TOKENIZER_FILES) - {SETTINGS, "special_tokens_map.json", "added_tokens.json"}
TAKEN = (".json", ".txt", ".safetensors", ".codes", ".model")


def read_config(path: Path) -> dict[str, Any]:
    """Read a model's config.json; ModelError if it is no JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        raise ModelError(f"the model's {path.name} is no JSON: {shortened(str(problem))}") from None
    if not isinstance(content, dict):
        raise ModelError(f"the model's {path.name} is no JSON object")
    return content


def check_kind(config: dict[str, Any]) -> None:
    """Raise ModelError, in one sentence, if this kind of model cannot be measured."""
    if config.get("auto_map"):
        raise ModelError(
            "the model's config.json names code of its own (auto_map), and code that comes with a model is never "
            "run: set model.id or model.path to a model of an architecture that transformers has itself"
        )
    if (kind := config.get("model_type")) not in SUPPORTED:
        raise ModelError(
            f"the model is of the kind {shortened(repr(kind))} (model_type in its config.json), which is not "
            f"supported, allowed: {', '.join(SUPPORTED)}"
        )
    check_config(config)
    _check_names_no_other(CONFIG, config)
    if config.get("quantization_config"):
        raise ModelError(
            "the model's weights are quantized already (quantization_config in its config.json), and every row "
            "starts from float weights: set model.id or model.path to the model that it was made of"
        )


def task_of(config: dict[str, Any]) -> tuple[Task, int]:
    """Return the meaning of the model's logits and its number of labels, as transformers reads its configuration."""
    labels = config.get("num_labels") or len(config.get("id2label") or "") or 2
    if config.get("problem_type") == "multi_label_classification":
        return "multi_label", labels
    if config.get("problem_type") == "regression" or labels == 1:
        return "regression", labels
    return "single_label", labels


def _first_files(names: Collection[str], where: str) -> list[str]:
    """Return configuration and tokenizer files, the index of split weights too; ModelError if something is missing."""
    if ADAPTER in names:  # transformers applies it where peft is installed, and leaves it out elsewhere
        raise ModelError(
            f"{where}: holds an adapter ({ADAPTER}), which is not applied: merge it with peft "
            "(`AutoPeftModelForSequenceClassification.from_pretrained(FOLDER).merge_and_unload()`), save that and the "
            f"tokenizer to a folder for model.path; or take {ADAPTER} away to measure the model without it"
        )
    if CONFIG not in names:
        raise ModelError(f"{where}: has no {CONFIG}; set model.id or model.path to a model that transformers can load")
    if WEIGHTS not in names and INDEX not in names:
        has_pickled = any(name.endswith((".bin", ".pt")) for name in names)
        raise ModelError(
            f"{where}: has no {WEIGHTS}{' (its pickled weights are not loaded)' if has_pickled else ''}; set model.id, "
            "model.revision or model.path to one with safetensors: `save_pretrained` of transformers writes them"
        )
    tokenizer = [name for name in TOKENIZER_FILES if name in names]
    if not VOCABULARIES & set(tokenizer):
        files = ", ".join(sorted(VOCABULARIES))
        raise ModelError(f"{where}: has no tokenizer ({files}): `save_pretrained` of its tokenizer writes one")
    return [CONFIG, *tokenizer, *([INDEX] if WEIGHTS not in names else [])]


def _weight_files(folder: Path, names: Collection[str], where: str) -> list[str]:
    """Return the files that hold the weights; ModelError if the index names one that is not there or lies elsewhere."""
    if WEIGHTS in names:
        return [WEIGHTS]
    try:
        parts = sorted(set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise ModelError(f"{where}: its {INDEX} names no files: {shortened(str(problem))}") from None
    for part in parts:
        if not isinstance(part, str) or PurePosixPath(part).name != part or not part.endswith(".safetensors"):
            got = shortened(repr(part))
            raise ModelError(f"{where}: its {INDEX} names {got}, allowed: safetensors files beside it")
        if part not in names:
            raise ModelError(f"{where}: its {INDEX} names {part}, which is not there")
    return parts


def check_description(folder: Path) -> None:
    """Raise ModelError if the configuration and the tokenizer are not ones that can be measured."""
    check_kind(read_config(folder / CONFIG))
    settings = {path.name: read_config(path) for path in sorted(folder.glob("*.json"))}.get(SETTINGS, {})
    if settings.get("auto_map"):
        raise ModelError(
            f"the model's {SETTINGS} names code of its own (auto_map), and code that comes with a model "
            "is never run: save the tokenizer as one of transformers' own (a tokenizer.json) without auto_map"
        )
    _check_names_no_other(SETTINGS, settings)
    load_config(folder)
    load_tokenizer(folder)


def _check_names_no_other(file: str, content: dict[str, Any]) -> None:
    for key in INSTEAD[file]:
        if content.get(key):
            raise ModelError(
                f"the model's {file} names other files to load ({key}: {shortened(str(content[key]))}), allowed: none: "
                "write the one that is meant over the usual file, in a copy at model.path, and take the key away"
            )


def check_size(folder: Path) -> None:
    """Raise ModelError if the weights are damaged, or more than an ONNX file holds."""
    from safetensors import SafetensorError, safe_open

    parameters = 0
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="numpy") as weights:
                names = weights.keys()
                parameters += sum(math.prod(weights.get_slice(name).get_shape()) for name in names)
        except (SafetensorError, OSError) as problem:
            raise ModelError(f"{path.name} is damaged: {shortened(str(problem))}") from None
    if (size := parameters * 4) >= LARGEST_ONNX_BYTES:
        raise ModelError(
            f"the model takes {size / 2**30:.2f} GiB in float32, allowed: less than {LARGEST_ONNX_BYTES / 2**30:g} "
            "GiB, the most that an ONNX file holds: set model.id or model.path to a smaller one"
        )


def take_model(names: Collection[str], folder: Path, where: str, take: Callable[[str], object]) -> list[str]:
    """Have `take` put the files of a model into `folder`, the weights after all that can be refused without them."""
    chosen = _first_files(names, where)
    for name in chosen:
        take(name)
        if name == CONFIG:
            check_kind(read_config(folder / CONFIG))
    check_description(folder)
    for name in (weights := _weight_files(folder, names, where)):
        take(name)
    return chosen + weights


def copy_model(source: Path, folder: Path) -> str:
    """Copy a user's model to `folder` and return its hash; ModelError if it is none, or links to a file outside."""
    where = f"model.path {source.as_posix()}"

    def take(name: str) -> None:
        path = _inside(source, name)
        check_content(path, where)
        shutil.copyfile(path, folder / name)

    return files_sha256(take_model(_local_files(source), folder, where, take), folder)


def check_content(path: Path, where: str) -> None:
    """Raise ModelError if a file is what git has in its place until git-lfs fetches it."""
    with path.open("rb") as stream:
        if stream.read(len(POINTER)) == POINTER:
            raise ModelError(f"{where}: {path.name} is a pointer of git-lfs, not the file: run `git lfs pull` there")


def _local_files(source: Path) -> list[str]:
    if not source.is_dir():
        got = f"{source.as_posix()!r} ({'a file' if source.is_file() else 'no such folder'})"
        raise ParameterError(f"params.yaml: model.path: got {got}, allowed: a folder that `save_pretrained` wrote")
    return sorted(path.name for path in source.iterdir() if path.is_file())


def _inside(source: Path, name: str) -> Path:
    """Return the file: in its folder, or linked from a snapshot of the hub's cache to that cache's blobs."""
    path, home = (source / name).resolve(), source.resolve()
    allowed = [home, *([home.parent.parent / "blobs"] if home.parent.name == "snapshots" else [])]
    if not any(map(path.is_relative_to, allowed)):
        what = f"{name} is a link to a file outside of the folder: copy it there"
        raise ModelError(f"model.path {source.as_posix()}: {what}")
    return path


def user_input_hashes(params: Params) -> dict[str, str | None]:
    """Return the SHA-256 of the files at each path of params.yaml, None for none: an edit makes `download` stale.

    ParameterError if the model's folder is not there; `download` names a missing table.
    """
    found: dict[str, str | None] = {"model": None}
    if params.model.chosen_source == "local":
        folder = Path(str(params.model.path))
        found["model"] = files_sha256([name for name in _local_files(folder) if name.endswith(TAKEN)], folder)
    for name in ("path", "calibration_path"):
        path = getattr(params.dataset, name) if params.dataset.chosen_source == "local" else None
        found[name] = file_sha256(Path(path)) if path is not None and Path(path).is_file() else None
    return found
