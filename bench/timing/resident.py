"""The worker processes of rows that are timed together: all open and waiting, one at a time running a block."""

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.core.errors import WorkerError
from bench.core.interrupt import CUT_SHORT
from bench.core.model_inputs import Task
from bench.core.params import Params, Variant
from bench.core.paths import ENGINES
from bench.core.progress import log
from bench.core.reports import PassConditions
from bench.core.schemas import Status
from bench.machine.cores import physical_cores, throttled_seconds
from bench.machine.gpus import gpu_to_time
from bench.machine.memory import free_host_mib
from bench.timing.monitors import ClockCheck, GpuMonitor, OtherLoad, calibration_loop_ms
from bench.timing.passes import Cell
from bench.timing.results import Block, ProcessResult
from bench.workers.engines import changed_engine, copy_engine, read_record
from bench.workers.launcher import WorkerProcess
from bench.workers.protocol import make_job

WORKER_MIB = 700.0
"""Host memory that a worker takes before one is known: PyTorch with its libraries and a small model."""
KEPT_FREE_MIB = 1024.0
REST_SECONDS = 0.004
"""Between blocks of different rows: threads of a pool spin on for some milliseconds after a call."""
BLOCK_LIMIT_SECONDS = 60.0
LONGER_THAN_USUAL = 30.0
"""A block that takes a minute, and so many times as long as the row's blocks before, hangs."""


@dataclass(frozen=True)
class Row:
    """A variant in the passes, by a name that no other row there has."""

    name: str
    key: str
    variant: Variant
    is_reported: bool = field(default=True, kw_only=True)
    """Not an anchor or the A/A row, which are there to compare others through."""


@dataclass(frozen=True)
class Fault:
    """Why a row gives nothing more: `failed`, `skipped`, `rejected` or `out_of_memory`, with the reason."""

    status: Status
    reason: str


