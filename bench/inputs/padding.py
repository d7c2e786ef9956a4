"""Sentences of different lengths as one batch: how much of it is padding is the variant's choice.

fixed    `[batch, sequence_length]`, as the sentences were tokenized
longest  `[batch, length]`: the longest sentence of the batch, rounded up, and never above the sequence length
none     packed, laid end to end: ids `[tokens]`, lengths `[batch]`, token types `[tokens]`
"""

from __future__ import annotations

import numpy as np

from bench.core.model_inputs import AnyBatch, Batch, IntArray, PackedBatch, Padding
from bench.inputs.encoded import Encoded


def pad(encoded: Encoded, indices: IntArray, padding: Padding, multiple_of: int = 1) -> AnyBatch:
    """Return the model's inputs of these sentences: a Batch, with padding `none` a PackedBatch."""
    if padding == "fixed":
        return encoded.rows(indices)
    if padding == "longest":
        return cut(encoded, indices, rounded_length(encoded, indices, multiple_of))
    return pack(encoded, indices)


def rounded_length(encoded: Encoded, indices: IntArray, multiple_of: int) -> int:
    """Return the length of the longest of these sentences, rounded up to a multiple within the sequence length."""
    longest = int(encoded.lengths[indices].max())
    return min(-(-longest // multiple_of) * multiple_of, encoded.sequence_length)


def cut(encoded: Encoded, indices: IntArray, length: int) -> Batch:
    """Return these sentences, padded or cut to a length within the sequence length."""
    kept = slice(-length, None) if encoded.is_left_padded else slice(length)
    return Batch(*(np.ascontiguousarray(array[indices, kept]) for array in encoded.arrays))


def pack(encoded: Encoded, indices: IntArray) -> PackedBatch:
    """Return these sentences laid end to end."""
    is_token = encoded.attention_mask[indices] == 1
    ids, _mask, *types = (array[indices] for array in encoded.arrays)
    return PackedBatch(ids[is_token], encoded.lengths[indices], *(each[is_token] for each in types))
