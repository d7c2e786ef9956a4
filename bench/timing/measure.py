"""The timing core: run a batch, read the clock before and after, nothing in between.

The clock is a parameter, so that the core can be tested without waiting.
"""

import gc
import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice

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
Output = tuple[IntArray, NDArray[np.float32]]
"""The numbers of a batch's sentences, and its logits."""
BLOCK_MS = 30.0
MOST_CALLS = 32
"""Of a block: the median of more calls is hardly surer, and each is kept."""
LONG_CALL_MS = 200.0
"""From here on a call is hardly slower for being the first after others: it opens a block untimed no more."""
LONGEST_EPOCH_MS = 2000.0
"""Sentences of other lengths cost a block no more than this; then it is of the first batch alone."""


@dataclass
class Runs:
    """What a series of runs gave: latencies in nanoseconds, and each run's logits with the numbers of its sentences."""

    latencies_ns: list[int] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)

    def median_ms(self) -> float:
        """Return the median latency; ValueError without any run."""
        return float(statistics.median(self.latencies_ns)) / 1e6


def run_each(run: Run, batches: Iterable[IndexedBatch], clock: Clock = time.perf_counter_ns) -> Runs:
    """Run batches one after another and return what came; no garbage is collected meanwhile."""
    runs = Runs()
    gc.disable()
    try:
        for batch in batches:
            inputs = batch.inputs
            before = clock()
            logits = run(inputs)
            after = clock()
            runs.latencies_ns.append(after - before)
            runs.outputs.append((batch.indices, logits))
    finally:
        gc.enable()
    return runs


def run_for(run: Run, batches: Sequence[IndexedBatch], seconds: float, clock: Clock = time.perf_counter_ns) -> Runs:
    """Run batches in turns until the time is over, each at least once."""
    end, runs = clock() + seconds * 1e9, Runs()
    while clock() < end or not runs.latencies_ns:
        found = run_each(run, batches, clock)
        runs.latencies_ns += found.latencies_ns
        runs.outputs += found.outputs
    return runs


def block_calls(call_ms: float, batches: int, are_alike: bool) -> int:
    """Return how many calls a block has: about 30 ms; of batches that differ in length each equally often."""
    calls = min(MOST_CALLS, max(1, math.ceil(BLOCK_MS / call_ms)))
    if are_alike or call_ms * batches > LONGEST_EPOCH_MS:
        return calls
    return max(1, round(calls / batches)) * batches


def run_block(
    run: Run, batches: Sequence[IndexedBatch], calls: int, call_ms: float, clock: Clock = time.perf_counter_ns
) -> Runs:
    """Run a block of calls, after an untimed one where calls are short: other rows and batch sizes ran in between."""
    if call_ms < LONG_CALL_MS:
        run(batches[-1].inputs)
    return run_each(run, islice(cycle(batches), calls), clock)


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
    """Return by batch the tokens given and computed, and the pairs for attention: n² of a sentence of n tokens."""
    lengths = [encoded.lengths[batch.indices] for batch in batches]
    computed = [session.computed(batch.inputs) for batch in batches]
    return Work(
        given_tokens=[int(each.sum()) for each in lengths],
        given_pairs=[int((each**2).sum()) for each in lengths],
        computed_tokens=[each.tokens for each in computed],
        computed_pairs=[each.pairs for each in computed],
        data_tokens=float(encoded.lengths.mean()),
    )
