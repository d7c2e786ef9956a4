"""Load the user's classifier in PyTorch, untouched and whole, and compute its fp32 reference logits on the CPU."""

import contextlib
import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import ModelError, ParameterError
from bench.core.files import first_line, shortened
from bench.core.model_inputs import INPUT_NAMES
from bench.core.pretrained import broken, quiet_transformers
from bench.inputs.batches import pad
from bench.inputs.encoded import Encoded

UNUSED = re.compile(r"(^|\.)(pooler|position_ids|lm_head|cls|((mask|discriminator)_)?predictions)(\.|$)")
"""Weights of other heads, and buffers of older versions: a classifier does without them."""
MOST_NAMES = 3
OFFSET_POSITIONS = (
    "roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "roberta-prelayernorm", "data2vec-text", "mpnet", "esm",
)  # fmt: skip
"""Kinds whose first position has the number of the padding token and one more."""
CHUNK = 16
ATTENTION = (None, "eager", "sdpa")
"""What a config.json may ask for; other kinds take a GPU and a library of their own, and compute the same."""


def load_classifier(folder: Path) -> Any:
    """Return the transformers classifier in float32 with its default attention; ModelError, DataError if unfit."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForSequenceClassification

    with quiet_transformers():
        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            config.return_dict = True  # else a checkpoint's own setting has it give tuples
            if config._attn_implementation not in ATTENTION:
                config._attn_implementation = None
            model, report = AutoModelForSequenceClassification.from_pretrained(
                folder,
                config=config,
                local_files_only=True,
                use_safetensors=True,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,  # the report names them all
                output_loading_info=True,
            )
        except SafetensorError as problem:
            raise broken(folder, first_line(problem)) from None
        except Exception as problem:  # whatever an architecture's own code raises on sizes that it cannot have
            if isinstance(problem, OSError) and re.search(r"safetensors|not a valid JSON|no file named", str(problem)):
                raise broken(folder, first_line(problem)) from None
            what = shortened(f"{type(problem).__name__}: {first_line(problem)}")
            hint = "set model.id or model.path to one that AutoModelForSequenceClassification loads"
            raise ModelError(f"transformers cannot load the model: {what}; {hint}") from None
    _check_whole(report)
    return model.eval()


def _check_whole(report: dict[str, Any]) -> None:
    """Raise ModelError unless every weight of the checkpoint has its place, and every place its weight."""
    other = "{} ({} in the file, {} in the model)".format
    misfits = [other(name, list(ours), list(own)) for name, ours, own in sorted(report.get("mismatched_keys", []))]
    if misfits:
        raise ModelError(
            f"the model's weights do not fit its config.json: {_some(misfits)}: set num_labels (or id2label) and the "
            "sizes there to those that the weights were trained with"
        )
    if missing := sorted(report.get("missing_keys", [])):
        raise ModelError(
            f"the model's files hold no weights for {_some(missing)}: transformers would fill in random ones, other "
            "ones in each process; set model.id or model.path to a model that was fine-tuned for classification"
        )
    if unknown := sorted(name for name in report.get("unexpected_keys", []) if not UNUSED.search(name)):
        raise ModelError(
            f"the model's files hold weights that its architecture has no place for: {_some(unknown)}: the model would "
            "compute something else than it was trained to; set architectures and model_type in its config.json rightly"
        )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return shortened(", ".join(names[:MOST_NAMES])) + more


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


def check_tokens(classifier: Any, tokenizer: Any, *parts: Encoded) -> None:
    """Raise ModelError if the tokenizer gives an input, a token or padding that the model does not take as it is."""
    takes = inspect.signature(classifier.forward).parameters
    if more := [name for name in tokenizer("a") if name in takes and name not in INPUT_NAMES]:
        raise ModelError(
            f"the model takes {', '.join(more)} from its tokenizer, allowed: {', '.join(INPUT_NAMES)}: set model.id or "
            "model.path to a model without them"
        )
    rows = int(classifier.get_input_embeddings().weight.shape[0])
    highest = max(int(part.input_ids.max()) for part in parts)
    if highest >= rows:
        token = tokenizer.convert_ids_to_tokens(highest)
        raise ModelError(
            f"the tokenizer's token {token!r} has the number {highest}, the model has embeddings for 0 to {rows - 1}: "
            "save it after `model.resize_token_embeddings(len(tokenizer))`, or take a token that it has (as pad_token "
            "in its tokenizer_config.json)"
        )
    if tokenizer.pad_token_id != classifier.config.pad_token_id:
        _check_padding(classifier, tokenizer, parts[0])


def _check_padding(classifier: Any, tokenizer: Any, encoded: Encoded) -> None:
    """Raise ModelError if the padding, whose number config.json does not have, changes the logits of a sentence."""
    import torch

    shortest = np.argsort(encoded.lengths, kind="stable")[:1]
    given = (pad(encoded, shortest, "fixed"), pad(encoded, shortest, "longest"))
    with contextlib.suppress(ModelError), torch.inference_mode():
        padded, bare = (_forward(classifier, tuple(map(torch.from_numpy, batch.arrays))) for batch in given)
        if torch.allclose(padded, bare, rtol=1e-3, atol=1e-3):
            return
    raise ModelError(
        f"the model's config.json: pad_token_id: got {classifier.config.pad_token_id}, wanted: "
        f"{tokenizer.pad_token_id} ({tokenizer.pad_token!r}), what its tokenizer pads with: padding changes the logits"
    )


def needs_types(classifier: Any, encoded: Encoded, logits: NDArray[np.float32]) -> bool:
    """Tell whether token types that are all 0 change the logits: GPT-2 and XLM add the embedding of that token."""
    if encoded.token_type_ids is None:
        return False
    bare = reference_logits(classifier, encoded.first(CHUNK).without_types())
    return not np.allclose(bare, logits[:CHUNK], rtol=1e-3, atol=1e-4)


def reference_logits(classifier: Any, encoded: Encoded) -> NDArray[np.float32]:
    """Return float32 logits `[sentences, labels]` of transformers' own forward; ModelError for none, or NaN."""
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
