"""Between arrivals and batcher, where requests bring text: a thread of its own makes tokens of what waits."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from statistics import median
from typing import Any

import numpy as np

from bench.core.model_inputs import Padding
from bench.core.reports import TokenizingTime
from bench.inputs.batches import IndexedBatch, pad
from bench.inputs.texts import TextEncoder, Tokens
from bench.serving.batcher import Batcher, Requests

MOST_TEXTS = 64
"""Texts of one call: enough for the Rust library's threads to share, few enough for the first not to wait for long."""
TIMED_SECONDS = 4.0
"""Of all calls that are timed without load."""
TIMED_CALLS = 300
PARALLEL = "TOKENIZERS_PARALLELISM"
"""The Rust library reads it at each call."""
TokensOf = Callable[[Sequence[Any]], Sequence[Tokens]]
"""Makes tokens of requests."""


@dataclass(frozen=True, slots=True)
class Tokenized:
    """A request with the tokens of its sentence; `id`: whatever it is answered by."""

    id: Any
    index: int
    tokens: Tokens


class Tokenizing:
    """Takes requests as the batcher does, and hands each on to it with its tokens."""

    def __init__(self, tokens_of: TokensOf, batcher: Batcher[Tokenized]) -> None:
        self._tokens_of, self._batcher = tokens_of, batcher
        self._waiting: Batcher[Any] = Batcher(MOST_TEXTS)
        self._fault: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, requests: Sequence[Any]) -> None:
        """Let requests wait; they have an `id` and the `index` of their sentence."""
        self._waiting.put(requests)

    def close(self) -> None:
        """Close the batcher once everything that waits was handed on."""
        self._waiting.close()

    def end(self) -> None:
        """Wait until the batcher is closed; raise what the tokenizer raised."""
        self._thread.join()
        if self._fault:
            raise self._fault

    def _run(self) -> None:
        try:
            while taken := self._waiting.take():
                pairs = zip(taken, self._tokens_of(taken), strict=True)
                self._batcher.put([Tokenized(request.id, request.index, own) for request, own in pairs])
        except BaseException as problem:
            self._fault = problem
        finally:
            self._batcher.close()


class TextRequests(Requests):
    """Requests whose batches are laid out of the tokens that they bring."""

    def __init__(self, encoder: TextEncoder, padding: Padding, multiple_of: int, sizes: list[int]) -> None:
        super().__init__(encoder.like, padding, multiple_of, sizes)
        self._encoder = encoder

    def tokens_of(self, taken: Sequence[Any]) -> list[Tokens]:
        """Return the tokens of each request's sentence."""
        return self._encoder.tokens([request.index for request in taken])

    def of(self, taken: Sequence[Any]) -> IndexedBatch:
        """Return a batch of the sentences whose tokens these requests bring, filled up as `batch` does."""
        indices = np.array([request.index for request in taken], dtype=np.int64)
        places = self.filled(np.arange(len(taken)))
        tokens = [taken[place].tokens for place in places]
        if self._padding == "none":
            return IndexedBatch(indices, self._encoder.packed(tokens))
        laid_out = self._encoder.laid_out(tokens)
        return IndexedBatch(indices, pad(laid_out, np.arange(len(tokens)), self._padding, self._multiple_of))


def times(encoder: TextEncoder, sizes: Sequence[int], threads: int) -> list[TokenizingTime]:
    """Return how long a call takes for so many sentences, in one thread and in all."""
    seconds = TIMED_SECONDS / len(sizes) / (2 if threads > 1 else 1)
    found = []
    for size in sizes:
        with parallel("false"):
            one_ms = _median_ms(encoder, size, seconds)
        with parallel("true"):
            all_ms = _median_ms(encoder, size, seconds) if threads > 1 and size > 1 else one_ms
        found.append(TokenizingTime(batch_size=size, one_thread_ms=one_ms, ms=all_ms))
    return found


@contextmanager
def parallel(setting: str) -> Iterator[None]:
    """Let the Rust library use its threads, or not."""
    before = os.environ.get(PARALLEL, "false")
    os.environ[PARALLEL] = setting
    try:
        yield
    finally:
        os.environ[PARALLEL] = before


def _median_ms(
    encoder: TextEncoder, size: int, seconds: float, clock: Callable[[], float] = time.perf_counter
) -> float:
    sentences = cycle(range(len(encoder.texts)))
    encoder.tokens(islice(sentences, size))
    ends, found = clock() + seconds, list[float]()
    while not found or (len(found) < TIMED_CALLS and clock() < ends):
        taken = list(islice(sentences, size))
        began = clock()
        encoder.tokens(taken)
        found.append(1000 * (clock() - began))
    return median(found)
