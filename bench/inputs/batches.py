"""Put the encoded sentences into the batches that every runtime is given, in the order in which they were drawn.

The variant chooses the padding:

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
    encoded: Encoded, batch_size: int, least: int = 1, padding: Padding = "fixed", multiple_of: int = 1
) -> list[IndexedBatch]:
    """Return the batches of one workload epoch: the same sentences in the same order for every padding.

    At least `least` of them, and as many as hold 128 sentences, or all that there are if these are fewer; wraps at the
    end, so that a batch larger than the set holds some sentences more than once.
    """
    count = max(least, -(-min(EPOCH_SENTENCES, len(encoded)) // batch_size))
    chosen = np.arange(count * batch_size, dtype=np.int64).reshape(count, batch_size) % len(encoded)
    return [IndexedBatch(each, pad(encoded, each, padding, multiple_of)) for each in chosen]


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
