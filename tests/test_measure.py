"""The timing core, with a clock that the test moves."""

from __future__ import annotations

import gc
import math
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from made_models import MadeModels

from bench.core.errors import WorkerError
from bench.core.model_inputs import AnyBatch
from bench.core.params import Variant, load_params
from bench.inputs.batches import IndexedBatch, make_batches
from bench.inputs.encoded import Encoded
from bench.timing.measure import BLOCK_MS, MOST_CALLS, Runs, block_calls, run_block, run_each, run_for
from bench.timing.results import Block, CellResult, ProcessResult, figures_of
from bench.timing.worker import Worker
from bench.workers import protocol
from bench.workers.launcher import WorkerProcess
from bench.workers.protocol import make_job

MS = 1_000_000


class Machine:
    """A runtime whose runs take what the test says, and the clock that sees it."""

    def __init__(self, *run_ms: float) -> None:
        self.now = 0
        self.calls: list[int] = []
        self.run_ms = run_ms

    def clock(self) -> int:
        return self.now

    def run(self, batch: AnyBatch) -> Any:
        self.now += round(self.run_ms[len(self.calls) % len(self.run_ms)] * MS)
        self.calls.append(int(batch.ids[0, 0]))
        return np.zeros((len(batch), 2), dtype=np.float32)


def encoded(sentences: int = 5) -> Encoded:
    ids = np.arange(sentences, dtype=np.int64)[:, None] * np.ones((1, 4), dtype=np.int64)
    return Encoded(ids, np.ones_like(ids), np.zeros(sentences, dtype=np.int64))


def batches(sentences: int = 5, size: int = 1) -> list[IndexedBatch]:
    return list(chain(*make_batches(encoded(sentences), size)))


def test_a_latency_is_the_time_between_just_before_and_just_after_the_run() -> None:
    machine = Machine(3.0, 5.0)
    assert run_each(machine.run, batches()[:4], machine.clock).latencies_ns == [3 * MS, 5 * MS, 3 * MS, 5 * MS]


def test_runs_for_some_time_run_every_batch_and_end() -> None:
    machine = Machine(100.0)
    assert len(run_for(machine.run, batches()[:3], 0.95, machine.clock).latencies_ns) == 12
    assert len(run_for(machine.run, batches()[:3], 0.0, machine.clock).latencies_ns) == 3


@pytest.mark.parametrize(
    ("call_ms", "batches", "are_alike", "calls"),
    [
        (3.0, 8, True, 10),
        (4.0, 8, True, 8),
        (0.01, 8, True, MOST_CALLS),
        (500.0, 8, True, 1),
        (1.0, 8, False, 32),
        (10.0, 8, False, 8),
        (400.0, 4, False, 4),
        (1500.0, 2, False, 1),
    ],
)
def test_a_block_takes_about_30_ms_and_at_least_a_call(
    call_ms: float, batches: int, are_alike: bool, calls: int
) -> None:
    assert block_calls(call_ms, batches, are_alike) == calls


def test_the_first_call_of_a_block_is_untimed_where_calls_are_short() -> None:
    short, long = Machine(90.0, 3.0, 3.0, 3.0), Machine(250.0)
    block = run_block(short.run, batches()[:2], 3, 3.0, short.clock)
    assert block.latencies_ns == [3 * MS] * 3
    assert short.calls[1:] == [short.calls[1], short.calls[0], short.calls[1]]
    assert len(block.outputs) == 3
    run_block(long.run, batches()[:2], 1, 250.0, long.clock)
    assert len(long.calls) == 1


def test_the_garbage_collector_never_interrupts_a_timed_run() -> None:
    states = []

    def run(batch: AnyBatch) -> Any:
        states.append(gc.isenabled())
        return np.zeros((len(batch), 2), dtype=np.float32)

    run_each(run, batches()[:3])
    assert states == [False] * 3
    assert gc.isenabled()


def test_a_median_needs_a_run() -> None:
    assert Runs([1 * MS, 4 * MS, 3 * MS]).median_ms() == 3.0
    with pytest.raises(ValueError, match="no median"):
        Runs().median_ms()


def block(number: int, ms: Sequence[float], process: int = 0) -> Block:
    return Block(process=process, number=number, latencies_ns=[round(each * MS) for each in ms])


