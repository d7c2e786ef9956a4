"""How batches form of requests that wait: the rule of a server, the queue behind it, and what the session takes.

A batch is all that waits, up to a limit, as soon as the session is free (what Triton does by default); with a delay it
waits for more until the first request in it has waited so long.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from bench.core.model_inputs import IntArray, Padding
from bench.inputs.batches import IndexedBatch, pad
from bench.inputs.encoded import Encoded
from bench.runtimes.base.session import Session

Request = TypeVar("Request")
Clock = Callable[[], float]
"""Returns seconds."""
TOKENS_APART = 64
"""Two rows laid end to end that differ by fewer tokens may be of one shape; none is of a shape in between."""


class Arrivals(Protocol):
    """What `queue.SimpleQueue` offers of what is used here."""

    def put(self, item: object) -> None: ...

    def get(self, block: bool = True, timeout: float | None = None) -> object: ...


class Batcher(Generic[Request]):
    """Requests go in from any thread; each session's thread takes batches until `close`."""

    def __init__(
        self,
        max_batch: int,
        max_delay_s: float = 0.0,
        clock: Clock = time.perf_counter,
        arrivals: Arrivals | None = None,
    ) -> None:
        self._max_batch = max_batch
        self._max_delay_s = max_delay_s
        self._clock = clock
        self._arrivals: Arrivals = arrivals or queue.SimpleQueue()
        self._waiting: deque[tuple[float, Request]] = deque()
        self._taking = threading.Lock()
        self._is_closed = False

    def put(self, requests: Sequence[Request]) -> None:
        """Let requests wait; they count from now."""
        self._arrivals.put((self._clock(), requests))

    def close(self) -> None:
        """End every `take` that finds nothing waiting, now and later."""
        self._arrivals.put(None)

    def take(self) -> list[Request]:
        """Return the next batch, at least one request; empty after `close`, when nothing waits any more."""
        with self._taking:
            while not self._waiting and not self._is_closed:
                self._accept(self._arrivals.get())
            with suppress(queue.Empty):
                while not self._is_closed:
                    self._accept(self._arrivals.get(block=False))
            while self._is_worth_waiting():
                rest_s = self._waiting[0][0] + self._max_delay_s - self._clock()
                with suppress(queue.Empty):
                    self._accept(self._arrivals.get(timeout=max(0.0, rest_s)))
            count = min(len(self._waiting), self._max_batch)
            return [self._waiting.popleft()[1] for _ in range(count)]

    def _accept(self, arrived: object) -> None:
        if arrived is None:
            self._is_closed = True
        elif isinstance(arrived, tuple):
            came, requests = arrived
            self._waiting.extend((came, request) for request in requests)

    def _is_worth_waiting(self) -> bool:
        if self._is_closed or not self._max_delay_s or not 0 < len(self._waiting) < self._max_batch:
            return False
        return self._clock() < self._waiting[0][0] + self._max_delay_s


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
        indices = np.array(sentences, dtype=np.int64)
        return IndexedBatch(indices, pad(self._encoded, self.filled(indices), self._padding, self._multiple_of))

    def of(self, taken: Sequence[Any]) -> IndexedBatch:
        """Return the batch of requests."""
        return self.batch([request.index for request in taken])

    def filled(self, indices: IntArray) -> IntArray:
        """Return the numbers with the last one repeated, up to a size that there is a session for."""
        size = next((size for size in self._sizes if size >= len(indices)), len(indices))
        return np.concatenate([indices, np.repeat(indices[-1:], size - len(indices))])

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
