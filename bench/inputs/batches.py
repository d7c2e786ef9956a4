"""Cut the encoded sentences into the batches that every runtime is given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bench.inputs.encoded import Encoded, IntArray

MAX_DISTINCT_BATCHES = 64


@dataclass(frozen=True)
class Batch:
    """One batch as the runtime gets it, and which sentences it holds.

    `inputs`: int64 arrays `[batch, sequence_length]` in the order of `bench.core.model_inputs.INPUT_NAMES`.
    """

    indices: IntArray
    inputs: tuple[IntArray, ...]


def make_batches(encoded: Encoded, batch_size: int) -> list[Batch]:
    """Return batches that walk through the sentences once, at most 64 of them."""
    count = min(-(-len(encoded) // batch_size), MAX_DISTINCT_BATCHES)
    indices = batch_indices(len(encoded), batch_size)
    return [Batch(chosen, encoded.rows(chosen)) for chosen in (next(indices) for _ in range(count))]


def batch_indices(sentences: int, batch_size: int) -> Iterator[IntArray]:
    """Yield the sentence numbers of one batch after another, for ever, wrapping at the end.

    A batch larger than the set holds some sentences more than once.
    """
    start = 0
    while True:
        yield np.arange(start, start + batch_size, dtype=np.int64) % sentences
        start = (start + batch_size) % sentences
