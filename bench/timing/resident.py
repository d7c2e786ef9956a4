"""Worker processes of rows that are measured together: all open and waiting, one at a time doing what it is asked.

The passes of the closed loop and those of load share this: starting as many as find memory, watching, ending, and what
becomes of a row whose worker fails.
"""

import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from threading import Lock, Semaphore
from typing import Any, ClassVar, Generic, TypeVar

from bench.core.errors import MemoryShortage, WorkerError
from bench.core.interrupt import CUT_SHORT, Interrupt, ended_by_ctrl_c
from bench.core.model_inputs import Task
from bench.core.params import Params, Variant
from bench.core.paths import COMPILED, ENGINES
from bench.core.progress import log
from bench.core.reports import PassConditions
from bench.core.schemas import Status, read_provenance
from bench.machine.cores import physical_cores, throttled_seconds
from bench.machine.gpus import gpu_to_time
from bench.machine.lock import timing_lock
from bench.machine.memory import free_host_mib
from bench.timing.monitors import ClockCheck, GpuMonitor, OtherLoad, calibration_loop_ms
from bench.workers.engines import changed_engine, copy_engine, read_record
from bench.workers.launcher import Answer, WorkerProcess
from bench.workers.protocol import Job

WORKER_MIB = 700.0
"""Memory that a worker takes before one is known: PyTorch with its libraries and a small model."""
KEPT_FREE_MIB = 1024.0
STARTED_BESIDE = 3
"""Processes that import side by side, at least.

Sessions of CPU rows open one after another: each runs every shape on all cores, and threads that wait for one another
wait long where such processes share them (3 at once on 16 cores: 22 s for a PyTorch row).
"""
END_SECONDS = 60.0


@dataclass(frozen=True)
class Row:
    """A variant among those that are measured together, by a name that no other row there has."""

    name: str
    key: str
    variant: Variant
    is_reported: bool = field(default=True, kw_only=True)
    """Not an anchor or the A/A row, which are there to compare others through."""
    home: Path = field(default=Path(), kw_only=True)
    """The checkout whose code and artifacts it is of."""
    python: str = field(default=sys.executable, kw_only=True)


@dataclass(frozen=True)
class Fault:
    """Why a row gives nothing more."""

    status: Status
    reason: str


def fault_of(problem: WorkerError) -> Fault:
    """Return what becomes of a row whose worker ended."""
    return Fault("out_of_memory" if isinstance(problem, MemoryShortage) else "failed", str(problem))


def refused(row: Row, answer: Answer) -> Fault:
    """Return what a worker's answer makes of its row that did not measure."""
    reason = answer.get("reason", "")
    return Fault(answer["status"], f"{row.key}: {reason}" if answer["status"] == "failed" else reason)


AnyRow = TypeVar("AnyRow", bound=Row)
AnyGroup = TypeVar("AnyGroup", bound="Group[Any]")


class Group(ABC, Generic[AnyRow]):
    """Rows of one device that are measured side by side, as many as find memory; `share`: of the time."""

    kind: "ClassVar[type[Resident[Any]]]"
    bench: Any
    """Of this kind."""

    def __init__(
        self, rows: Sequence[AnyRow], params: Params, scratch: Path, interrupt: Interrupt, share: float
    ) -> None:
        self.rows, self.params, self.interrupt, self.share = list(rows), params, interrupt, share
        self.began = time.time()
        self.scratch = scratch / f"{self.began:.3f}"
        self.scratch.mkdir()
        provenance = read_provenance()
        self.is_real: bool = provenance["model_is_real"]
        self.task: Task = provenance.get("task", "single_label")
        self.bench = self.kind(self.rows, params, self.task, self.scratch, interrupt.is_cut)

    @abstractmethod
    def run(self) -> list[AnyRow]:
        """Measure the rows; return those that need another group."""

    def start(self, names: Sequence[str], measured: str) -> list[AnyRow]:
        """Start a process for each name; return the rows without memory, to be `measured` later with their share."""
        without = self.bench.start(names)
        late = [row for row in self.rows if row.name in without]
        if late:
            log(f"  no memory for {len(late)} of them beside the others: they are {measured} after these")
            self.share *= 1 - len(late) / len(self.rows)
        return late


