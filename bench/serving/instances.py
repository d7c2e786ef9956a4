"""The sessions that answer requests.

Each takes batches from the queue until it is closed.  One is a no-op backend: what it sustains is the generator
ceiling, the most that generator, queue and Python do here.
"""

import gc
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from bench.core.model_inputs import AnyBatch
from bench.core.reports import Evidence
from bench.inputs.batches import IndexedBatch
from bench.runtimes.base.session import Logits, Pending, Session
from bench.serving.batcher import Batcher, Requests

Answer = Callable[[Sequence[Any]], None]
T = TypeVar("T")
SWITCH_SECONDS = 0.0005
"""A thread back from the tokenizer or the GPU waits at most so long for the interpreter: Python's own 5 ms are half of
a GPU row's budget."""


def settle() -> None:
    """Let nothing that is loaded be looked through as garbage, and threads take turns soon."""
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(SWITCH_SECONDS)


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


@dataclass(frozen=True, slots=True)
class Done:
    """Requests with the logits of each, and for how long the session ran for them alone."""

    requests: list[Any]
    batch: IndexedBatch
    logits: Logits
    busy_ns: int


def done(session: Session, requests: Requests, batcher: Batcher[Any], in_flight: int = 1) -> Iterator[Done]:
    """Yield batch after batch until the queue is closed and empty; `in_flight` are submitted and not yet yielded."""
    ended_ns = 0
    begun = _begun(session, requests, batcher)
    for each in begun if in_flight == 1 else ahead(begun, in_flight):
        logits = each.pending.result()
        now_ns = time.perf_counter_ns()
        busy_ns = now_ns - max(each.began_ns, ended_ns)
        yield Done(each.requests, each.batch, logits[: len(each.requests)], busy_ns)
        ended_ns = now_ns


def serve(session: Session, requests: Requests, batcher: Batcher[Any], answer: Answer, in_flight: int = 1) -> Answers:
    """Answer batch after batch until the queue is closed and empty, and keep what was answered."""
    served = Answers()
    for each in done(session, requests, batcher, in_flight):
        answer(each.requests)
        served.busy_ns += each.busy_ns
        served.batches.append(each.batch)
        served.logits.append(each.logits)
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

    def run(self, work: Callable[[Session], T], batcher: Batcher[Any]) -> list[T]:
        """Let each session work until the queue is closed, as it is once the first has ended; raise what one raised."""
        others = [thread.submit(work, session) for thread, session in zip(self._threads, self._others, strict=True)]
        try:
            found = [work(self.first)]
        finally:
            batcher.close()
        return found + [other.result() for other in others]


def prepared_sizes(batch_sizes: Sequence[int], max_batch: int) -> list[int]:
    """Return the prepared batch sizes that the largest batch needs: those below it, and the first that holds it."""
    ordered = sorted(batch_sizes)
    holding = next(size for size in ordered if size >= max_batch)
    return [size for size in ordered if size <= holding]


def run_every_shape(session: Session, requests: Requests, max_batch: int, sizes: list[int], times: int) -> int:
    """Prepare a session for batches of these sizes, and run each shape that it can meet; return how many there are."""
    for size in sizes:
        session.prepare(size)
    batches = requests.of_every_shape(session, max_batch, sizes)
    for batch in batches:
        for _ in range(times):
            session.run(batch.inputs)
    return len(batches)


class NoopSession(Session):
    """Answers at once, with zeros."""

    def __init__(self, labels: int) -> None:
        self._labels = labels

    def run(self, batch: AnyBatch) -> Logits:
        return np.zeros((len(batch), self._labels), dtype=np.float32)

    def evidence(self) -> Evidence:
        return Evidence()
