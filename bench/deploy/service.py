"""The row behind the HTTP server: sessions and tokenizer as measured, each in a thread of its own.

The event loop hands texts to the tokenizer's thread, which hands tokens to the batcher; each session's thread takes
batches and hands answers back.  What is counted is counted in the event loop's thread alone.
"""

import asyncio
import gc
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from tokenizers import Tokenizer

from bench.core.errors import DataError, EngineError
from bench.core.progress import log
from bench.deploy.fits import check_session
from bench.deploy.settings import Settings
from bench.inputs.encoded import Encoded
from bench.inputs.texts import Text, TextEncoder, Tokens
from bench.runtimes.base.registry import import_runtime
from bench.runtimes.base.session import Logits, Session
from bench.serving.batcher import Batcher
from bench.serving.instances import Instances, done, prepared_sizes, run_every_shape, settle
from bench.serving.tokenizing import TextRequests, Tokenized, Tokenizing

WARM_UPS = {"cpu": 1, "cuda": 3}
"""Runs of each shape: a GPU's are captured and tuned in the first ones."""
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
OF_BUDGET = (0.1, 0.2, 0.5, 0.8, 1, 1.5, 2, 5, 10)
TOKENIZER = "tokenizer.json"
OBJECTS_A_LOOK = 10_000
"""New objects between two looks for garbage: of the open requests each has dozens."""
State = Literal["loading", "ready", "draining", "failed"]


class Refused(Exception):
    """A request without an answer: the HTTP status, and why; `seconds`: when it may be sent again."""

    def __init__(self, status: int, reason: str, seconds: int | None = None) -> None:
        super().__init__(reason)
        self.status, self.seconds = status, seconds


@dataclass(slots=True, eq=False)
class Asked:
    """A request, its scores by text and label, the texts that are not answered yet, and those that were cut.

    `answer` is called with it once there is no text left, or a problem.
    """

    answer: "Callable[[Asked], None]"
    scores: list[list[float]]
    left: int
    cut: set[int] = field(default_factory=set)
    empty: set[int] = field(default_factory=set)
    problem: Refused | None = None


@dataclass(slots=True)
class Asking:
    """A text of a request."""

    id: Asked
    index: int
    text: Text


class Measures:
    """What /metrics shows."""

    def __init__(self, budget_ms: float) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        own: dict[str, Any] = {"registry": self.registry}
        seconds = [budget_ms / 1000 * share for share in OF_BUDGET]
        self.requests = Counter("classifier_requests", "Requests by their HTTP status", ["code"], **own)
        self.seconds = Histogram("classifier_request_seconds", "Time to an answer", buckets=seconds, **own)
        self.batches = Histogram("classifier_batch_texts", "Texts in a batch", buckets=BATCH_BUCKETS, **own)
        self.busy = Counter("classifier_session_seconds", "Time in which sessions ran", **own)
        self.waiting = Gauge("classifier_waiting_texts", "Texts without an answer yet", **own)
        self.ready = Gauge("classifier_ready", "1 while requests are answered", **own)


