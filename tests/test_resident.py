"""Workers that are started side by side, and what becomes of those that find no memory or fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from bench.core.errors import MemoryShortage, WorkerError
from bench.core.params import load_params
from bench.timing import resident
from bench.timing.blocks import TimedRows
from bench.timing.resident import KEPT_FREE_MIB, WORKER_MIB, Fault, Row

PARAMS = load_params(ROOT / "params.yaml")
A, B, COMPILED = "ort_cpu_fp32", "openvino_cpu_fp32", "torch_compile_cpu_fp32"


class Started:
    """A worker that opens, or fails as the test says."""

    def __init__(self, fault: WorkerError | None) -> None:
        self.fault, self.has_ended = fault, False

    def wait_until_ready(self, _limit_seconds: float) -> None:
        if self.has_ended:
            raise WorkerError("it was ended")

    def ask(self, _request: str, _limit_seconds: float) -> dict[str, Any]:
        if self.fault:
            raise self.fault
        return {"status": "measured", "cells": {}}

    def host_mib(self) -> float:
        return WORKER_MIB

    def end(self) -> None:
        self.has_ended = True


class Bench(TimedRows):
    """Rows whose workers are stand-ins; there is memory for as many as `room`."""

    room = 100
    started: list[str]

    def launch(self, row: Row, process: int, *_: Any) -> Any:
        self.started.append(f"{row.name} {process}")
        return Started(self.faulty(row.name, process))

    @staticmethod
    def faulty(_name: str, _process: int) -> WorkerError | None:
        return None

    def free_mib(self) -> float:
        return KEPT_FREE_MIB + WORKER_MIB * (self.room - len(self.started))

    def counts(self) -> dict[str, int]:
        return {name: len(workers) for name, workers in self.workers.items()}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    rows = [Row(name, name, PARAMS.variant(name)) for name in (A, B, COMPILED)]
    made = Bench(rows, PARAMS, "single_label", tmp_path, lambda: False)
    made.started, made._width = [], 1
    monkeypatch.setattr(resident, "free_host_mib", made.free_mib)
    return made


def test_rows_that_find_no_memory_wait_and_the_others_run(bench: Bench) -> None:
    bench.room = 2
    assert bench.start([A, B, COMPILED]) == [B]
    assert (bench.counts(), bench.faults) == ({COMPILED: 1, A: 1}, {})


def test_first_processes_come_before_second_ones(bench: Bench) -> None:
    bench.room = 4
    assert bench.start([A, B, COMPILED] * 2) == []
    assert bench.started == [f"{COMPILED} 0", f"{A} 0", f"{B} 0", f"{COMPILED} 1"]
    assert bench.remarks == dict.fromkeys((A, B), "one process: no memory for a second one")


def test_a_further_process_without_memory_is_told(bench: Bench) -> None:
    bench.start([A])
    bench.room = 1
    assert bench.add_processes([A]) == []
    assert bench.remarks == {A: "one process: no memory for a second one"}
    bench.room = 2
    assert bench.add_processes([A]) == [A]


def test_a_first_process_that_fails_ends_its_row(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = {(A, 0), (B, 1)}
    monkeypatch.setattr(bench, "faulty", lambda *place: WorkerError("broken") if place in failing else None)
    bench._width = 4
    assert bench.start([A, B, COMPILED] * 2) == []
    assert bench.counts() == {B: 1, COMPILED: 2}
    assert bench.faults == {A: Fault("failed", "broken")}
    assert bench.remarks == {B: "process 2: broken"}


def test_a_row_that_does_not_fit_alone_says_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "faulty", lambda name, _process: MemoryShortage("GPU memory") if name == A else None)
    bench.start([A, B])
    assert bench.faults == {A: Fault("out_of_memory", "GPU memory")}
    assert bench.counts() == {B: 1}
