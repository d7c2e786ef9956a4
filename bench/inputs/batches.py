"""Put the encoded sentences into the batches that every runtime is given, in the data's own order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bench.core.model_inputs import AnyBatch, IntArray, Padding
from bench.inputs.encoded import Encoded
from bench.inputs.padding import pad

EPOCH_SENTENCES = 128
"""Sentences of a workload epoch, at least, where the data has them: their mean length is then known to some percent."""


@dataclass(frozen=True)
class IndexedBatch:
    """One batch as the runtime gets it, and the numbers of the sentences that it holds."""

    indices: IntArray
    inputs: AnyBatch


def make_batches(
    encoded: Encoded, batch_size: int, least: int = 1, padding: Padding = "fixed", multiple_of: int = 1
) -> list[IndexedBatch]:
    """Return the batches of a workload epoch: the same sentences in the same order, whatever a row's padding.

    At least `least` of them, and as many as hold 128 sentences, or all that there are if these are fewer.
    """
    count = max(least, -(-min(EPOCH_SENTENCES, len(encoded)) // batch_size))
    indices = batch_indices(len(encoded), batch_size)
    chosen = [next(indices) for _ in range(count)]
    return [IndexedBatch(each, pad(encoded, each, padding, multiple_of)) for each in chosen]


def batch_indices(sentences: int, batch_size: int) -> Iterator[IntArray]:
    """Yield the sentence numbers of one batch after another, for ever, wrapping at the end.

    A batch larger than the set holds some sentences more than once.
    """
    start = 0
    while True:
        yield np.arange(start, start + batch_size, dtype=np.int64) % sentences
        start = (start + batch_size) % sentences
