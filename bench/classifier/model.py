"""Load the user's classifier in PyTorch, untouched and whole, and compute its fp32 reference logits on the CPU."""

import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import DataError, ModelError, ParameterError
from bench.core.files import first_line, shortened
from bench.core.model_inputs import INPUT_NAMES
from bench.inputs.encoded import Encoded

UNUSED = re.compile(
    r"(^|\.)(pooler|position_ids|lm_head|cls|predictions|mask_predictions|discriminator_predictions)(\.|$)"
)
"""Weights of other heads, and buffers of older versions: a classifier does without them."""
MOST_NAMES = 3
OFFSET_POSITIONS = (
    "roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "roberta-prelayernorm", "data2vec-text", "mpnet", "esm",
)  # fmt: skip
"""Kinds whose first position has the number of the padding token and one more."""
CHUNK = 16


def load_classifier(folder: Path) -> Any:
    """Return the transformers classifier in float32 with its default attention, in evaluation mode.

    Raises ModelError if a weight is missing, left over or of another shape, and DataError if the files are damaged.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForSequenceClassification

    with quiet_transformers():
        try:
            model, report = AutoModelForSequenceClassification.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,  # the report names them all
                output_loading_info=True,
            )
        except SafetensorError as problem:
            raise _damaged(folder, problem) from None
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError) as problem:
            if isinstance(problem, OSError) and re.search(r"safetensors|not a valid JSON|no file named", str(problem)):
                raise _damaged(folder, problem) from None
            raise ModelError(
                f"transformers cannot load the model: {shortened(first_line(problem))}; set model.id or model.path to "
                "one that AutoModelForSequenceClassification loads"
            ) from None
    _check_whole(report)
    return model.eval()


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hide the library's progress and advice while a model is loaded."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _check_whole(report: dict[str, Any]) -> None:
    """Raise ModelError unless every weight of the checkpoint has its place, and every place its weight."""
    misfits = [
        f"{name} ({list(stored)} in the file, {list(required)} in the model)"
        for name, stored, required in sorted(report.get("mismatched_keys", []))
    ]
    if misfits:
        raise ModelError(
            f"the model's weights do not fit its config.json: {_some(misfits)}: set num_labels (or id2label) and the "
            "sizes there to those that the weights were trained with"
        )
    missing = sorted(report.get("missing_keys", []))
    if missing:
        raise ModelError(
            f"the model's files hold no weights for {_some(missing)}: transformers would fill in random ones, other "
            "ones in each process; set model.id or model.path to a model that was fine-tuned for classification"
        )
    unknown = sorted(name for name in report.get("unexpected_keys", []) if not UNUSED.search(name))
    if unknown:
        raise ModelError(
            f"the model's files hold weights that its architecture has no place for: {_some(unknown)}: the model would "
            "compute something else than it was trained to; set architectures and model_type in its config.json rightly"
        )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return shortened(", ".join(names[:MOST_NAMES])) + more


def load_tokenizer(folder: Path) -> Any:
    """Return the tokenizer of a model's folder; ModelError if it has none that loads, or none that can pad."""
    from transformers import AutoTokenizer

    with quiet_transformers():
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception as problem:  # the Rust tokenizers raise plain exceptions
            _check_json(folder)
            what = shortened(" ".join(str(problem).split()) or type(problem).__name__)
            raise ModelError(
                f"the model's tokenizer does not load: {what}; a folder that `save_pretrained` of a fast tokenizer "
                "wrote holds a tokenizer.json, which always does"
            ) from None
    if tokenizer.pad_token is None:
        raise ModelError(
            "the model's tokenizer has no pad token, and sentences of a batch are padded: set pad_token in its "
            "tokenizer_config.json and pad_token_id in its config.json to what it was trained with"
        )
    return tokenizer


def _check_json(folder: Path) -> None:
    """Raise DataError if a file, whole when it was fetched, is no JSON any more."""
    for path in sorted(folder.glob("*.json")):
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as problem:
            raise _damaged(path, problem) from None


def _damaged(folder: Path, problem: Exception) -> DataError:
    return DataError(
        f"{folder.as_posix()} is damaged: {shortened(first_line(problem))}; `dvc repro -f download` renews it"
    )


def check_sequence_length(config: Any, sequence_length: int) -> None:
    """Raise ParameterError if the model has no positions for this length; one without a limit takes any."""
    limit = getattr(config, "max_position_embeddings", None)
    if not isinstance(limit, int) or limit < 1:
        return
    if config.model_type in OFFSET_POSITIONS:
        limit -= (config.pad_token_id or 0) + 1
    if sequence_length > limit:
        raise ParameterError(
            f"params.yaml: sequence_length: got {sequence_length}, allowed: 4 to {limit} tokens, "
            f"the limit of this {config.model_type} model"
        )


def check_labels(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
    """Raise ModelError if a sentence has a label that the model does not have."""
    highest = int(labels.max(initial=-1))
    if logits.shape[1] > 1 and highest >= logits.shape[1]:
        raise ModelError(
            f"the sentences have the label {highest}, the model's are 0 to {logits.shape[1] - 1}: set "
            "dataset.label_column to null if they are not the model's, or take its own data"
        )


def reference_logits(classifier: Any, encoded: Encoded) -> NDArray[np.float32]:
    """Return float32 logits `[sentences, labels]` of transformers' own forward with all that the tokenizer gave.

    Raises ModelError if the model does not take these inputs, gives no logits of this shape, or gives NaN.
    """
    logits = logits_of(lambda *tensors: _forward(classifier, tensors), encoded)
    if logits.ndim != 2 or len(logits) != len(encoded):
        raise ModelError(f"the model gives logits of shape {list(logits.shape)}, wanted: one row of labels a sentence")
    if not np.isfinite(logits).all():
        count = int((~np.isfinite(logits)).any(axis=1).sum())
        raise ModelError(f"the model itself gives NaN or infinity for {count} of {len(logits)} sentences in float32")
    return logits


def _forward(classifier: Any, tensors: tuple[Any, ...]) -> Any:
    try:
        return classifier(**dict(zip(INPUT_NAMES, tensors, strict=False))).logits
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError, AssertionError, KeyError) as problem:
        raise ModelError(f"the model does not take its own tokenizer's output: {first_line(problem)}") from None


def logits_of(model: Any, encoded: Encoded) -> NDArray[np.float32]:
    """Return float32 logits of a callable that takes int64 tensors in the order of `INPUT_NAMES`."""
    import torch

    chunks = []
    with torch.inference_mode():
        for start in range(0, len(encoded), CHUNK):
            arrays = encoded.rows(np.arange(start, min(start + CHUNK, len(encoded)))).arrays
            chunks.append(model(*map(torch.from_numpy, arrays)).float().numpy())
    return np.concatenate(chunks)
