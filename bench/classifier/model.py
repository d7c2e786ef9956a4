"""Load the classifier in PyTorch, in the form that is exported and compared."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.core.errors import DataError, ParameterError
from bench.core.files import shortened

if TYPE_CHECKING:
    import torch


def load_classifier(folder: Path) -> Any:
    """Return the transformers classifier in float32, evaluation mode, with eager attention.

    Eager attention is what the ONNX graph is made of; the eager PyTorch rows use
    transformers' default instead (see `bench.runtimes.pytorch`).
    """
    return _load(folder, attention="eager")


def _load(folder: Path, attention: str) -> Any:
    from safetensors import SafetensorError
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = AutoModelForSequenceClassification.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, attn_implementation=attention
            )
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as problem:
            raise _does_not_load(folder, problem) from None
    return model.eval()


def load_tokenizer(folder: Path) -> Any:
    """Return the tokenizer of a model's folder; DataError if it has none that loads."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as problem:  # the Rust tokenizers raise plain exceptions
        raise _does_not_load(folder, problem) from None


def _does_not_load(folder: Path, problem: Exception) -> DataError:
    what = shortened(str(problem).strip() or type(problem).__name__)
    return DataError(f"{folder.as_posix()} does not load: {what}; `dvc repro -f download` renews it")


def exportable(classifier: Any) -> torch.nn.Module:
    """Wrap the classifier so that it takes `input_ids`, `attention_mask` and gives logits.

    The mask is handed on as an additive 4-D float mask, `(1 - mask) * lowest float`:
    the exported graph then has no mask-building nodes.  (A boolean 4-D mask would be
    added as 0 and 1 by eager attention, which is wrong.)
    """
    import torch

    class Exportable(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.classifier = classifier

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            kept = attention_mask[:, None, None, :].to(torch.float32)
            additive = (1.0 - kept) * torch.finfo(torch.float32).min
            logits: torch.Tensor = self.classifier(input_ids=input_ids, attention_mask=additive).logits
            return logits

    return Exportable().eval()


def check_sequence_length(config: Any, sequence_length: int) -> None:
    """Raise ParameterError if the model has no position embeddings for this length."""
    limit = config.max_position_embeddings
    if config.model_type in ("roberta", "xlm-roberta", "camembert"):
        limit -= config.pad_token_id + 1
    if sequence_length > limit:
        raise ParameterError(
            f"params.yaml: sequence_length: got {sequence_length}, allowed: 4 to {limit} tokens, "
            f"the limit of this {config.model_type} model"
        )