class Resident:
    """Workers of rows; `block`, `add_processes` and `is_whole` are what the passes ask for."""

    def __init__(
        self, rows: Sequence[Row], params: Params, task: Task, scratch: Path, is_cut: Callable[[], bool]
    ) -> None:
        self.by_name = {row.name: row for row in rows}
        self.params, self.task, self.scratch, self.is_cut = params, task, scratch, is_cut
        self.workers: dict[str, list[WorkerProcess]] = {}
        self.faults: dict[str, Fault] = {}
        self.remarks: dict[str, str] = {}
        self.no_memory: dict[Cell, str] = {}
        self.blocks: dict[Cell, list[Block]] = {}
        self.results: dict[str, list[ProcessResult]] = {}
        self.conditions: list[PassConditions] = []
        self.busy_seconds = 0.0
        self._usual: dict[Cell, float] = {}
        self._last = ""
        self._worker_mib = WORKER_MIB
        self._worker_gpu_mib = WORKER_MIB
        device = rows[0].variant.device
        gpu = gpu_to_time(params.timing.gpu_index) if device == "cuda" else None
        self.gpu = GpuMonitor(gpu) if gpu else None
        self._width = physical_cores() if device == "cuda" else 2
        self.engine_states: dict[str, dict[str, str]] = {}

    def start(self, names: Sequence[str]) -> list[str]:
        """Start a process of each row, side by side; return those that found no memory for now."""
        waiting, late = list(names), list[str]()
        with ThreadPoolExecutor(self._width) as pool:
            running: dict[Future[None], str] = {}
            while waiting or running:
                while waiting and len(running) < self._width and not self.is_cut():
                    name = waiting.pop(0)
                    if self.workers and not self._fits(len(running) + 1):
                        late.append(name)
                        continue
                    running[pool.submit(self._open, name)] = name
                if not running:
                    break
                done, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in done:
                    running.pop(future)
                    future.result()
                self._learn_sizes()
                if self.is_cut():
                    waiting.clear()
                    for name in running.values():
                        self._end_workers(name)
        return late

    def _fits(self, together: int) -> bool:
        """Tell whether so many further workers find host and GPU memory, by what the largest ones took."""
        if free_host_mib() < together * self._worker_mib + KEPT_FREE_MIB:
            return False
        free = self.gpu.free_memory_mib() if self.gpu else None
        return free is None or free >= together * self._worker_gpu_mib

    def _learn_sizes(self) -> None:
        sizes = [worker.host_mib() for workers in list(self.workers.values()) for worker in workers]
        self._worker_mib = max([self._worker_mib, *sizes])
        grown = self.gpu.grown_memory_mib() if self.gpu else None
        if grown and sizes:
            self._worker_gpu_mib = max(self._worker_gpu_mib, grown / len(sizes))

    def _open(self, name: str) -> None:
        """Start one process of a row and open its session; a fault of the first one is the row's."""
        row, process = self.by_name[name], len(self.workers.get(name, []))
        limit = self.params.timing.worker_limit_seconds
        try:
            worker = self._worker(row, process, self.folder(name))
            self.workers.setdefault(name, []).append(worker)
            worker.wait_until_ready(limit)
            answer = worker.ask("open", limit)
            fault = None if answer["status"] == "measured" else Fault(answer["status"], answer.get("reason", ""))
            if fault is None:
                self._keep_no_memory(name, answer["cells"])
        except WorkerError as problem:
            fault = Fault("skipped", CUT_SHORT) if self.is_cut() else Fault("failed", str(problem))
        if fault is None:
            log(f"  {name} is ready{f' (process {process + 1})' if process else ''}")
        elif process == 0:
            self.faults[name] = fault
            self._end_workers(name)
        else:
            self.remarks[name] = f"process {process + 1}: {fault.reason}"
            self.workers[name].pop().end()

    def _worker(self, row: Row, process: int, folder: Path) -> WorkerProcess:
        engine = self._engine(row, folder) if row.variant.runtime == "tensorrt" else None
        job = make_job(row.key, row.variant, self.params, engine)
        return WorkerProcess(replace(job, process=process, task=self.task, measure_accuracy=row.is_reported), folder)

    def _engine(self, row: Row, folder: Path) -> Path:
        copy, built = folder / "engine", ENGINES / row.key
        if not copy.exists():
            self.engine_states[row.name] = copy_engine(built / read_record(built).folder, copy)
        return copy

    def _keep_no_memory(self, name: str, cells: dict[str, Any]) -> None:
        for size, cell in cells.items():
            if cell["status"] != "measured":
                self.no_memory[Cell(name, int(size))] = cell["reason"]

    def folder(self, name: str) -> Path:
        """Return the scratch folder of a row's workers."""
        folder = self.scratch / name.replace("/", "_")
        folder.mkdir(exist_ok=True)
        return folder

    def running(self) -> list[str]:
        """Return the rows that can be timed."""
        return [name for name in self.by_name if name in self.workers and name not in self.faults]

    def sizes(self, name: str) -> list[int]:
        """Return the batch sizes of a row that fit into memory."""
        sizes = self.params.sizes(self.by_name[name].variant.device)
        return [size for size in sizes if Cell(name, size) not in self.no_memory]

    def begin_pass(self) -> None:
        """Note the counters before a pass."""
        self._began = time.perf_counter()
        self._clock, self._throttled = ClockCheck(), throttled_seconds()
        self._load, self._own = OtherLoad(), self._cpu_seconds()
        self._loop_ms = calibration_loop_ms()
        if self.gpu:
            self.gpu.start_cell()

    def block(self, cell: Cell, process: int, number: int) -> float | None:
        """Run a block; return its median in ms, None where that process gives none of this cell any more."""
        if cell.row in self.faults or cell in self.no_memory or process >= len(self.workers.get(cell.row, [])):
            return None
        if cell.row != self._last:
            time.sleep(REST_SECONDS)
        self._last = cell.row
        began = time.perf_counter()
        limit = BLOCK_LIMIT_SECONDS + LONGER_THAN_USUAL * self._usual.get(cell, 0.0)
        try:
            answer = self.workers[cell.row][process].ask("block", limit, size=cell.size, number=number)
        except WorkerError as problem:
            self.faults[cell.row] = Fault("failed", str(problem))
            self._end_workers(cell.row)
            return None
        self._usual[cell] = time.perf_counter() - began
        if not answer.get("latencies_ns"):
            self._lost(cell, process, answer)
            return None
        block = Block(process=process, number=number, latencies_ns=answer["latencies_ns"])
        self.busy_seconds += sum(block.latencies_ns) / 1e9
        self.blocks.setdefault(cell, []).append(block)
        return statistics.median(block.latencies_ns) / 1e6

    def _lost(self, cell: Cell, process: int, answer: dict[str, Any]) -> None:
        if answer["status"] != "measured":
            self.faults[cell.row] = Fault(answer["status"], answer.get("reason", ""))
            self._end_workers(cell.row)
        elif process == 0:
            self.no_memory[cell] = answer["reason"]
        else:
            self.remarks[cell.row] = f"process {process + 1}, batch {cell.size}: {answer['reason']}"

    def is_whole(self, number: int) -> bool:
        """Tell whether a pass may count, and keep what disturbed it: if the machine slept, its blocks are dropped."""
        if self._clock.was_set():
            log(f"  pass {number + 1} does not count: the clock was set, or the machine slept")
            for blocks in self.blocks.values():
                blocks[:] = [block for block in blocks if block.number != number]
            return False
        seconds = time.perf_counter() - self._began
        workers = self._cpu_seconds() - self._own
        self.conditions.append(
            PassConditions(
                number=number,
                seconds=seconds,
                other_load_cores=max(0.0, self._load.cores() - workers / seconds),
                quota_throttled_seconds=throttled_seconds() - self._throttled,
                host_loop_ms=self._loop_ms,
                gpu=self.gpu.end_cell() if self.gpu else None,
            )
        )
        return True

    def _cpu_seconds(self) -> float:
        return sum(worker.cpu_seconds() for workers in self.workers.values() for worker in workers)

    def add_processes(self, rows: Sequence[str]) -> list[str]:
        """Start a further process of each row, as many as find memory; return the rows of which it runs."""
        before = {name: len(self.workers[name]) for name in rows if name in self.workers}
        late = self.start([name for name in before if name not in self.faults])
        for name in late:
            self.remarks[name] = "one process: no memory for a second one"
        return [name for name, count in before.items() if len(self.workers.get(name, [])) > count]

    def finish(self) -> None:
        """Let every process hand over its result, and end."""
        for name in list(self.workers):
            with suppress(WorkerError):  # it was measured; what it would have said of itself is lost
                self.results[name] = [self._result(worker) for worker in self.workers[name]]
            self._end_workers(name)
            if name in self.engine_states:
                changed = changed_engine(self.by_name[name].key, self.folder(name) / "engine", self.engine_states[name])
                if changed:
                    self.faults[name] = Fault("failed", changed)

    def _result(self, worker: WorkerProcess) -> ProcessResult:
        answer = worker.ask("end", BLOCK_LIMIT_SECONDS)
        return ProcessResult(**{**answer, "process": worker.job.process})

    def alone(self, row: Row, folder: Path) -> ProcessResult:
        """Run a process of a row with no other beside it and nothing compiled; WorkerError if it fails."""
        folder.mkdir(parents=True, exist_ok=True)
        limit = self.params.timing.worker_limit_seconds
        worker = self._worker(row, 0, folder)
        try:
            worker.wait_until_ready(limit)
            for request in ("open", "alone", "end"):
                answer = worker.ask(request, limit)
                if answer["status"] != "measured":
                    raise WorkerError(f"{row.key}: {answer.get('reason', '')}")
            return ProcessResult(**answer)
        finally:
            worker.end()

    def _end_workers(self, name: str) -> None:
        for worker in self.workers.pop(name, []):
            worker.end()

    def close(self) -> None:
        """End all workers."""
        for name in list(self.workers):
            self._end_workers(name)
