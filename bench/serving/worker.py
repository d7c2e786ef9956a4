"""The serving process of a row: it opens its sessions, runs every shape, and answers loads when it is asked to.

    python -m bench.serving.worker JOB_FILE

Nothing is captured, compiled or collected as garbage while requests are answered.
"""

import gc
import math
import os
import sys
import time
import traceback
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from bench.core.paths import FAST_TOKENIZER, TEXTS
from bench.inputs.encoded import load_encoded, load_reference
from bench.inputs.texts import open_encoder
from bench.runtimes.base.registry import import_runtime
from bench.runtimes.base.session import Session
from bench.serving.batcher import Batcher, Requests
from bench.serving.checks import check, furthest, replay, unanswered
from bench.serving.instances import Answers, Instances, NoopSession, prepared_sizes, run_every_shape, serve, settle
from bench.serving.jobs import NOOP, Check, ServeJob
from bench.serving.load import Load, answer, point, send
from bench.serving.search import Figures
from bench.serving.tokenizing import TextRequests, Tokenizing, times
from bench.timing.monitors import GpuMonitor, peak_host_mib
from bench.workers.protocol import answer_requests

WARM_UPS = 3
BACKLOG_BUDGETS = 10
"""A load ends when more requests wait than arrive in so many budgets: none of them could be answered in time."""
LEAST_BACKLOG = 32
SINGLE_QUERIES = (10, 1000)
"""The fewest and the most requests one after another."""


def main() -> None:
    job = ServeJob.read(Path(sys.argv[1]))

    def import_libraries() -> None:
        if job.runtime != NOOP:
            import_runtime(job.runtime).import_libraries()
        import mlperf_loadgen  # noqa: F401

    try:
        worker = Worker(job)
        requests = (worker.open, worker.tokenizing, worker.ends, worker.rate, worker.end)
        answer_requests(import_libraries, {request.__name__: request for request in requests})
    except BaseException:
        traceback.print_exc()
        _end(1)
    _end(0)


def _end(code: int) -> NoReturn:
    """End without Python's own tidying up: threads of LoadGen may be in the middle of a load."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class Worker:
    """Answers the requests of one job's coordinator."""

    def __init__(self, job: ServeJob) -> None:
        self.job = job
        self.encoded = load_encoded(Path(job.inputs))
        self.reference = load_reference(Path(job.inputs))
        from_text = job.serving.input == "text" and job.runtime != NOOP
        self.encoder = open_encoder(FAST_TOKENIZER, TEXTS, self.encoded) if from_text else None
        self.monitor = GpuMonitor(job.gpu) if job.gpu is not None else None
        self.shapes = 0
        self.checks: list[Check] = []

    def open(self) -> Figures:
        """Open the sessions and run every shape; from here on nothing is collected as garbage."""
        self.instances = Instances(self._open_one, self.job.serving.instances)
        self.captures = self.instances.first.evidence().captures or 0
        settle()
        gc.disable()
        return {}

    def _open_one(self) -> Session:
        job = self.job
        is_noop = job.runtime == NOOP
        session = NoopSession(self.reference.shape[1]) if is_noop else import_runtime(job.runtime).open_session(job)
        sizes = prepared_sizes(self.job.batch_sizes, self.job.max_batch)
        filled = sizes if session.is_of_fixed_sizes else []
        self.requests = (
            TextRequests(self.encoder, job.padding, job.multiple_of, filled)
            if self.encoder
            else Requests(self.encoded, job.padding, job.multiple_of, filled)
        )
        self.shapes = run_every_shape(session, self.requests, job.max_batch, sizes, WARM_UPS)
        return session

    def tokenizing(self) -> Figures:
        """Return how long the tokenizer takes at each batch size, without load."""
        assert self.encoder
        sizes = sorted({1, *prepared_sizes(self.job.batch_sizes, self.job.max_batch)})
        return {"times": [each.as_dict() for each in times(self.encoder, sizes, self.job.tokenizer_threads)]}

    def ends(self, per_s: float, seed: int, in_flight: int, max_batch: int) -> Figures:
        """Answer requests one after another, and all at once, as many as come at a rate in the time of a trial."""
        answer_all = partial(self._load, in_flight=in_flight, max_batch=max_batch)
        began = time.perf_counter()
        self.instances.first.run(self.requests.batch([0]).inputs)
        run_seconds = max(time.perf_counter() - began, 1e-6)
        seconds = self.job.serving.seconds
        least, most = SINGLE_QUERIES
        count = min(max(math.ceil(seconds / run_seconds), least), most)
        single_stream = answer_all(Load("SingleStream", count, seed))
        count = max(math.ceil(per_s * seconds), max_batch)
        return {"single_stream": single_stream, "offline": answer_all(Load("Offline", count, seed))}

    def rate(self, per_s: float, seed: int, in_flight: int, max_batch: int) -> Figures:
        """Answer requests at random times; see `bench.core.reports.RatePoint`.

        `in_flight`, `max_batch`: at most those of the job, which everything was prepared for.
        """
        budget_ms = self.job.budget_ms
        backlog = math.ceil(BACKLOG_BUDGETS * per_s * budget_ms / 1000)
        most_waiting = max(backlog, LEAST_BACKLOG, 4 * max_batch)
        load = Load("Server", self.job.queries(per_s), seed, per_s, budget_ms, most_waiting)
        return point(load, self._load(load, in_flight, max_batch))

    def end(self) -> Figures:
        """Return what the loads have shown of this process."""
        evidence = self.instances.first.evidence()
        return {
            "shapes": self.shapes,
            "late_captures": (evidence.captures or 0) - self.captures,
            "peak_host_mib": peak_host_mib(),
            "evidence": evidence.as_dict(),
            "checks": [check.model_dump() for check in self.checks],
        }

    def _load(self, load: Load, in_flight: int, max_batch: int) -> Figures:
        """Send one load and check its answers; return LoadGen's figures with what the session did."""
        batcher: Batcher[Any] = Batcher(max_batch, self.job.serving.max_delay_ms / 1000)
        served: list[Answers] = []
        if self.monitor:
            self.monitor.start_cell()
        began = time.perf_counter_ns()
        front = Tokenizing(self.requests.tokens_of, batcher) if isinstance(self.requests, TextRequests) else batcher

        def answer_one(session: Session) -> Answers:
            return serve(session, self.requests, batcher, answer, in_flight)

        def answer_all() -> None:
            served.extend(self.instances.run(answer_one, batcher))
            if isinstance(front, Tokenizing):
                front.end()

        figures = send(load, len(self.encoded), front.put, front.close, answer_all)
        wall_ns = time.perf_counter_ns() - began
        answered = sum(each.requests() for each in served)
        figures |= {
            "mean_batch": answered / max(1, sum(len(each.batches) for each in served)),
            "busy_share": sum(each.busy_ns for each in served) / wall_ns / len(served),
            "gpu": self.monitor.end_cell().as_dict() if self.monitor else None,
        }
        if self.job.runtime != NOOP:
            first = self.instances.first
            computed = [first.computed(batch.inputs).tokens for each in served for batch in each.batches]
            figures["tokens_computed"] = sum(computed) / max(1, answered)
            self._check(served, load.queries if load.scenario == "Offline" else figures["queries"])
        return figures

    def _check(self, served: list[Answers], wanted: int) -> None:
        comparison = check(served, self.reference, self.job.task)
        pairs = [] if comparison.fault else furthest(served, self.reference)
        replayed = replay(self.instances.first, pairs, self.reference)
        self.checks.append(Check(comparison=comparison, unanswered=unanswered(wanted, served), replayed=replayed))


if __name__ == "__main__":
    main()
