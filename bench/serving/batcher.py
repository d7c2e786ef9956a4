"""How batches form of requests that wait: the rule of a server, and the queue behind it.

A batch is all that waits, up to a limit, as soon as the session is free (what Triton does by default); with a delay it
waits for more until the first request in it has waited so long.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

Request = TypeVar("Request")
Clock = Callable[[], float]
"""Returns seconds."""


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
