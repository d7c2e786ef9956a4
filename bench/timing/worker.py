"""The measuring process: load one variant, warm up every batch size, time all of them.

    python -m bench.timing.worker JOB_FILE RESULT_FILE

Nothing else runs here: one runtime a process, so that the thread pools of two
runtimes never fight, and settings read at start-up are the variant's own.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from bench.inputs.batches import make_batches, pad
from bench.inputs.encoded import Encoded, load_encoded, load_reference
from bench.machine.cores import throttled_seconds
from bench.runtimes.base.registry import import_runtime
from bench.runtimes.base.session import Session
from bench.timing.measure import Budget, Runs, one_of_each_shape, rotated, spread_by_work, time_runs, warm_up, work_of
from bench.timing.monitors import GpuMonitor, OtherLoad, calibration_loop_ms, can_profile, peak_host_mib, profile_runs
from bench.timing.quality import compare, compare_labels
from bench.timing.results import CellResult, ProcessResult
from bench.workers.protocol import Job, do_job, emit, keep_measured
from bench.workers.unsupported import describe_out_of_memory, is_out_of_memory

PROFILED_RUNS = {"cpu": 3, "cuda": 5}


def main() -> None:
    job = Job.read(Path(sys.argv[1]))
    do_job(import_runtime(job.runtime).import_libraries, lambda: Worker(job).work().model_dump())


class Worker:
    """Runs one job; `work` returns what goes into the result file."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.encoded: Encoded = load_encoded(Path(job.inputs))
        self.reference = load_reference(Path(job.inputs))
        self.batches = {
            size: make_batches(self.encoded, size, job.min_runs, job.padding, job.multiple_of)
            for size in job.batch_sizes
        }
        self.sizes = rotated(job.batch_sizes, job.process)
        self.monitor: GpuMonitor | None = None
        self.result = ProcessResult(status="measured", process=job.process)
        self.cells = self.result.cells

    def work(self) -> ProcessResult:
        """Measure everything."""
        began_ns = time.perf_counter_ns()
        session = self._load()
        if session is not None:
            self._measure(session)
            self.result.evidence = session.evidence()
        self.result.peak_host_mib = peak_host_mib()
        self.result.turn_ns = [began_ns, time.perf_counter_ns()]
        if session is not None:
            keep_measured(self.result.model_dump())
            self._profile(session)
            self._measure_accuracy(session)
        self.result.turn_ns = [began_ns, time.perf_counter_ns()]
        return self.result

    def _load(self) -> Session | None:
        emit("load")
        if self.job.gpu is not None:
            self.monitor = GpuMonitor(self.job.gpu)
        began = time.perf_counter()
        with self._guarded(self.job.batch_sizes):
            session = import_runtime(self.job.runtime).open_session(self.job)
            session.prepare(self.sizes[0])  # what cannot be had here shows now
            self.result.load_seconds = time.perf_counter() - began
            return session
        return None

    @contextmanager
    def _guarded(self, sizes: list[int], session: Session | None = None) -> Iterator[None]:
        """Let running out of memory end these batch sizes alone."""
        try:
            yield
        except Exception as problem:
            if not is_out_of_memory(problem):
                raise
            reason = describe_out_of_memory(problem)
            self.cells.update({size: CellResult(status="out_of_memory", reason=reason) for size in sizes})
            if session is not None:
                session.free_cached_memory()

    def _measure(self, session: Session) -> None:
        warm: dict[int, Runs] = {}
        own_gpu_mib: dict[int, float | None] = {}
        for size in self.sizes:
            emit("warm-up", batch_size=size)
            with self._guarded([size], session):
                before = 0.0 if size == self.sizes[0] else self._gpu_mib()
                session.prepare(size)
                prepared = self._gpu_mib()
                warm[size] = self._warm_up(session, size)
                after = self._gpu_mib()
                if prepared is not None and after is not None:
                    self.result.warm_up_gpu_mib = (self.result.warm_up_gpu_mib or 0.0) + after - prepared
                own_gpu_mib[size] = None if before is None or after is None else after - before
        for size, warm_runs in warm.items():
            emit("time", batch_size=size)
            with self._guarded([size], session):
                self._time(session, size, warm_runs)
            if session.is_for_one_batch_size and own_gpu_mib[size] is not None:
                self.cells[size].gpu_mib = own_gpu_mib[size]

    def _gpu_mib(self) -> float | None:
        return self.monitor.grown_memory_mib() if self.monitor else None

    def _warm_up(self, session: Session, size: int) -> Runs:
        # Each batch size is warmed up again right before it is timed: here a GPU captures and allocates what it needs.
        count = self.job.warmup_runs if self.monitor else 1
        batches = one_of_each_shape(session, self.batches[size])
        runs = warm_up(session.run, batches, count * len(batches))
        if self.result.first_run_ms is None:
            self.result.first_run_ms = runs.latencies_ns[0] / 1e6
            if self.job.starts_alone:  # others have waited for their turn
                later_ns = sum(runs.latencies_ns[1:])
                self.result.start_seconds = (time.perf_counter_ns() - self.job.started_ns - later_ns) / 1e9
        return runs

    def _time(self, session: Session, size: int, warm: Runs) -> None:
        before = calibration_loop_ms()
        batches = self.batches[size]
        job, epoch_runs = self.job, 1 if self.job.padding == "fixed" else len(batches)
        budget = Budget(job.min_runs, job.min_seconds, job.max_seconds, epoch_runs)
        again = warm_up(session.run, batches, self.job.warmup_runs)  # other batch sizes ran in between
        load, throttled_before = OtherLoad(), throttled_seconds()
        if self.monitor:
            self.monitor.start_cell()
        runs = time_runs(session.run, batches, budget)
        cell = CellResult(
            status="measured",
            latencies_ns=runs.latencies_ns,
            work=work_of(session, batches, self.encoded),
            other_load_cores=load.cores(),
            quota_throttled_seconds=throttled_seconds() - throttled_before,
            gpu=self.monitor.end_cell() if self.monitor else None,
            host_loop_ms=[before, calibration_loop_ms()],
        )
        grown = self._gpu_mib()
        if grown is not None:
            self.result.peak_gpu_mib = max(self.result.peak_gpu_mib or 0.0, grown)
        cell.comparison = compare([*warm.outputs, *again.outputs, *runs.outputs], self.reference, self.job.task)
        self.cells[size] = cell

    def _profile(self, session: Session) -> None:
        """Record the kernels or operators of every batch size that was timed, which a profiler would slow down."""
        if not self.job.profile or (self.job.device == "cuda" and not can_profile()):
            return
        for size, cell in self.cells.items():
            if cell.status == "measured":
                emit("profile", batch_size=size)
                batches = spread_by_work(session, self.batches[size], PROFILED_RUNS[self.job.device])
                if self.job.device == "cuda":
                    cell.profile = profile_runs(session.run, batches)
                else:
                    times = session.operator_ms([batch.inputs for batch in batches])
                    longest_first = sorted(times, key=lambda name: -times[name])
                    cell.operators = {name: times[name] / len(batches) for name in longest_first}

    def _measure_accuracy(self, session: Session) -> None:
        """Classify labelled sentences once, untimed, at the largest batch size that fits, until the time is up.

        Where there are more than wanted it is a draw, in an order that is every row's.
        """
        job, labels = self.job, self.encoded.labels
        measured = [size for size, cell in self.cells.items() if cell.status == "measured"]
        known = np.flatnonzero(labels >= 0)
        if not (job.measure_accuracy and job.task == "single_label" and len(known) and measured):
            return
        emit("accuracy")
        size, end = max(measured), time.monotonic() + job.accuracy_seconds
        drawn = np.random.default_rng(0).permutation(known)[: job.accuracy_sentences]
        predicted = []
        for start in range(0, len(drawn), size):
            indices = np.resize(drawn[start : start + size], size)
            inputs = pad(self.encoded, indices, job.padding, job.multiple_of)
            predicted.append(session.run(inputs).argmax(axis=1))
            if time.monotonic() > end:
                break
        done = drawn[: len(predicted) * size]
        found = np.concatenate(predicted)[: len(done)]
        self.result.accuracy = compare_labels(found, self.reference[done].argmax(axis=1), labels[done])
        if len(done) < len(drawn):
            self.result.unfinished = (
                f"accuracy of {len(done)} of {len(drawn)} sentences: timing.accuracy_seconds = {job.accuracy_seconds:g}"
            )


if __name__ == "__main__":
    main()
