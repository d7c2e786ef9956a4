"""The measuring process of a row: it opens its session, runs every shape, and waits for what it is asked.

    python -m bench.timing.worker JOB_FILE

Nothing else runs here: one runtime a process, so that the thread pools of two runtimes never fight, and settings read
at start-up are the variant's own.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from bench.inputs.batches import make_batches, pad
from bench.inputs.encoded import Encoded, load_encoded, load_reference
from bench.runtimes.base.registry import import_runtime
from bench.runtimes.base.session import Session
from bench.timing import measure
from bench.timing.monitors import GpuMonitor, can_profile, peak_host_mib, profile_runs
from bench.timing.quality import Comparison, compare, compare_labels, together
from bench.timing.results import CellResult, ProcessResult
from bench.workers.protocol import Job, answer_requests
from bench.workers.unsupported import describe_out_of_memory, is_out_of_memory

PROFILED_RUNS = {"cpu": 3, "cuda": 5}
WARM_UP_SECONDS = 0.1
"""Of a batch size, after each shape: what a call takes is then known, which sizes the first block."""
ENERGY_SECONDS = 1.0
"""The GPU's counter steps ten times a second: a window of a second is good to 10%."""


def main() -> None:
    job = Job.read(Path(sys.argv[1]))
    worker = Worker(job)
    requests = (worker.open, worker.block, worker.alone, worker.labels, worker.end)
    answer_requests(import_runtime(job.runtime).import_libraries, {request.__name__: request for request in requests})


