"""The batches of a workload epoch, seen by what a runtime computes for them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.core.reports import Work
from bench.inputs.batches import IndexedBatch
from bench.inputs.encoded import Encoded
from bench.runtimes.base.session import Session


def one_of_each_shape(session: Session, batches: Sequence[IndexedBatch]) -> list[IndexedBatch]:
    """Return the first batch of each shape that is computed: what compiles or captures a shape does so on them."""
    shapes = {session.computed(batch.inputs).shape: batch for batch in reversed(batches)}
    return [shapes[shape] for shape in sorted(shapes)]


def spread_by_work(session: Session, batches: Sequence[IndexedBatch], count: int) -> list[IndexedBatch]:
    """Return `count` batches from the least work to the most: their mean is near that of the epoch."""
    ordered = sorted(batches, key=lambda batch: session.computed(batch.inputs).tokens)
    places = (np.arange(count) + 0.5) / count * len(ordered)
    return [ordered[int(place)] for place in places]


def work_of(session: Session, batches: Sequence[IndexedBatch], encoded: Encoded) -> Work:
    """Return, batch by batch, the tokens that were given and that were computed, and the pairs for attention.

    A sentence of n tokens has n² pairs.
    """
    lengths = [encoded.lengths[batch.indices] for batch in batches]
    computed = [session.computed(batch.inputs) for batch in batches]
    return Work(
        given_tokens=[int(each.sum()) for each in lengths],
        given_pairs=[int((each**2).sum()) for each in lengths],
        computed_tokens=[each.tokens for each in computed],
        computed_pairs=[each.pairs for each in computed],
    )