@pytest.mark.parametrize("count", [20, 21, 57, 1000])
def test_percentiles_are_numpys_of_all_calls(count: int) -> None:
    latencies = np.random.default_rng(count).lognormal(size=count)
    parts = np.array_split(latencies, 4)
    figures = figures_of([block(number, part.tolist()) for number, part in enumerate(parts)], 4)
    assert figures["p95_ms"] == pytest.approx(np.percentile(latencies, 95), rel=1e-5)
    assert figures["p50_ms"] == pytest.approx(np.exp(np.mean([np.log(np.median(part)) for part in parts])), rel=1e-5)
    assert figures["mean_ms"] == pytest.approx(np.exp(np.mean([np.log(part.mean()) for part in parts])), rel=1e-5)
    assert figures["samples_per_s"] == pytest.approx(4000 / figures["mean_ms"])
    assert figures["runs"] == count


def test_each_pass_counts_once_however_many_calls_or_processes_it_had() -> None:
    figures = figures_of([block(0, [1.0] * 1000), block(1, [2.0] * 20), block(1, [8.0] * 3, process=1)], 1)
    assert figures["p50_ms"] == figures["mean_ms"] == pytest.approx(2.0)
    assert (figures["passes"], figures["processes"]) == ([0, 1, 1], [0, 0, 1])
    assert figures["block_p50_ms"] == figures["block_mean_ms"] == [1.0, 2.0, 8.0]
    assert [len(calls) for calls in figures["latencies_ms"]] == [1000, 20, 3]


def test_p95_needs_calls_enough_and_its_interval_parts_of_as_many() -> None:
    def parts(blocks: int, calls: int) -> tuple[bool, int]:
        figures = figures_of([block(number, [1.0] * calls) for number in range(blocks)], 1)
        return figures["p95_ms"] is not None, len(figures["part_p95_ms"])

    assert parts(1, 19) == (False, 0)
    assert parts(1, 20) == (True, 0)
    assert parts(2, 20) == (True, 2)
    assert parts(40, 1) == (True, 2)
    assert parts(60, 32) == (True, 12)


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[WorkerProcess]:
    """A worker whose second block is its fate."""
    monkeypatch.setenv("FATE", request.param)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests/stand_ins")]))
    variant = {"runtime": "onnxruntime", "device": "cpu", "precision": "fp32", "graph": "model"}
    job = make_job("row", Variant.model_validate(variant), load_params(ROOT / "params.yaml"))
    started = WorkerProcess(job, tmp_path, "asked_worker")
    started.wait_until_ready(60)
    yield started
    started.end()


@pytest.mark.parametrize(
    ("worker", "reason"),
    [
        ("dies", r"ended with code 3; .*\n +no memory for the block"),
        ("hangs", r"the worker hung in a block for 2 s and was ended"),
    ],
    indirect=["worker"],
)
def test_a_worker_that_dies_or_hangs_in_a_block_says_why(worker: WorkerProcess, reason: str) -> None:
    assert worker.ask("block", 60, number=0) == {"event": "answer", "status": "measured", "latencies_ns": [0]}
    with pytest.raises(WorkerError, match=f"(?s){reason}"):
        worker.ask("block", 2, number=1)


@pytest.mark.parametrize(
    ("worker", "status", "reason"),
    [
        ("refuses", "rejected", "NotImplementedError: no such operator"),
        ("cannot be imported", "skipped", "cannot be imported: No module named 'x': install it"),
    ],
    indirect=["worker"],
)
def test_a_worker_that_cannot_go_on_answers_with_the_reason(worker: WorkerProcess, status: str, reason: str) -> None:
    answer = worker.ask("block", 60, number=1)
    assert (answer["status"], answer.get("reason")) == (status, reason)


def test_a_worker_of_another_checkout_runs_its_code_there(tmp_path: Path) -> None:
    home, scratch = tmp_path / "home", tmp_path / "scratch"
    (home / "stand_in").mkdir(parents=True)
    scratch.mkdir()
    code = (
        """import os; print('@bench {"event": "ready"}', flush=True); print('in', os.getcwd()); raise SystemExit(3)"""
    )
    (home / "stand_in/__main__.py").write_text(code, encoding="utf-8")
    variant = {"runtime": "onnxruntime", "device": "cpu", "precision": "fp32", "graph": "model"}
    job = make_job("row", Variant.model_validate(variant), load_params(ROOT / "params.yaml"))
    with WorkerProcess(job, scratch, "stand_in", python=sys.executable, home=home) as worker:
        worker.wait_until_ready(60)
        with pytest.raises(WorkerError, match=f"(?s)in .*{home.name}$"):
            worker.ask("open", 60)


