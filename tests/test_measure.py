"""The timing core, with a clock that the test moves."""

from __future__ import annotations

import gc
import os
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from made_models import MadeModels

from bench.core.model_inputs import AnyBatch
from bench.core.params import Variant, load_params
from bench.inputs.batches import make_batches
from bench.inputs.encoded import Encoded
from bench.timing.measure import Budget, rotated, time_runs, warm_up
from bench.timing.results import CellResult, ProcessResult, summarize_latencies
from bench.timing.worker import Worker
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


def test_a_latency_is_the_time_between_just_before_and_just_after_the_run() -> None:
    machine = Machine(3.0, 5.0)
    runs = time_runs(machine.run, make_batches(encoded(), 1), Budget(4, 0.0, 10.0), machine.clock)
    assert runs.latencies_ns == [3 * MS, 5 * MS, 3 * MS, 5 * MS]


def test_timing_goes_on_until_both_runs_and_seconds_are_reached() -> None:
    machine = Machine(100.0)
    runs = time_runs(machine.run, make_batches(encoded(), 1), Budget(3, 1.0, 10.0), machine.clock)
    assert len(runs.latencies_ns) == 10


def test_a_slow_cell_ends_at_its_time_limit_with_the_runs_it_has() -> None:
    machine = Machine(900.0)
    runs = time_runs(machine.run, make_batches(encoded(), 1), Budget(100, 1.0, 2.0), machine.clock)
    assert len(runs.latencies_ns) == 3


def test_warm_up_runs_are_not_timed_runs_but_their_logits_are_kept() -> None:
    machine = Machine(1.0)
    runs = warm_up(machine.run, make_batches(encoded(), 1), 3, machine.clock)
    assert len(runs.outputs) == 3


def test_runs_walk_through_different_sentences() -> None:
    machine = Machine(1.0)
    time_runs(machine.run, make_batches(encoded(5), 2), Budget(4, 0.0, 10.0), machine.clock)
    assert machine.calls == [0, 2, 4, 0]


def test_a_batch_larger_than_the_set_repeats_sentences() -> None:
    assert make_batches(encoded(3), 7)[0].indices.tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_the_garbage_collector_never_interrupts_a_timed_run() -> None:
    states = []

    def run(batch: AnyBatch) -> Any:
        states.append(gc.isenabled())
        return np.zeros((len(batch), 2), dtype=np.float32)

    time_runs(run, make_batches(encoded(), 1), Budget(3, 0.0, 10.0))
    assert states == [False] * 3
    assert gc.isenabled()


def test_each_process_starts_with_another_batch_size() -> None:
    assert [rotated([1, 4, 8], turn)[0] for turn in range(4)] == [1, 4, 8, 1]


@pytest.mark.parametrize("count", [20, 21, 57, 1000])
def test_percentiles_are_numpys(count: int) -> None:
    latencies = np.random.default_rng(count).lognormal(size=count)
    figures = summarize_latencies([latencies.tolist()], 4)
    assert figures["p50_ms"] == pytest.approx(np.median(latencies))
    assert figures["p95_ms"] == pytest.approx(np.percentile(latencies, 95))
    assert figures["samples_per_s"] == pytest.approx(4000 / latencies.mean())


def test_each_process_counts_once_however_many_runs_it_had() -> None:
    figures = summarize_latencies([[1.0] * 1000, [4.0] * 20], 1)
    assert figures["p50_ms"] == figures["mean_ms"] == figures["p95_ms"] == pytest.approx(2.0)
    assert figures["process_p50_ms"] == [1.0, 4.0]


def test_p95_is_left_out_where_too_few_runs_support_it_in_one_process() -> None:
    assert "p95_ms" not in summarize_latencies([[1.0] * 19], 1)
    assert "p95_ms" not in summarize_latencies([[1.0] * 19, [1.0] * 100], 1)
    assert "p95_ms" in summarize_latencies([[1.0] * 20], 1)


def after(fate: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit_seconds: float = 30) -> dict[str, Any]:
    """Return what is left of a worker that measures and then meets its fate."""
    monkeypatch.setenv("UNTIMED", fate)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests/stand_ins")]))
    variant = {"runtime": "onnxruntime", "device": "cpu", "precision": "fp32", "graph": "model"}
    job = make_job("row", Variant.model_validate(variant), load_params(ROOT / "params.yaml"))
    return WorkerProcess(job, tmp_path, "untimed_worker").run(limit_seconds, lambda _: None)


@pytest.mark.parametrize(
    ("fate", "reason"),
    [("dies", "ended with code 3: no memory"), ("refuses", "code 1: .*no such operator"), ("ends", "^$")],
)
def test_what_was_measured_outlives_its_worker(
    fate: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = after(fate, tmp_path, monkeypatch)
    assert found["status"] == "measured"
    assert re.search(reason, found.get("unfinished", ""))


def test_untimed_passes_have_the_limit_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hung = after("hangs", tmp_path, monkeypatch, 3)
    assert hung["status"] == "measured"
    assert "took longer than timing.worker_limit_seconds = 3" in hung["unfinished"]
    assert "lower timing.accuracy_sentences" in hung["unfinished"]


def test_a_library_that_is_missing_skips_the_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert after("early", tmp_path, monkeypatch) == {
        "status": "skipped",
        "reason": "cannot be imported: No module named 'x': install it",
    }


@pytest.mark.parametrize(
    ("most", "seconds", "labelled"), [(5000, 600.0, 10), (4, 600.0, 4), (5000, 1e-9, 3)], ids=["all", "some", "no time"]
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
    worker.cells = {3: CellResult(status="measured")}
    worker._measure_accuracy(found.session("onnxruntime", "fp32", "fp32.onnx"))
    counts = worker.result.accuracy
    assert counts is not None
    assert (counts.labelled, counts.right) == (labelled, labelled)
    assert bool(worker.result.unfinished) == (seconds < 1)
