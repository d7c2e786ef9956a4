"""The serving process: open a row's sessions, run every shape, then answer loads of different rates.

    python -m bench.serving.worker JOB_FILE RESULT_FILE

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

from bench.core.errors import WorkerError
from bench.core.reports import Offline, RatePoint, SingleStream
from bench.inputs.encoded import load_encoded, load_reference
from bench.machine.cores import throttled_seconds
from bench.runtimes.base.registry import import_runtime
from bench.runtimes.base.session import Session, Unavailable
from bench.serving.batcher import Batcher, Requests
from bench.serving.instances import Answers, Instances, NoopSession, check, furthest, replay, unanswered
from bench.serving.jobs import NOOP, Check, ServeJob, ServingResult
from bench.serving.load import Load, answer, send
from bench.serving.search import search
from bench.timing.monitors import ClockCheck, GpuMonitor, OtherLoad, calibration_loop_ms, peak_host_mib
from bench.workers.protocol import do_job, emit
from bench.workers.unsupported import describe_out_of_memory, is_out_of_memory

WARM_UPS = 3
BACKLOG_BUDGETS = 10
"""A load ends when more requests wait than arrive in so many budgets: none of them could be answered in time."""
LEAST_BACKLOG = 32
OF_ALL_AT_ONCE = 0.8
"""Of the rate at which requests are answered that wait from the beginning: more is hardly held."""
PATIENCE = 3
CLOCK_TRIES = 3
"""A search in which no rate has kept the budget may take so many times as long: without one there is no figure."""
SINGLE_QUERIES = (10, 1000)
"""The fewest and the most requests one after another."""

Figures = dict[str, Any]
"""Of one load, by the names of `bench.core.reports.LoadFigures` and what inherits from it."""


def main() -> None:
    job = ServeJob.read(Path(sys.argv[1]))

    def import_libraries() -> None:
        if job.runtime != NOOP:
            import_runtime(job.runtime).import_libraries()
        import mlperf_loadgen  # noqa: F401

    try:
        do_job(import_libraries, lambda: Worker(job).work().model_dump())
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
    """Runs one job; `work` returns what goes into the result file."""

    def __init__(self, job: ServeJob) -> None:
        self.job = job
        self.seed = job.serving.seed + job.process
        self.encoded = load_encoded(Path(job.inputs))
        self.reference = load_reference(Path(job.inputs))
        self.monitor = GpuMonitor(job.gpu) if job.gpu is not None else None
        self.result = ServingResult(status="measured", process=job.process)

    def work(self) -> ServingResult:
        """Serve; `out_of_memory` with the reason where the row does not fit."""
        began_ns = time.perf_counter_ns()
        emit("load")
        try:
            self._serve(Instances(self._open, self.job.serving.instances))
        except Exception as problem:
            if isinstance(problem, Unavailable) or not is_out_of_memory(problem):
                raise
            return ServingResult(status="out_of_memory", reason=describe_out_of_memory(problem))
        self.result.peak_host_mib = peak_host_mib()
        self.result.turn_ns = [began_ns, time.perf_counter_ns()]
        return self.result

    def _open(self) -> Session:
        job = self.job
        is_noop = job.runtime == NOOP
        session = NoopSession(self.reference.shape[1]) if is_noop else import_runtime(job.runtime).open_session(job)
        sizes = self._sizes()
        self.requests = Requests(self.encoded, job.padding, job.multiple_of, sizes if session.is_of_fixed_sizes else [])
        for size in sizes:
            session.prepare(size)
        batches = self.requests.of_every_shape(session, job.max_batch, sizes)
        self.result.shapes = len(batches)
        emit("prepare", shapes=len(batches))
        for batch in batches:
            for _ in range(WARM_UPS):
                session.run(batch.inputs)
        return session

    def _sizes(self) -> list[int]:
        """Return the prepared batch sizes that the largest batch needs: those below it, and the first that holds it."""
        ordered = sorted(self.job.batch_sizes)
        holding = next(size for size in ordered if size >= self.job.max_batch)
        return [size for size in ordered if size <= holding]

    def _serve(self, instances: Instances) -> None:
        captures = instances.first.evidence().captures or 0
        self.result.gpu_mib = self.monitor.grown_memory_mib() if self.monitor else None
        began = time.monotonic()
        gc.collect()
        gc.freeze()
        gc.disable()
        if self.job.runtime != NOOP:
            self._run_ends(instances)
        search(
            lambda place: self._keeps_budget(instances, self.job.grid.rate(place)),
            self._start(),
            self.job.serving.points,
            lambda is_kept: time.monotonic() - began < self.job.serving.max_seconds * (1 if is_kept else PATIENCE),
            self.job.highest,
        )
        for rate in self.job.rates or self._half(began):
            self._keeps_budget(instances, rate)
        self.result.evidence = instances.first.evidence()
        self.result.late_captures = (self.result.evidence.captures or 0) - captures

    def _start(self) -> int:
        """Return where the search begins: in the first process not above what was answered with no time to lose."""
        if self.job.process or not self.result.offline:
            return self.job.start
        return min(self.job.start, self.job.grid.place(OF_ALL_AT_ONCE * self.result.offline.per_s))

    def _half(self, began: float) -> list[float]:
        """Return half of the highest rate that kept the budget, where the first process still has time for it."""
        kept = [point.rate for point in self.result.points if point.keeps]
        if self.job.process or not kept:
            return []
        rate = max(kept) / 2
        seconds = self.job.queries(rate) / rate
        return [rate] if time.monotonic() - began + seconds < self.job.serving.max_seconds else []

    def _run_ends(self, instances: Instances) -> None:
        emit("one by one")
        began = time.perf_counter()
        instances.first.run(self.requests.batch([0]).inputs)
        run_seconds = max(time.perf_counter() - began, 1e-6)
        least, most = SINGLE_QUERIES
        count = min(max(math.ceil(self.job.serving.seconds / run_seconds), least), most)
        self.result.single_stream = SingleStream(**self._load(instances, Load("SingleStream", count, self.seed)))
        emit("all at once")
        count = max(math.ceil(self.job.grid.first * self.job.serving.seconds), self.job.max_batch)
        self.result.offline = Offline(**self._load(instances, Load("Offline", count, self.seed)))

    def _keeps_budget(self, instances: Instances, rate: float) -> bool:
        emit("rate", per_s=rate)
        budget_ms = self.job.budget_ms
        backlog = math.ceil(BACKLOG_BUDGETS * rate * budget_ms / 1000)
        most_waiting = max(backlog, LEAST_BACKLOG, 4 * self.job.max_batch)
        load = Load("Server", self.job.queries(rate), self.seed, rate, budget_ms, most_waiting)
        figures = self._load(instances, load)
        keeps: bool = not figures["is_overloaded"] and figures["p99_ms"] <= budget_ms
        self.result.points.append(RatePoint(rate=rate, keeps=keeps, **figures))
        return keeps

    def _load(self, instances: Instances, load: Load) -> Figures:
        """Send one load and return its figures; WorkerError if the time of day, which LoadGen reads, keeps jumping."""
        for _ in range(CLOCK_TRIES):
            clock = ClockCheck()
            figures = self._sent(instances, load)
            if not clock.was_set():
                return figures
        raise WorkerError(
            "the system's clock was set while requests were sent, each time that they were: LoadGen takes latencies by "
            "it; end what sets it, then `dvc repro` serves the row again"
        )

    def _sent(self, instances: Instances, load: Load) -> Figures:
        """Send one load and check its answers; return LoadGen's figures with what the session did."""
        batcher: Batcher[Any] = Batcher(self.job.max_batch, self.job.serving.max_delay_ms / 1000)
        served: list[Answers] = []
        loop_ms = calibration_loop_ms()
        other, throttled = OtherLoad(), throttled_seconds()
        if self.monitor:
            self.monitor.start_cell()
        began = time.perf_counter_ns()
        answer_all = partial(instances.serve, self.requests, batcher, answer)
        figures = send(load, len(self.encoded), batcher.put, batcher.close, lambda: served.extend(answer_all()))
        wall_ns = time.perf_counter_ns() - began
        gpu = self.monitor.end_cell() if self.monitor else None
        answered = sum(each.requests() for each in served)
        figures |= {
            "mean_batch": answered / max(1, sum(len(each.batches) for each in served)),
            "busy_share": sum(each.busy_ns for each in served) / wall_ns / len(served),
            "other_load_cores": other.cores(),
            "quota_throttled_seconds": throttled_seconds() - throttled,
            "host_loop_ms": [loop_ms, calibration_loop_ms()],
            "gpu": gpu,
        }
        if self.job.runtime != NOOP:
            computed = [instances.first.computed(batch.inputs).tokens for each in served for batch in each.batches]
            figures["tokens_computed"] = sum(computed) / max(1, answered)
            self._check(instances, served, figures, load)
        return figures

    def _check(self, instances: Instances, served: list[Answers], figures: Figures, load: Load) -> None:
        wanted = load.queries if load.scenario == "Offline" else figures["queries"]
        comparison = check(served, self.reference, self.job.task)
        pairs = [] if comparison.fault else furthest(served, self.reference)
        replayed = replay(instances.first, pairs, self.reference)
        missing = unanswered(wanted, served)
        self.result.checks.append(Check(comparison=comparison, unanswered=missing, replayed=replayed))


if __name__ == "__main__":
    main()