def resident(sizes: Sequence[int], run: Any, padding: str = "fixed") -> Worker:
    """Return a worker whose batch sizes are warm, with a session of the test's."""
    found = object.__new__(Worker)
    found.job = SimpleNamespace(padding=padding, task="single_label")  # type: ignore[assignment]
    found.sets = {size: make_batches(encoded(64), size) for size in sizes}
    found.session = SimpleNamespace(run=run, free_cached_memory=lambda: None)  # type: ignore[assignment]
    found.reference = np.zeros((64, 2), dtype=np.float32)
    found.cells = {size: CellResult(status="measured") for size in sizes}
    found.call_ms, found.compared = dict.fromkeys(sizes, 1.0), {}
    found.predicted = np.full(64, -1, dtype=np.int64)
    return found


def test_every_row_runs_the_same_sentences_in_a_pass_and_other_ones_in_the_next() -> None:
    seen: list[int] = []

    def run(batch: AnyBatch) -> Any:
        seen.extend(batch.ids[:, 0].tolist())
        return np.zeros((len(batch), 2), dtype=np.float32)

    passes = []
    for _ in range(2):
        of_row = resident([4], run)
        for number in range(4):
            seen.clear()
            of_row.block(4, number)
            passes.append(set(seen))
    assert passes[:4] == passes[4:]
    assert passes[0].isdisjoint(passes[1])
    assert set().union(*passes) == set(range(64))


def test_a_batch_size_that_runs_out_of_memory_ends_alone() -> None:
    def run(batch: AnyBatch) -> Any:
        if len(batch) == 8:
            raise MemoryError
        return np.zeros((len(batch), 2), dtype=np.float32)

    found = resident([4, 8], run)
    lost = found.block(8, 0)
    assert lost["latencies_ns"] == []
    assert lost["reason"] == "MemoryError"
    assert (found.cells[8].status, found.cells[4].status) == ("out_of_memory", "measured")
    answer = found.block(4, 0)
    assert answer["reason"] == ""
    assert len(answer["latencies_ns"]) == pytest.approx(BLOCK_MS)


@pytest.mark.parametrize(
    ("most", "seconds", "labelled"), [(5000, 600.0, 10), (4, 600.0, 4), (5000, -1.0, 3)], ids=["all", "some", "no time"]
)
def test_accuracy_is_of_a_draw_and_ends_in_time(most: int, seconds: float, labelled: int, made: MadeModels) -> None:
    found = made("distilbert")
    right = found.wanted.argmax(axis=1)
    labels = np.where(np.arange(len(right)) == 1, -1, right)
    worker = object.__new__(Worker)
    worker.job = SimpleNamespace(  # type: ignore[assignment]
        measure_accuracy=True, task="single_label", accuracy_sentences=most, accuracy_seconds=seconds,
        padding="fixed", multiple_of=8,
    )  # fmt: skip
    worker.encoded, worker.reference = replace(found.encoded, labels=labels), found.wanted
    worker.result = ProcessResult(status="measured")
    worker.cells, worker.compared = {3: CellResult(status="measured")}, {}
    worker.session = found.session("onnxruntime", "fp32", "fp32.onnx")
    worker.predicted = np.full(len(right), -1)
    if seconds < 0:  # blocks classified three sentences, before the time was up
        worker.predicted[[0, 2, 3]] = right[[0, 2, 3]]
    worker.end()
    assert not worker.result.is_accuracy_taken, "blocks met no more than a share"
    given = worker.labels()["labels"]
    worker.end()
    counts = worker.result.accuracy
    assert counts is not None
    assert worker.result.is_accuracy_taken
    assert (counts.labelled, counts.right) == (labelled, labelled)
    assert {label for label, wanted in zip(given, right, strict=True) if label != wanted} <= {-1}
    assert sum(label >= 0 for label in given) == labelled
    assert bool(worker.result.unfinished) == (seconds < 0)


@pytest.mark.parametrize(("spins_s", "rested_s"), [(0.0, 0.004), (0.03, 0.034), (math.inf, 0.2)])
def test_a_worker_rests_until_its_threads_sleep_but_not_for_ever(
    spins_s: float, rested_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads of a pool spin on after a call, on a core that the next row needs."""
    slept: list[float] = []
    clock = SimpleNamespace(
        perf_counter=lambda: sum(slept), process_time=lambda: min(sum(slept), spins_s), sleep=slept.append
    )
    monkeypatch.setattr(protocol, "time", clock)
    monkeypatch.setattr(protocol, "REST_SECONDS", 0.004)
    protocol.rest()
    assert sum(slept) == pytest.approx(rested_s, abs=0.0041)
