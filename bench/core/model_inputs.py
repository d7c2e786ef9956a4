"""What a model is given, and what its logits mean."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:  # `probe` needs no numpy, and runs every time
    import numpy as np
    from numpy.typing import NDArray

INPUT_NAMES = ("input_ids", "attention_mask", "token_type_ids")
"""In this order; the third only where the tokenizer gives types that are not all 0."""

Padding = Literal["fixed", "longest", "none"]
"""To the sequence length; to the longest sentence of the batch; or sentences laid end to end, without any."""

Task = Literal["single_label", "multi_label", "regression"]
"""One label of several, each label by itself (logit above 0), or a number."""

IntArray: TypeAlias = "NDArray[np.int64]"


@dataclass(frozen=True)
class Batch:
    """Sentences padded to one length: int64 arrays `[batch, length]`, contiguous."""

    ids: IntArray
    mask: IntArray
    types: IntArray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def shape(self) -> tuple[int, int]:
        """Sentences, and the tokens that each is padded to."""
        batch, length = self.ids.shape
        return batch, length

    @cached_property
    def arrays(self) -> tuple[IntArray, ...]:
        """What the model is given, in the order of `INPUT_NAMES`."""
        return (self.ids, self.mask) if self.types is None else (self.ids, self.mask, self.types)


@dataclass(frozen=True)
class PackedBatch:
    """Sentences laid end to end, without padding: ids and types `[tokens]`, lengths `[batch]`, int64."""

    ids: IntArray
    lengths: IntArray
    types: IntArray | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def shape(self) -> tuple[int, int]:
        """Sentences, and their tokens in all."""
        return len(self.lengths), len(self.ids)

    @cached_property
    def arrays(self) -> tuple[IntArray, ...]:
        """All of it."""
        return (self.ids, self.lengths) if self.types is None else (self.ids, self.lengths, self.types)


AnyBatch = Batch | PackedBatch


def reference_spread(reference: NDArray[Any]) -> float:
    """Return the standard deviation of logits `[sentences, labels]` over sentences, else their mean size, else 1."""
    values = reference.astype("float64")
    spread, size = float(values.std(axis=0).mean()), float(abs(values).mean())
    return spread if spread > 1e-6 * size else size or 1.0


def largest_difference(got: NDArray[Any], wanted: NDArray[Any]) -> float:
    """Return the largest absolute difference; infinity for NaN or infinity in either, ValueError for other shapes."""
    if got.shape != wanted.shape:
        raise ValueError(f"shapes {got.shape} and {wanted.shape} cannot be compared")
    largest = float(abs(got.astype("float64") - wanted.astype("float64")).max(initial=0.0))
    return largest if math.isfinite(largest) else math.inf
