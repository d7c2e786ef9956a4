"""Make of the sentences of a batch what the session takes, and find a batch of every shape that can come."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.core.model_inputs import Padding
from bench.inputs.batches import IndexedBatch, pad
from bench.inputs.encoded import Encoded
from bench.runtimes.base.session import Session

TOKENS_APART = 64
"""Two rows laid end to end that differ by fewer tokens may be of one shape; none is of a shape in between."""


class Requests:
    """The sentences that requests ask about, and how a row pads them."""

    def __init__(self, encoded: Encoded, padding: Padding, multiple_of: int, sizes: list[int]) -> None:
        """`sizes`: the batch sizes that batches are filled up to; none: each is run as it is."""
        self._encoded = encoded
        self._padding: Padding = padding
        self._multiple_of = multiple_of
        self._sizes = sorted(sizes)

    def batch(self, sentences: list[int]) -> IndexedBatch:
        """Return a batch of these sentences, filled up with the last of them to a size that there is a session for.

        Its `indices` are those that were asked for: of what the session returns, the rows behind are nobody's.
        """
        size = next((size for size in self._sizes if size >= len(sentences)), len(sentences))
        indices = np.array(sentences, dtype=np.int64)
        filled = np.concatenate([indices, np.repeat(indices[-1:], size - len(sentences))])
        return IndexedBatch(indices, pad(self._encoded, filled, self._padding, self._multiple_of))

    def of_every_shape(self, session: Session, max_batch: int, sizes: list[int]) -> list[IndexedBatch]:
        """Return one batch of each shape that the session can meet, the largest first.

        `sizes`: batch sizes that are tried where any may come and padding leaves few shapes.
        """
        counts = sizes if self._padding != "none" else list(range(1, max_batch + 1))
        found: dict[tuple[int, ...], IndexedBatch] = {}
        for count in sorted({min(count, max_batch) for count in counts}):
            for sentences in self._unlike(count):
                batch = self.batch(sentences)
                found.setdefault(session.computed(batch.inputs).shape, batch)
        return [found[shape] for shape in sorted(found, reverse=True)]

    def _unlike(self, count: int) -> Iterator[list[int]]:
        """Yield sentences of batches that are as unlike as the padding lets them be."""
        if self._padding == "fixed":
            yield [0] * count
            return
        lengths, sentences = np.unique(self._encoded.lengths, return_index=True)
        for place, (length, sentence) in enumerate(zip(lengths, sentences, strict=True)):
            yield [int(sentence)] * count
            if self._padding == "none" and place + 1 < len(lengths):
                yield from _between(int(sentence), int(sentences[place + 1]), int(lengths[place + 1] - length), count)


def _between(shorter: int, longer: int, apart: int, count: int) -> Iterator[list[int]]:
    """Yield mixtures of two sentences whose numbers of tokens lie close to each other."""
    step = max(1, TOKENS_APART // apart)
    for longer_ones in range(step, count, step):
        yield [shorter] * (count - longer_ones) + [longer] * longer_ones
