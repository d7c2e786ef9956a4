"""Which of a model's files are taken: configuration, safetensors and tokenizer; no pickled weights and no code."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from bench.core.errors import ModelError
from bench.core.files import shortened
from bench.sources.kinds import check_kind, check_size, read_config

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
CONFIG = "config.json"
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt",
    "vocab.json",
    "merges.txt", "bpe.codes", "spiece.model", "spm.model", "sentencepiece.bpe.model", "tokenizer.model", "emoji.model",
    "word_shape.json", "word_pronunciation.json",
)  # fmt: skip
VOCABULARIES = frozenset(TOKENIZER_FILES) - {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"}


def first_files(names: Collection[str], where: str) -> list[str]:
    """Return configuration and tokenizer files, the index of split weights too; ModelError if something is missing.

    `where` names the repository or folder in the message.
    """
    if CONFIG not in names:
        raise ModelError(f"{where}: has no {CONFIG}; set model.id or model.path to a model that transformers can load")
    if WEIGHTS not in names and INDEX not in names:
        pickled = (
            " (its pickled weights are not loaded)" if any(name.endswith((".bin", ".pt")) for name in names) else ""
        )
        raise ModelError(
            f"{where}: has no {WEIGHTS}{pickled}; set model.id, model.revision or model.path to one with safetensors: "
            "`save_pretrained` of transformers writes them"
        )
    tokenizer = [name for name in TOKENIZER_FILES if name in names]
    if not VOCABULARIES & set(tokenizer):
        raise ModelError(
            f"{where}: has no tokenizer ({', '.join(sorted(VOCABULARIES))}): `save_pretrained` of its tokenizer "
            f"writes one"
        )
    return [CONFIG, *tokenizer, *([INDEX] if WEIGHTS not in names else [])]


def weight_files(folder: Path, names: Collection[str], where: str) -> list[str]:
    """Return the files that hold the weights; ModelError if the index names one that is not there or lies elsewhere."""
    if WEIGHTS in names:
        return [WEIGHTS]
    try:
        parts = sorted(set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise ModelError(f"{where}: its {INDEX} names no files: {shortened(str(problem))}") from None
    for part in parts:
        if not isinstance(part, str) or PurePosixPath(part).name != part or not part.endswith(".safetensors"):
            raise ModelError(
                f"{where}: its {INDEX} names {shortened(repr(part))}, allowed: safetensors files beside it"
            )
        if part not in names:
            raise ModelError(f"{where}: its {INDEX} names {part}, which is not there")
    return parts


def check_model(folder: Path) -> None:
    """Raise ModelError if this kind of model, or one of this size, cannot be measured; weights are not loaded."""
    from safetensors import SafetensorError, safe_open

    check_kind(read_config(folder / CONFIG))
    settings = folder / "tokenizer_config.json"
    if settings.exists() and read_config(settings).get("auto_map"):
        raise ModelError(
            "the model's tokenizer_config.json names code of its own (auto_map), and code that comes with a model "
            "is never run: save the tokenizer as one of transformers' own (a tokenizer.json) without auto_map"
        )
    for path in sorted(folder.glob("*.json")):
        read_config(path)
    parameters = 0
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="numpy") as weights:
                for name in weights.keys():  # noqa: SIM118 - no mapping
                    count = 1
                    for size in weights.get_slice(name).get_shape():
                        count *= size
                    parameters += count
        except (SafetensorError, OSError) as problem:
            raise ModelError(f"{path.name} is damaged: {shortened(str(problem))}") from None
    check_size(parameters)
