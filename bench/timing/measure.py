"""The timing core: run a batch, read the clock before and after, nothing in between.

The clock is a parameter, so that the core can be tested without waiting.
"""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
from numpy.typing import NDArray

from bench.core.model_inputs import AnyBatch, IntArray
from bench.core.reports import Work
from bench.inputs.batches import IndexedBatch
from bench.inputs.encoded import Encoded
from bench.runtimes.base.session import Session

Run = Callable[[AnyBatch], NDArray[np.float32]]
"""Returns logits `[batch, labels]`."""
Clock = Callable[[], int]


@dataclass(frozen=True)
class Budget:
    """How often a cell is run in one process."""

    min_runs: int
    min_seconds: float
    max_seconds: float
    epoch_runs: int = 1
    """Runs of a workload epoch, where they differ in length: all rows then ran the same sentences equally often."""


@dataclass(frozen=True)
class Runs:
    """What a series of runs gave: latencies in nanoseconds, and each run's logits with the numbers of its sentences."""

    latencies_ns: list[int]
    outputs: list[tuple[IntArray, NDArray[np.float32]]]


def warm_up(run: Run, batches: Sequence[IndexedBatch], runs: int, clock: Clock = time.perf_counter_ns) -> Runs:
    """Run `runs` batches; their latencies are never part of a result, their logits are checked."""
    return _repeat(run, cycle(batches), clock, lambda count, _spent_ns: count >= runs)


def time_runs(run: Run, batches: Sequence[IndexedBatch], budget: Budget, clock: Clock = time.perf_counter_ns) -> Runs:
    """Time whole epochs until the budget is met: `min_runs` and `min_seconds`, but never past `max_seconds`.

    No garbage is collected meanwhile.
    """

    def is_enough(count: int, spent_ns: int) -> bool:
        seconds = spent_ns / 1e9
        is_met = count >= budget.min_runs and seconds >= budget.min_seconds and count % budget.epoch_runs == 0
        return seconds >= budget.max_seconds or is_met

    gc.collect()
    gc.disable()
    try:
        return _repeat(run, cycle(batches), clock, is_enough)
    finally:
        gc.enable()


def _repeat(run: Run, batches: Iterator[IndexedBatch], clock: Clock, is_enough: Callable[[int, int], bool]) -> Runs:
    latencies_ns: list[int] = []
    outputs: list[tuple[IntArray, NDArray[np.float32]]] = []
    spent_ns = 0
    while not is_enough(len(latencies_ns), spent_ns):
        batch = next(batches)
        inputs = batch.inputs
        before = clock()
        logits = run(inputs)
        after = clock()
        latencies_ns.append(after - before)
        outputs.append((batch.indices, logits))
        spent_ns += after - before
    return Runs(latencies_ns, outputs)


def rotated(sizes: Sequence[int], turn: int) -> list[int]:
    """Return the batch sizes starting at another one in each process, so that none is always first."""
    start = turn % len(sizes)
    return [*sizes[start:], *sizes[:start]]


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
        data_tokens=float(encoded.lengths.mean()),
    )
