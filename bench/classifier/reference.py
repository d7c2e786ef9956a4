"""Compute the logits that every row is compared with: the untouched model in PyTorch, float32, on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.classifier.model import named_inputs
from bench.core.errors import ModelError
from bench.core.files import first_line
from bench.inputs.encoded import Encoded

CHUNK = 16


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
        return classifier(**named_inputs(tensors)).logits
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