def in_groups(kind: type[AnyGroup], rows: Sequence[AnyRow], params: Params) -> Iterator[tuple[AnyGroup, AnyRow]]:
    """Measure rows, a group after another, with nothing else timed on this machine; yield each that is done."""
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
        timing_lock(),
        ended_by_ctrl_c() as interrupt,
    ):
        waiting = list(rows)
        while waiting:
            group = kind(waiting, params, Path(scratch), interrupt, len(waiting) / len(rows))
            with closing(group.bench):
                waiting = group.run()
            yield from ((group, row) for row in group.rows if row not in waiting)


class Resident(ABC, Generic[AnyRow]):
    module: ClassVar[str]
    """What the workers run."""

    def __init__(
        self, rows: Sequence[AnyRow], params: Params, task: Task, scratch: Path, is_cut: Callable[[], bool]
    ) -> None:
        self.by_name = {row.name: row for row in rows}
        self.params, self.task, self.scratch, self.is_cut = params, task, scratch, is_cut
        self.workers: dict[str, list[WorkerProcess]] = {}
        self.faults: dict[str, Fault] = {}
        self.remarks: dict[str, str] = {}
        self.start_seconds: dict[str, float] = {}
        self.conditions: list[PassConditions] = []
        self.engine_states: dict[str, dict[str, str]] = {}
        device = rows[0].variant.device
        gpu = gpu_to_time(params.timing.gpu_index) if device == "cuda" else None
        self.gpu = GpuMonitor(gpu) if gpu else None
        self._width = max(STARTED_BESIDE, physical_cores())
        self._opening = Semaphore(self._width if device == "cuda" else 1)
        self._launching = Lock()
        self._worker_mib = self._worker_gpu_mib = WORKER_MIB

    @abstractmethod
    def job(self, row: AnyRow, process: int, engine: Path | None) -> Job:
        """Return the job of a row's process; `engine`: where its own copy of the engine lies."""

    def opened(self, row: AnyRow, process: int, answer: Answer) -> None:
        """Take what a worker says of its session once it is open."""

    def start(self, names: Sequence[str]) -> list[str]:
        """Start a process for each name, side by side; return the rows that found no memory for now."""
        # first processes before second ones, and of these those that compile: that takes longest
        asked = [(names[:place].count(name), not self._compiles(name), place) for place, name in enumerate(names)]
        waiting = [names[place] for *_, place in sorted(asked)]
        late = list[str]()
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
                    for worker in chain.from_iterable(self.workers.get(name, []) for name in running.values()):
                        worker.kill()
        for name in late:
            if name in self.workers:
                self.remarks[name] = "one process: no memory for a second one"
        return [name for name in dict.fromkeys(late) if name not in self.workers and name not in self.faults]

    def _compiles(self, name: str) -> bool:
        return "compile" in self.by_name[name].variant.options

    def _fits(self, together: int) -> bool:
        """Tell whether so many further workers find host and GPU memory, by what the largest ones took."""
        if free_host_mib() < together * self._worker_mib + KEPT_FREE_MIB:
            return False
        free = self.gpu.memory_mib("free") if self.gpu else None
        return free is None or free >= together * self._worker_gpu_mib

    def _learn_sizes(self) -> None:
        sizes = [worker.host_mib() for workers in list(self.workers.values()) for worker in workers]
        self._worker_mib = max([self._worker_mib, *sizes])
        grown = self.gpu.grown_memory_mib() if self.gpu else None
        if grown and sizes:
            self._worker_gpu_mib = max(self._worker_gpu_mib, grown / len(sizes))

    def _open(self, name: str) -> None:
        """Start one process of a row and open its session; a fault of the first one is the row's."""
        row, process, worker = self.by_name[name], 0, None
        limit, began = self.params.timing.worker_limit_seconds, time.monotonic()
        fault: Fault | None = None
        try:
            with self._launching:
                if name in self.faults:
                    return
                process = len(self.workers.get(name, []))
                worker = self.launch(row, process, self.folder(name), row.home / COMPILED / row.key)
                self.workers.setdefault(name, []).append(worker)
            worker.wait_until_ready(limit)
            ready = time.monotonic()
            with nullcontext() if self._compiles(name) else self._opening:
                began += time.monotonic() - ready  # waiting for other rows is no part of its start
                answer = worker.ask("open", limit)
            if answer["status"] == "measured":
                self.opened(row, process, answer)
            else:
                fault = refused(row, answer)
        except WorkerError as problem:
            fault = Fault("skipped", CUT_SHORT) if self.is_cut() else fault_of(problem)
        if fault is None:
            self.start_seconds.setdefault(name, time.monotonic() - began)
            log(f"  {name} is ready{f' (process {process + 1})' if process else ''}")
        elif process == 0:
            self.fail(name, fault)
        elif worker in (others := self.workers.get(name, [])):
            self.remarks[name] = f"process {process + 1}: {fault.reason}"
            others.remove(worker)
            worker.end()

    def launch(self, row: AnyRow, process: int, folder: Path, compiled: Path | None = None) -> WorkerProcess:
        """Start a process of a row in a scratch folder, with a copy of its engine."""
        engine = None
        if row.variant.runtime == "tensorrt":
            engine, built = folder / "engine", row.home / ENGINES / row.key
            if not engine.exists():
                self.engine_states[row.name] = copy_engine(built / read_record(built).folder, engine)
        job = self.job(row, process, engine)
        return WorkerProcess(job, folder, self.module, compiled, python=row.python, home=row.home)

    def folder(self, name: str) -> Path:
        """Return the scratch folder of a row's workers."""
        folder = self.scratch / name.replace("/", "_")
        folder.mkdir(exist_ok=True)
        return folder

    def running(self) -> list[str]:
        return [name for name in self.by_name if name in self.workers]

    def ask(self, name: str, process: int, limit_seconds: float, request: str, **given: Any) -> Answer | None:
        """Return a worker's answer; None where it fails, which is its row's fault."""
        if process >= len(self.workers.get(name, [])):
            return None
        try:
            answer = self.workers[name][process].ask(request, limit_seconds, **given)
        except WorkerError as problem:
            self.fail(name, fault_of(problem))
            return None
        if answer["status"] != "measured":
            self.fail(name, refused(self.by_name[name], answer))
            return None
        return answer

    def fail(self, name: str, fault: Fault) -> None:
        self.faults[name] = fault
        self.end_workers(name)

    def begin_pass(self) -> None:
        """Note the counters before a pass."""
        self._began = time.perf_counter()
        self._clock, self._throttled = ClockCheck(), throttled_seconds()
        self._load, self._own = OtherLoad(), self._cpu_seconds()
        self._loop_ms = calibration_loop_ms()
        if self.gpu:
            self.gpu.start_cell()

    def is_whole(self, number: int) -> bool:
        """Tell whether a pass may count: the machine did not sleep in it; keep what disturbed it."""
        if self._clock.was_set():
            log(f"  pass {number + 1} does not count: the clock was set, or the machine slept")
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
        self.start(list(before))
        return [name for name, count in before.items() if len(self.workers.get(name, [])) > count]

    def finish(self) -> dict[str, list[Answer]]:
        """End every process; return what those of each row say of themselves."""
        found: dict[str, list[Answer]] = {}
        for name in list(self.workers):
            with suppress(WorkerError):  # it was measured; what it would have said of itself is lost
                found[name] = [worker.ask("end", END_SECONDS) for worker in self.workers[name]]
            self.end_workers(name)
            if name in self.engine_states:
                states = self.engine_states[name]
                if changed := changed_engine(self.by_name[name].key, self.folder(name) / "engine", states):
                    self.faults[name] = Fault("failed", changed)
        return found

    def end_workers(self, name: str) -> None:
        """End a row's workers, whatever they are doing."""
        for worker in self.workers.pop(name, []):
            worker.end()

    def close(self) -> None:
        for name in list(self.workers):
            self.end_workers(name)