class Worker:
    """Answers the requests of one job's coordinator."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.encoded: Encoded = load_encoded(Path(job.inputs))
        self.reference = load_reference(Path(job.inputs))
        self.sets = {size: make_batches(self.encoded, size, job.padding, job.multiple_of) for size in job.batch_sizes}
        self.monitor = GpuMonitor(job.gpu) if job.gpu is not None else None
        self.result = ProcessResult(status="measured")
        self.cells = self.result.cells
        self.call_ms: dict[int, float] = {}
        self.compared: dict[int, Comparison] = {}
        self.predicted = np.full(len(self.encoded), -1, dtype=np.int64)

    def open(self) -> dict[str, Any]:
        """Load the session and run every shape; return each batch size's status."""
        began = time.perf_counter()
        with self._guarded(self.job.batch_sizes):
            self.session: Session = import_runtime(self.job.runtime).open_session(self.job)
            self.session.prepare(self.job.batch_sizes[0])  # what cannot be had here shows now
            self.result.load_seconds = time.perf_counter() - began
            for size in self.job.batch_sizes:
                with self._guarded([size]):
                    self._warm_up(size)
        return {"cells": {size: {"status": cell.status, "reason": cell.reason} for size, cell in self.cells.items()}}

    def _warm_up(self, size: int) -> None:
        is_first = self.result.first_run_ms is None
        before = 0.0 if is_first else self._gpu_mib()
        self.session.prepare(size)
        prepared = self._gpu_mib()
        batches = list(chain(*self.sets[size]))
        shapes = measure.one_of_each_shape(self.session, batches)
        count = self.job.warmup_runs if self.monitor else 1  # a GPU's shapes are captured and tuned in the first runs
        runs = measure.run_each(self.session.run, chain.from_iterable([shapes] * count))
        if is_first:
            self.result.first_run_ms = runs.latencies_ns[0] / 1e6
            later_ns = sum(runs.latencies_ns[1:])
            self.result.start_seconds = (time.perf_counter_ns() - self.job.started_ns - later_ns) / 1e9
        after = self._gpu_mib()
        if prepared is not None and after is not None:
            self.result.warm_up_gpu_mib = (self.result.warm_up_gpu_mib or 0.0) + after - prepared
        again = measure.run_for(self.session.run, measure.spread_by_work(self.session, batches, 1), WARM_UP_SECONDS)
        self._check(size, runs)
        self._check(size, again)
        self.call_ms[size] = again.median_ms()
        self.cells[size] = CellResult(status="measured", work=measure.work_of(self.session, batches, self.encoded))
        if self.session.is_for_one_batch_size and before is not None and after is not None:
            self.cells[size].gpu_mib = after - before

    @contextmanager
    def _guarded(self, sizes: list[int]) -> Iterator[None]:
        """Let running out of memory end these batch sizes alone."""
        try:
            yield
        except Exception as problem:
            if not is_out_of_memory(problem):
                raise
            reason = describe_out_of_memory(problem)
            self.cells.update({size: CellResult(status="out_of_memory", reason=reason) for size in sizes})
            if hasattr(self, "session"):
                self.session.free_cached_memory()

    def block(self, size: int, number: int) -> dict[str, Any]:
        """Run a block of pass `number`; return its latencies, none and the reason where memory ran out."""
        sets = self.sets[size]
        batches, runs = sets[number % len(sets)], measure.Runs()
        if self.cells[size].status != "measured":
            return {"latencies_ns": [], "reason": self.cells[size].reason}
        with self._guarded([size]):
            calls = measure.block_calls(self.call_ms[size], len(batches), self.job.padding == "fixed")
            turned = number // len(sets) % len(batches)  # where calls are few, others of the set come next time
            batches = batches[turned:] + batches[:turned]
            runs = measure.run_block(self.session.run, batches, calls, self.call_ms[size])
            self.call_ms[size] = runs.median_ms()
            self._check(size, runs)
        return {"latencies_ns": runs.latencies_ns, "reason": self.cells[size].reason}

    def _check(self, size: int, runs: measure.Runs) -> None:
        """Compare what came; how often a sentence agrees counts once, however often its batch is run."""
        seen = set(self.compared[size].seen) if size in self.compared else set[int]()
        found = [self.compared[size]] if size in self.compared else []
        new, again = list[measure.Output](), list[measure.Output]()
        for indices, logits in runs.outputs:
            numbers = indices.tolist()
            (new if seen.isdisjoint(numbers) else again).append((indices, logits))
            seen.update(numbers)
        if new:
            found.append(compare(new, self.reference, self.job.task))
        if again:
            own = compare(again, self.reference, self.job.task)
            found.append(replace(own, agreeing=0, compared=0, sums=[]))
        self.compared[size] = together(found)
        if self.job.task == "single_label" and not self.compared[size].fault:
            for indices, logits in runs.outputs:
                self.predicted[indices] = logits.argmax(axis=1)

    def alone(self) -> dict[str, Any]:
        """Measure energy and memory, which are the device's; profile; classify what is labelled."""
        for size, cell in self.cells.items():
            if cell.status == "measured":
                with self._guarded([size]):
                    self._run_alone(size, cell)
        self._measure_accuracy()
        return {}

    def _run_alone(self, size: int, cell: CellResult) -> None:
        batches = list(chain(*self.sets[size]))
        if self.monitor:
            self.monitor.start_cell()
            runs = measure.run_for(self.session.run, batches, ENERGY_SECONDS)
            cell.gpu, cell.gpu_runs = self.monitor.end_cell(), len(runs.latencies_ns)
            grown = self._gpu_mib()
            if grown is not None:
                self.result.peak_gpu_mib = max(self.result.peak_gpu_mib or 0.0, grown)
        if self.job.device == "cpu":
            chosen = measure.spread_by_work(self.session, batches, PROFILED_RUNS["cpu"])
            times = self.session.operator_ms([batch.inputs for batch in chosen])
            longest_first = sorted(times, key=lambda name: -times[name])
            cell.operators = {name: times[name] / len(chosen) for name in longest_first}
        elif can_profile():
            chosen = measure.spread_by_work(self.session, batches, PROFILED_RUNS["cuda"])
            cell.profile = profile_runs(self.session.run, chosen)

    def _gpu_mib(self) -> float | None:
        return self.monitor.grown_memory_mib() if self.monitor else None

    def _measure_accuracy(self) -> None:
        """Classify labelled sentences once, untimed, at the largest batch size that fits, until the time is up."""
        job = self.job
        measured = [size for size, cell in self.cells.items() if cell.status == "measured"]
        drawn = self._labelled()
        missing = drawn[self.predicted[drawn] < 0]
        if job.task != "single_label" or not job.measure_accuracy or not measured:
            return
        size, end = max(measured), time.monotonic() + job.accuracy_seconds
        for start in range(0, len(missing), size):
            if time.monotonic() > end:
                done = int((self.predicted[drawn] >= 0).sum())
                self.result.unfinished = (
                    f"accuracy of {done} of {len(drawn)} sentences: timing.accuracy_seconds = {job.accuracy_seconds:g}"
                )
                break
            indices = np.resize(missing[start : start + size], size)
            logits = self.session.run(pad(self.encoded, indices, job.padding, job.multiple_of))
            self.predicted[indices] = logits.argmax(axis=1)

    def _labelled(self) -> "np.typing.NDArray[np.int64]":
        """Return the numbers of labelled sentences, where there are more than wanted a draw that is every row's."""
        known = np.flatnonzero(self.encoded.labels >= 0)
        return np.random.default_rng(0).permutation(known)[: self.job.accuracy_sentences]

    def labels(self) -> dict[str, Any]:
        """Classify what is labelled; return each sentence's label, -1 where it was not run."""
        self._measure_accuracy()
        return {"labels": self.predicted.tolist()}

    def end(self) -> dict[str, Any]:
        for size, cell in self.cells.items():
            cell.comparison = self.compared.get(size)
        self.result.peak_host_mib = peak_host_mib()
        if hasattr(self, "session"):
            self.result.evidence = self.session.evidence()
        drawn = self._labelled()
        done = drawn[self.predicted[drawn] >= 0]
        if self.job.measure_accuracy and self.job.task == "single_label" and len(done):
            found = self.predicted[done], self.reference[done].argmax(axis=1), self.encoded.labels[done]
            self.result.accuracy = compare_labels(*found)
            self.result.is_accuracy_taken = len(done) == len(drawn) or bool(self.result.unfinished)
        return self.result.model_dump()


if __name__ == "__main__":
    main()