class Service:
    """Answers texts by a folder's row; all but `_run` and what it calls belongs to the event loop's thread."""

    def __init__(self, folder: Path, settings: Settings, on_failure: Callable[[], None]) -> None:
        self.folder, self.settings, self._on_failure = folder, settings, on_failure
        self.state: State = "loading"
        self.failure: BaseException | None = None
        self.waiting = 0
        self._unanswered: set[Asked] = set()
        self._arrived: list[Asking] = []
        self._batcher: Batcher[Tokenized] = Batcher(settings.max_batch, settings.max_delay_ms / 1000)
        self._encoder = TextEncoder(Tokenizer.from_file(str(folder / TOKENIZER)), [], every_length(settings))
        self.measures = Measures(settings.figures.budget_ms or 100.0)
        self.measures.waiting.set_function(lambda: self.waiting)
        self.measures.ready.set_function(self.is_ready)

    def is_ready(self) -> bool:
        """Tell whether every shape has run and requests are answered."""
        return self.state == "ready"

    def start(self) -> None:
        """Open the sessions in a thread of their own."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Let the threads end, once no request waits any more."""
        if self.state in ("ready", "draining"):
            self._front.close()
            self._thread.join(self.settings.limits.seconds)

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Let the event loop call something after some seconds; of a signal's handler too."""
        self._loop.call_soon_threadsafe(self._loop.call_later, seconds, call)

    def ask(self, texts: Sequence[Text], answer: Callable[[Asked], None]) -> None:
        """Have texts scored, and `answer` called then; Refused where there is no session or no place for them."""
        limits = self.settings.limits
        if self.state not in ("ready", "draining"):
            raise Refused(503, f"not ready: {self.state}", seconds=1)
        if self.waiting + len(texts) > limits.waiting_texts:
            raise Refused(503, f"{self.waiting} texts wait already, allowed: {limits.waiting_texts}", seconds=1)
        asked = Asked(answer, [[]] * len(texts), len(texts))
        self.waiting += len(texts)
        self._unanswered.add(asked)
        if not self._arrived:
            self._loop.call_soon(self._hand_on)
        self._arrived += [Asking(asked, index, text) for index, text in enumerate(texts)]

    def _hand_on(self) -> None:
        """Give the tokenizer's thread what came in one turn of the event loop: it wakes once."""
        arrived, self._arrived = self._arrived, []
        self._front.put(arrived)

    def _run(self) -> None:
        """Open the sessions, and answer until the queue is closed."""
        try:
            settings = self.settings
            import_runtime(settings.runtime).import_libraries()
            instances = Instances(self._open_one, settings.instances)
            check_session(settings, instances.first.evidence())
            if settings.engine:
                self._check_engine()
            settle()
            gc.set_threshold(OBJECTS_A_LOOK)
            self._front = Tokenizing(self._tokens_of, self._batcher)
            self._loop.call_soon_threadsafe(self._become_ready)
            instances.run(self._serve, self._batcher)
            self._front.end()
        except BaseException as problem:
            self._loop.call_soon_threadsafe(self._fail, problem)

    def _check_engine(self) -> None:
        try:
            self.settings.check_files(self.folder)
        except DataError as problem:
            raise EngineError(f"TensorRT built an engine instead of loading the deployed one: {problem}") from problem

    def _open_one(self) -> Session:
        settings = self.settings
        session = import_runtime(settings.runtime).open_session(settings.spec(self.folder))
        sizes = prepared_sizes(settings.batch_sizes, settings.max_batch)
        filled = sizes if session.is_of_fixed_sizes else []
        self._requests = TextRequests(self._encoder, settings.padding, settings.multiple_of, filled)
        run_every_shape(session, self._requests, settings.max_batch, sizes, WARM_UPS[settings.device])
        return session

    def _serve(self, session: Session) -> None:
        try:
            for each in done(session, self._requests, self._batcher, self.settings.in_flight):
                self.measures.batches.observe(len(each.requests))
                self.measures.busy.inc(each.busy_ns / 1e9)
                scores = scores_of(each.logits, self.settings.task)
                self._loop.call_soon_threadsafe(self._deliver, each.requests, scores)
        except BaseException as problem:
            self._loop.call_soon_threadsafe(self._fail, problem)
            raise

    def _tokens_of(self, taken: Sequence[Asking]) -> list[Tokens]:
        """Return tokens of texts, in the tokenizer's thread; what was cut, and what has none, its request notes."""
        texts = (each.text for each in taken)
        found = self._encoder.rust.encode_batch_fast([text if isinstance(text, str) else tuple(text) for text in texts])
        filler, longest = self.settings.tokens.filler_id, self.settings.sequence_length
        has_types = self.settings.tokens.has_types
        tokens: list[Tokens] = []
        for asking, each in zip(taken, found, strict=True):
            ids = each.ids
            if not ids:
                asking.id.empty.add(asking.index)
                tokens.append(([filler], [0]) if has_types else ([filler],))
                continue
            if len(ids) == longest and each.overflowing:
                asking.id.cut.add(asking.index)
            tokens.append((ids, each.type_ids) if has_types else (ids,))
        return tokens

    def _become_ready(self) -> None:
        self.state = "ready"
        log(f"{self.settings.row}: ready")

    def _deliver(self, requests: Sequence[Tokenized], scores: list[list[float]]) -> None:
        self.waiting -= len(requests)
        for request, own in zip(requests, scores, strict=True):
            asked: Asked = request.id
            asked.scores[request.index] = own
            asked.left -= 1
            if not asked.left:
                self._unanswered.discard(asked)
                if asked.empty:
                    asked.problem = Refused(400, f"texts.{min(asked.empty)}: the tokenizer makes no token of it")
                asked.answer(asked)

    def _fail(self, problem: BaseException) -> None:
        """Refuse what waits, and end the server."""
        if self.state == "failed":
            return
        self.state, self.failure = "failed", problem
        for asked in self._unanswered:
            asked.problem = Refused(500, f"the session ended: {type(problem).__name__}: {problem}")
            asked.answer(asked)
        self._unanswered.clear()
        self.waiting = 0
        self._on_failure()


def every_length(settings: Settings) -> Encoded:
    """Return a sentence of each length up to the sequence length, laid out as texts are."""
    tokens, longest = settings.tokens, settings.sequence_length
    lengths, places = np.arange(1, longest + 1)[:, None], np.arange(longest)
    mask = (places >= longest - lengths if tokens.is_left_padded else places < lengths).astype(np.int64)
    ids = np.where(mask, tokens.filler_id, tokens.pad_id).astype(np.int64)
    types = np.where(mask, 0, tokens.pad_type).astype(np.int64) if tokens.has_types else None
    return Encoded(ids, mask, np.full(longest, -1), types)


def scores_of(logits: Logits, task: str) -> list[list[float]]:
    """Return a score for each label: probabilities, of a regression the numbers themselves."""
    values = logits.astype(np.float64)
    if task == "single_label":
        values = np.exp(values - values.max(axis=1, keepdims=True))
        values /= values.sum(axis=1, keepdims=True)
    elif task == "multi_label":
        values = 1 / (1 + np.exp(-values))
    scores: list[list[float]] = values.tolist()
    return scores
