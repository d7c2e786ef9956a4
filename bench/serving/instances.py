"""The sessions that answer requests, and whether their answers were right.

Each takes batches from the queue until it is closed.  One is a no-op backend: what it sustains is the generator
ceiling, the most that generator, queue and Python do here.

Every answer passes the gate, each request has one, and none went to another's request.  The gate of a low precision is
wide: an answer that belongs to the neighbour may pass it.  So the batches furthest from the reference are run again as
they were: the session gives the same logits, or they were mixed up.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from bench.core.model_inputs import AnyBatch, Task, largest_difference, reference_spread
from bench.core.reports import Evidence
from bench.inputs.batches import IndexedBatch
from bench.runtimes.base.session import Pending, Session
from bench.serving.batcher import Batcher, Requests
from bench.serving.jobs import Replay
from bench.timing.quality import Comparison, Logits, compare

REPLAYED = 8
"""Batches that are run again."""
SAME = 0.01
"""Of the spread of the logits: by so much a batch may differ from itself, run again (other kernels, other sums)."""
Answer = Callable[[Sequence[Any]], None]
T = TypeVar("T")


@dataclass
class Answers:
    """What a session did under one load: every batch with the logits that were answered, and how long it ran."""

    batches: list[IndexedBatch] = field(default_factory=list)
    logits: list[Logits] = field(default_factory=list)
    busy_ns: int = 0

    def requests(self) -> int:
        """Return how many requests were answered."""
        return sum(len(batch.indices) for batch in self.batches)


@dataclass(frozen=True, slots=True)
class Begun:
    """Requests whose batch was submitted, and when."""

    requests: list[Any]
    batch: IndexedBatch
    pending: Pending
    began_ns: int


def serve(session: Session, requests: Requests, batcher: Batcher[Any], answer: Answer, in_flight: int = 1) -> Answers:
    """Answer batch after batch until the queue is closed and empty; `in_flight` are submitted and not yet answered."""
    served, ended_ns = Answers(), 0
    begun = _begun(session, requests, batcher)
    for each in begun if in_flight == 1 else ahead(begun, in_flight):
        logits = each.pending.result()
        now_ns = time.perf_counter_ns()
        served.busy_ns += now_ns - max(each.began_ns, ended_ns)
        ended_ns = now_ns
        answer(each.requests)
        served.batches.append(each.batch)
        served.logits.append(logits[: len(each.requests)])
    return served


def _begun(session: Session, requests: Requests, batcher: Batcher[Any]) -> Iterator[Begun]:
    while taken := batcher.take():
        batch = requests.of(taken)
        began_ns = time.perf_counter_ns()
        yield Begun(taken, batch, session.submit(batch.inputs), began_ns)


def ahead(source: Iterator[T], most: int) -> Iterator[T]:
    """Yield what a thread of its own takes from `source`: at most `most` that whoever iterates is not done with.

    Raises what the source raises.
    """
    free = threading.Semaphore(most)
    taken: queue.SimpleQueue[tuple[T] | BaseException | None] = queue.SimpleQueue()
    is_over = threading.Event()

    def take() -> None:
        try:
            free.acquire()
            for each in source:
                taken.put((each,))
                free.acquire()
                if is_over.is_set():
                    break
            taken.put(None)
        except BaseException as problem:
            taken.put(problem)

    threading.Thread(target=take, daemon=True).start()
    try:
        while (each := taken.get()) is not None:
            if isinstance(each, BaseException):
                raise each
            yield each[0]
            free.release()
    finally:
        is_over.set()
        free.release()


class Instances:
    """Sessions side by side, each in the thread that it was opened in; the first one's is the caller's."""

    def __init__(self, open_one: Callable[[], Session], count: int) -> None:
        """`open_one` returns a session in which every shape has run."""
        self.first = open_one()
        self._threads = [ThreadPoolExecutor(1) for _ in range(count - 1)]
        self._others = [thread.submit(open_one).result() for thread in self._threads]

    def serve(self, requests: Requests, batcher: Batcher[Any], answer: Answer, in_flight: int = 1) -> list[Answers]:
        """Answer until the queue is closed, with so many batches of each session in flight (see `serve`).

        Raises what a session raised.
        """
        others = [
            thread.submit(serve, session, requests, batcher, answer, in_flight)
            for thread, session in zip(self._threads, self._others, strict=True)
        ]
        try:
            found = [serve(self.first, requests, batcher, answer, in_flight)]
        finally:
            batcher.close()
        return found + [other.result() for other in others]


class NoopSession(Session):
    """Answers at once, with zeros."""

    def __init__(self, labels: int) -> None:
        self._labels = labels

    def run(self, batch: AnyBatch) -> Logits:
        return np.zeros((len(batch), self._labels), dtype=np.float32)

    def evidence(self) -> Evidence:
        return Evidence()


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
