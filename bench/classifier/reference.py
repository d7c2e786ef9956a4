"""Compute the logits that every row is compared with: PyTorch, float32, on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.inputs.encoded import Encoded

CHUNK = 16


def reference_logits(model: Any, encoded: Encoded) -> NDArray[np.float32]:
    """Return float32 logits `[sentences, labels]` of a module that takes ids and mask."""
    import torch

    chunks = []
    with torch.inference_mode():
        for start in range(0, len(encoded), CHUNK):
            rows = np.arange(start, min(start + CHUNK, len(encoded)))
            ids, mask = encoded.rows(rows)
            chunks.append(model(torch.from_numpy(ids), torch.from_numpy(mask)).numpy())
    return np.concatenate(chunks)
