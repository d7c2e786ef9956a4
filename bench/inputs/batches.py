"""Put the encoded sentences, as they were drawn, into the batches of a runtime, with the padding of its variant.

fixed    `[batch, sequence_length]`, as the sentences were tokenized
longest  dynamic, `[batch, length]`: the batch's longest sentence, rounded up, never above the sequence length
none     packed (varlen): ids `[tokens]`, lengths `[batch]`, token types `[tokens]`
"""

from dataclasses import dataclass

import numpy as np

from bench.core.model_inputs import AnyBatch, Batch, IntArray, PackedBatch, Padding
from bench.inputs.encoded import EPOCH_SENTENCES, Encoded


@dataclass(frozen=True)
class IndexedBatch:
    """One batch as the runtime gets it, and the numbers of its sentences."""

    indices: IntArray
    inputs: AnyBatch


def make_batches(
    encoded: Encoded, batch_size: int, padding: Padding = "fixed", multiple_of: int = 1
) -> list[list[IndexedBatch]]:
    """Return the sets of batches of one workload epoch; a pass runs one set, every row the same.

    The epoch holds 128 sentences, or all that there are, and at least a set; it wraps at the end of the data.  A set
    holds one batch of each part of the epoch by length, so that sets differ little.
    """
    in_set = max(2, min(8, 16 // batch_size))
    sets = max(1, min(EPOCH_SENTENCES, len(encoded)) // batch_size // in_set)
    chosen = np.arange(sets * in_set * batch_size, dtype=np.int64).reshape(-1, batch_size) % len(encoded)
    by_length = chosen[np.argsort(encoded.lengths[chosen].max(axis=1), kind="stable")]
    parts = [part[:: 1 - 2 * (place % 2)] for place, part in enumerate(np.split(by_length, in_set))]
    return [
        [IndexedBatch(each, pad(encoded, each, padding, multiple_of)) for each in batches]
        for batches in zip(*parts, strict=True)
    ]


def pad(encoded: Encoded, indices: IntArray, padding: Padding, multiple_of: int = 1) -> AnyBatch:
    """Return the model's inputs of these sentences: a Batch, with padding `none` a PackedBatch."""
    if padding == "fixed":
        return encoded.rows(indices)
    if padding == "longest":
        longest = int(encoded.lengths[indices].max())
        length = min(-(-longest // multiple_of) * multiple_of, encoded.sequence_length)
        kept = slice(-length, None) if encoded.is_left_padded else slice(length)
        return Batch(*(np.ascontiguousarray(array[indices, kept]) for array in encoded.arrays))
    is_token = encoded.attention_mask[indices] == 1
    ids, _mask, *types = (array[indices] for array in encoded.arrays)
    return PackedBatch(ids[is_token], encoded.lengths[indices], *(each[is_token] for each in types))
