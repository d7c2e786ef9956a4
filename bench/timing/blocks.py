"""The blocks that rows are timed in, each run by a worker of its row."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from bench.core.errors import WorkerError
from bench.core.model_inputs import Task
from bench.core.params import Params
from bench.timing.passes import Cell
from bench.timing.resident import Resident, Row
from bench.timing.results import Block, ProcessResult
from bench.workers.launcher import Answer
from bench.workers.protocol import Job, make_job

BLOCK_LIMIT_SECONDS = 60.0
LONGER_THAN_USUAL = 30.0
"""A block that takes a minute, and so many times as long as the row's blocks before, hangs."""


class TimedRows(Resident[Row]):
    """Workers that run blocks; what the passes call a bench."""

    module = "bench.timing.worker"

    def __init__(
        self, rows: Sequence[Row], params: Params, task: Task, scratch: Path, is_cut: Callable[[], bool]
    ) -> None:
        super().__init__(rows, params, task, scratch, is_cut)
        self.no_memory: dict[Cell, str] = {}
        self.blocks: dict[Cell, list[Block]] = {}
        self.results: dict[str, list[ProcessResult]] = {}
        self.busy_seconds = 0.0
        self._usual: dict[Cell, float] = {}

    def job(self, row: Row, process: int, engine: Path | None) -> Job:
        job = make_job(row.key, row.variant, self.params, engine)
        return replace(job, process=process, task=self.task, measure_accuracy=row.is_reported)

    def opened(self, row: Row, process: int, answer: Answer) -> None:
        """Keep which batch sizes do not fit."""
        for size, cell in answer["cells"].items() if process == 0 else ():
            if cell["status"] != "measured":
                self.no_memory[Cell(row.name, int(size))] = cell["reason"]

    def sizes(self, name: str) -> list[int]:
        """Return the batch sizes of a row that fit into memory."""
        sizes = self.params.sizes(self.by_name[name].variant.device)
        return [size for size in sizes if Cell(name, size) not in self.no_memory]

    def block(self, cell: Cell, process: int, number: int) -> float | None:
        """Run a block; return its median in ms, None where that process gives none of this cell any more."""
        began = time.perf_counter()
        usual = BLOCK_LIMIT_SECONDS + LONGER_THAN_USUAL * self._usual.get(cell, 0.0)
        limit = min(self.params.timing.worker_limit_seconds, usual)
        answer = self.ask(cell.row, process, limit, "block", size=cell.size, number=number)
        if answer is None:
            return None
        self._usual[cell] = time.perf_counter() - began
        latencies_ns = answer["latencies_ns"]
        if not latencies_ns:
            if process == 0:
                self.no_memory[cell] = answer["reason"]
            else:
                self.remarks[cell.row] = f"process {process + 1}, batch {cell.size}: {answer['reason']}"
            return None
        self.busy_seconds += sum(latencies_ns) / 1e9
        self.blocks.setdefault(cell, []).append(Block(process, number, latencies_ns))
        return float(statistics.median(latencies_ns)) / 1e6

    def is_whole(self, number: int) -> bool:
        """Tell whether a pass may count; if not, its blocks are dropped."""
        is_whole = super().is_whole(number)
        if not is_whole:
            for cell, blocks in self.blocks.items():
                self.blocks[cell] = [block for block in blocks if block.number != number]
        return is_whole

    def hand_over(self) -> None:
        """End every process and keep what it says of itself."""
        for name, answers in self.finish().items():
            self.results[name] = [ProcessResult(**{**each, "process": place}) for place, each in enumerate(answers)]

    def alone(self, row: Row, folder: Path) -> ProcessResult:
        """Run a process of a row with no other beside it and nothing compiled; WorkerError if it fails."""
        folder.mkdir(parents=True, exist_ok=True)
        limit = self.params.timing.worker_limit_seconds
        with self.launch(row, 0, folder) as worker:
            worker.wait_until_ready(limit)
            for request in ("open", "alone", "end"):
                answer = worker.ask(request, limit)
                if answer["status"] != "measured":
                    raise WorkerError(f"{row.key}: {answer.get('reason', '')}")
            return ProcessResult(**answer)
