"""What transformers makes of a model's config.json and tokenizer files; the weights are not read."""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.core.errors import DataError, ModelError
from bench.core.files import shortened

CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
WAY_OUT = "a hub's model: correct a copy and set model.path to it"
FROM_SENTENCEPIECE = ("AlbertTokenizer", "CamembertTokenizer", "DebertaV2Tokenizer", "XLMRobertaTokenizer")
"""Tokenizers that transformers 5 builds from a SentencePiece model with the ids that transformers 4 gives."""


def check_config(config: dict[str, Any]) -> None:
    """Raise ModelError for what transformers would not name by its key, or not refuse: labels without their numbers."""
    names, count = config.get("id2label"), config.get("num_labels", 2)
    numbers = {int(key) if key.isdecimal() else -1 for key in names} if isinstance(names, dict) else set()
    is_numbered = numbers == set(range(len(numbers))) and len(numbers) == len(names or "x")
    if names is not None and not (is_numbered and all(isinstance(name, str) for name in names.values())):
        raise _unfit("id2label", names, 'the names of the labels by their numbers from 0, as {"0": "bad", "1": "good"}')
    if type(count) is not int or count < 1:
        raise _unfit("num_labels", count, "a whole number from 1")
    turned = config.get("label2id") if names is None else None
    if isinstance(turned, dict) and len(turned) > count and all(type(number) is int for number in turned.values()):
        wanted = json.dumps({str(number): name for name, number in turned.items()}, ensure_ascii=False)
        raise _unfit("id2label", names, f"the names of label2id by their numbers, {shortened(wanted)}")


def load_config(folder: Path) -> Any:
    """Return transformers' configuration of a model; ModelError for a value that transformers does not take."""
    from transformers import AutoConfig

    with quiet_transformers():
        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception as problem:  # transformers' own checks and those of huggingface_hub raise many kinds
            what = _one_line(problem).partition(". Errors:")[0]
            raise ModelError(f"the model's {CONFIG}: {shortened(what, 400)} ({WAY_OUT})") from None
    pad, tokens = getattr(config, "pad_token_id", None), getattr(config, "vocab_size", None)
    if isinstance(pad, int) and isinstance(tokens, int) and pad >= tokens:
        raise _unfit("pad_token_id", pad, f"the number of its tokenizer's, below vocab_size ({tokens})")
    return config


def _unfit(key: str, got: Any, allowed: str) -> ModelError:
    return ModelError(f"the model's {CONFIG}: {key}: got {shortened(repr(got))}, allowed: {allowed} ({WAY_OUT})")


def load_tokenizer(folder: Path) -> Any:
    """Return the tokenizer of a model's folder; ModelError if it has none that loads rightly, or none that can pad."""
    from transformers import AutoTokenizer

    has_own_file = (folder / TOKENIZER).exists()
    with quiet_transformers():
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception as problem:  # the Rust tokenizers raise plain exceptions
            _check_json(folder)
            if has_own_file:
                _check_version(folder / TOKENIZER)
            elif any(folder.glob("*.model")):
                _check_pieces(folder)
                raise _from_sentencepiece() from None
            hint = f"a folder that `save_pretrained` of a fast tokenizer wrote holds a {TOKENIZER}, which always does"
            if isinstance(problem, ImportError):
                hint = "install that into the environment that the stages run in"
            raise ModelError(f"the model's tokenizer does not load: {shortened(_one_line(problem))}; {hint}") from None
    if not has_own_file and any(folder.glob("*.model")) and type(tokenizer).__name__ not in FROM_SENTENCEPIECE:
        raise _from_sentencepiece()
    if tokenizer.pad_token is None:
        raise ModelError(
            "the model's tokenizer has no pad token, and sentences of a batch are padded: set pad_token in its "
            "tokenizer_config.json and pad_token_id in its config.json to what it was trained with"
        )
    return tokenizer


def _from_sentencepiece() -> ModelError:
    read = ", ".join(name.removesuffix("Tokenizer") for name in FROM_SENTENCEPIECE)
    return ModelError(
        f"the model's tokenizer is a SentencePiece model without a {TOKENIZER}, which is read for {read} alone, with "
        'sentencepiece of requirements.txt: where `pip install "transformers<5" sentencepiece protobuf` was run, '
        "`from transformers import AutoTokenizer` and "
        '`AutoTokenizer.from_pretrained("FOLDER").save_pretrained("FOLDER")` write one; set model.path to that folder'
    )


def _check_pieces(folder: Path) -> None:
    """Raise ModelError if sentencepiece itself cannot read a file that should be its."""
    from sentencepiece import SentencePieceProcessor

    for path in sorted(folder.glob("*.model")):
        try:
            SentencePieceProcessor(model_file=str(path))
        except Exception as problem:  # whatever its C++ code raises
            raise ModelError(
                f"the model's {path.name} is no SentencePiece model, or damaged ({shortened(_one_line(problem))}): "
                f"take the {path.name} of the model that it was fine-tuned from"
            ) from None


def _check_version(path: Path) -> None:
    """Raise ModelError if the Rust library itself cannot read a tokenizer.json."""
    import tokenizers

    try:
        tokenizers.Tokenizer.from_file(str(path))
    except Exception as problem:  # the Rust library raises plain ones
        raise ModelError(
            f"the model's {path.name} cannot be read by tokenizers {tokenizers.__version__} "
            f"({shortened(_one_line(problem))}): a newer version wrote it, or it is damaged: take the {path.name} of "
            "the model that it was fine-tuned from, or save it again with that version of tokenizers"
        ) from None


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hide the library's progress and advice while a model is loaded."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _check_json(folder: Path) -> None:
    """Raise DataError if a file, whole when it was fetched, is no JSON any more."""
    for path in sorted(folder.glob("*.json")):
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as problem:
            raise broken(path, _one_line(problem)) from None


def broken(path: Path, what: str) -> DataError:
    """Return the error for a part of artifacts/model that is not what `download` wrote."""
    return DataError(f"{path.as_posix()} is damaged: {shortened(what)}; `dvc repro -f download` renews it")


def _one_line(problem: Exception) -> str:
    return " ".join(str(problem).split()) or type(problem).__name__
