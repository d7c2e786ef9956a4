"""Whether what was answered under load was right.

Every answer passes the gate, each request has one, and none went to another's request.  The gate of a low precision is
wide: an answer that belongs to the neighbour may pass it.  So the batches furthest from the reference are run again as
they were: the session gives the same logits, or they were mixed up.
"""

import numpy as np

from bench.core.model_inputs import Task, largest_difference, reference_spread
from bench.inputs.batches import IndexedBatch
from bench.runtimes.base.session import Session
from bench.serving.instances import Answers
from bench.serving.jobs import Replay
from bench.timing.quality import Comparison, Logits, compare

REPLAYED = 8
"""Batches that are run again."""
SAME = 0.01
"""Of the spread of the logits: by so much a batch may differ from itself, run again (other kernels, other sums)."""


def check(served: list[Answers], reference: Logits, task: Task) -> Comparison:
    """Compare all answered logits with the reference rows of the sentences that were asked for."""
    batches = [batch for each in served for batch in each.batches]
    if not batches:
        return compare([], reference, task)
    shapes = {logits.shape[1:] for each in served for logits in each.logits}
    if len(shapes) > 1 or any(len(b.indices) != len(y) for b, y in _pairs(served)):
        return Comparison(float("inf"), 0, 0, 0, "batches with another number of answers than of requests")
    indices = np.concatenate([batch.indices for batch in batches])
    logits = np.concatenate([logits for each in served for logits in each.logits])
    return compare([(indices, logits)], reference, task)


def _pairs(served: list[Answers]) -> list[tuple[IndexedBatch, Logits]]:
    return [pair for each in served for pair in zip(each.batches, each.logits, strict=True)]


def furthest(served: list[Answers], reference: Logits, count: int = REPLAYED) -> list[tuple[IndexedBatch, Logits]]:
    """Return the batches of several requests whose logits are furthest from the reference."""
    pairs = [pair for pair in _pairs(served) if len(pair[0].indices) > 1]
    return sorted(pairs, key=lambda pair: -largest_difference(pair[1], reference[pair[0].indices]))[:count]


def replay(session: Session, pairs: list[tuple[IndexedBatch, Logits]], reference: Logits) -> Replay:
    """Run batches again as they were; `fault` says if one gives other logits now."""
    allowed = SAME * reference_spread(reference)
    differences = [
        largest_difference(session.run(batch.inputs)[: len(batch.indices)], logits) for batch, logits in pairs
    ]
    largest = max(differences, default=0.0)
    fault = "" if largest <= allowed else f"an answer under load differs from the same batch run again by {largest:.3g}"
    return Replay(batches=len(pairs), max_abs_diff=largest, fault=fault)


def unanswered(load_queries: int, served: list[Answers]) -> str:
    """Return what is wrong with the number of answers; empty if each request has one."""
    answered = sum(each.requests() for each in served)
    return "" if answered == load_queries else f"{load_queries} requests, {answered} answers"
