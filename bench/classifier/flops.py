"""Count a call's FLOPs as PyTorch does."""

from __future__ import annotations

import contextlib
from typing import Any

from bench.classifier.model import named_inputs
from bench.core.model_inputs import Batch


def counted_flops(classifier: Any, batch: Batch) -> int:
    """Return the operations of one call as PyTorch counts them, with eager attention where the model has it.

    0 where its counter breaks on the architecture.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    before = classifier.config._attn_implementation
    with contextlib.suppress(ValueError):
        classifier.set_attn_implementation("eager")
    counter = FlopCounterMode(display=False)
    try:
        with counter, torch.inference_mode():
            classifier(**named_inputs(tuple(map(torch.from_numpy, batch.arrays))))
    except Exception:  # its hooks look for gradients in places where an architecture has none
        return 0
    finally:
        classifier.set_attn_implementation(before)
    return int(counter.get_total_flops())
