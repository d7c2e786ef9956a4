"""Does something that runs beside a row move it?  A row is timed while the other thing by turns runs and is held still.

    python run.py python validation/disturbance.py ray [VARIANT] [--seconds S] [--processes N] [--rounds N]
    python run.py python validation/disturbance.py gpu [VARIANT] [--other ENTRY] [--write FILE]

`ray`: a Ray of this machine, one of whose tasks waits, as on a node of a fleet (`pip install ray` first).  `gpu`: the
same row without end on another GPU (an entry of CUDA_VISIBLE_DEVICES).  Needs the artifacts of a finished `dvc repro`.

Two processes of a row differ by more than what is looked for, so both conditions are timed within one process: in each
round, in random order, one block with the other thing running and two without.  Those two are the control.  The row
itself runs on without a pause, since after one it may find itself on another core, which changes more.  Intervals are
over processes.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import psutil

from bench.core.params import load_params
from bench.inputs.batches import Batch, make_batches
from bench.inputs.encoded import load_encoded
from bench.machine.lock import timing_lock
from bench.runtimes.base.registry import import_runtime
from bench.runtimes.base.session import Session
from bench.statistics.intervals import around, t_quantile
from bench.workers.jobs import make_job
from bench.workers.launcher import worker_environment
from bench.workers.protocol import Job
from validation.found import tell

SIZES = [1, 8]
SETTLING_SECONDS = 0.05
WARM_UPS = 20
CONDITIONS = BESIDE, FIRST, SECOND = "beside", "first", "second"
SLACK = 1.25
"""How much longer the row runs than its blocks should take, since a sleep may take longer."""
ROW = "row"
MARK = "median "
RAY = """
import os, sys, time
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
import ray
ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="error")
@ray.remote(num_cpus=1)
def wait():
    time.sleep(100_000)
task = wait.remote()
ray.wait([task], timeout=5)
print("ready", flush=True)
sys.stdin.read()
ray.shutdown()
"""


Others = list[psutil.Process]
"""The processes of what runs beside the row."""


def row(job: Job) -> None:
    """Open a session and answer pairs of lines of standard input.

    `SIZE SECONDS`: run it so long at that batch size.  Then `BEGIN END BEGIN END …`, times of `perf_counter_ns`: print
    the median latency of the calls within each of these blocks.
    """
    import_runtime(job.runtime).import_libraries()
    session = import_runtime(job.runtime).open_session(job.session_spec())
    encoded = load_encoded(Path(job.inputs))
    batches = {}
    for size in SIZES:
        session.prepare(size)
        batches[size] = cycle(make_batches(encoded, size, job.min_runs, job.padding, job.multiple_of))
        for _ in range(WARM_UPS):
            session.run(*next(batches[size]).inputs)
    print(f"{MARK}0", flush=True)
    for line in sys.stdin:
        at, seconds = line.split()
        calls = calls_of(session, batches[int(at)], float(seconds))
        times = list(map(int, sys.stdin.readline().split()))
        medians = [median_within(calls, begin, end) for begin, end in zip(times[::2], times[1::2], strict=True)]
        print(MARK + " ".join(map(str, medians)), flush=True)


def calls_of(session: Session, batches: Iterator[Batch], seconds: float) -> list[tuple[int, int]]:
    """Run a session so long and return when each call began and ended."""
    calls, now = [], time.perf_counter_ns()
    last = now + seconds * 1e9
    while now < last:
        inputs = next(batches).inputs
        began = time.perf_counter_ns()
        session.run(*inputs)
        now = time.perf_counter_ns()
        calls.append((began, now))
    return calls


def median_within(calls: list[tuple[int, int]], begin: int, end: int) -> float:
    """Return the median latency of the calls within a block."""
    within = [ended - began for began, ended in calls if begin <= began and ended <= end]
    if not within:
        raise SystemExit("error: a call of the row is longer than a block: give longer ones with --seconds")
    return statistics.median(within)


class Running:
    """A process of the row."""

    def __init__(self, job: Job, scratch: Path) -> None:
        file = scratch / f"{job.gpu}.json"
        job.write(file)
        self.process = subprocess.Popen(
            [sys.executable, __file__, ROW, str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=worker_environment(job, os.environ, scratch / f"of_{job.gpu}"),
            text=True,
        )
        self.gpu = job.gpu

    def answer(self) -> list[float]:
        """Return the next medians that it prints."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(MARK):
                return list(map(float, line.removeprefix(MARK).split()))
        where = "" if self.gpu is None else f" on GPU {self.gpu}"
        raise SystemExit(f"error: the row does not run{where}: its last words stand above")

    def tell(self, *words: float) -> None:
        """Give it a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()


@contextmanager
def running(job: Job) -> Iterator[Running]:
    """Give a process of the row that is ready."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        process = Running(job, Path(scratch))
        try:
            process.answer()
            yield process
        finally:
            process.process.kill()
            process.process.wait()


@contextmanager
def on_another_gpu(job: Job, entry: str) -> Iterator[Others]:
    """Let the row run on another GPU at the smallest batch size, without end."""
    with running(replace(job, gpu=entry)) as process:
        process.tell(SIZES[0], 1e6)
        yield [psutil.Process(process.process.pid)]


@contextmanager
def ray_beside() -> Iterator[Others]:
    """Let a Ray of this machine run, with a task that waits."""
    with subprocess.Popen([sys.executable, "-c", RAY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        if process.stdout is None or process.stdout.readline() != b"ready\n":
            raise SystemExit("error: Ray did not start; is it installed here?")
        driver = psutil.Process(process.pid)
        others = [*driver.children(recursive=True), driver]
        try:
            yield others
        finally:
            switch(others, on=True)


def switch(others: Others, on: bool) -> None:
    """Let the others run, or hold them still; those that have ended are left out."""
    for each in others:
        with suppress(psutil.NoSuchProcess):
            each.resume() if on else each.suspend()


def block(others: Others, condition: str, seconds: float) -> tuple[int, int]:
    """Let the others run or hold them still for so long, and return when that began and ended."""
    switch(others, on=condition == BESIDE)
    time.sleep(SETTLING_SECONDS)
    began = time.perf_counter_ns()
    time.sleep(seconds)
    return began, time.perf_counter_ns()


def at_one_size(
    timed: Running, size: int, others: Others, given: argparse.Namespace, chance: random.Random
) -> dict[str, float]:
    """Return the mean log ratio of `beside` and of `second` to `first` over the rounds of one process."""
    orders = [chance.sample(CONDITIONS, len(CONDITIONS)) for _ in range(given.rounds)]
    timed.tell(size, SLACK * given.rounds * len(CONDITIONS) * (given.seconds + SETTLING_SECONDS))
    blocks = [block(others, condition, given.seconds) for order in orders for condition in order]
    timed.tell(*(edge for edges in blocks for edge in edges))
    medians = iter(timed.answer())
    rounds = [dict(zip(order, islice(medians, len(order)), strict=True)) for order in orders]
    return {
        condition: statistics.mean(math.log(took[condition] / took[FIRST]) for took in rounds)
        for condition in (BESIDE, SECOND)
    }


def interval(logs: list[float]) -> dict[str, Any]:
    """Return the ratio with Student's 95% interval over processes."""
    half = t_quantile(len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    return around(statistics.mean(logs), half).__dict__


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("beside", choices=["ray", "gpu"])
    parser.add_argument("variant", nargs="?", default="ort_cpu_int8")
    parser.add_argument("--other", default="1", help="the other GPU (default: 1)")
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=24, help="of each process")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each block")
    parser.add_argument("--write", type=Path, help="write the ratios to this file as well")
    given = parser.parse_args()
    params = load_params()
    job = make_job(given.variant, params.all_variants()[given.variant], params, process=1, measure_accuracy=False)
    job = replace(job, batch_sizes=SIZES)
    chance, each = random.Random(0), []
    with timing_lock(), ray_beside() if given.beside == "ray" else on_another_gpu(job, given.other) as others:
        for _ in range(given.processes):
            with running(job) as timed:
                each.append({size: at_one_size(timed, size, others, given, chance) for size in SIZES})
    found = {
        "beside": given.beside,
        "variant": given.variant,
        "processes": given.processes,
        "rounds": given.rounds,
        "block_seconds": given.seconds,
        "with_over_without": {str(size): interval([one[size][BESIDE] for one in each]) for size in SIZES},
        "without_over_without": {str(size): interval([one[size][SECOND] for one in each]) for size in SIZES},
    }
    tell(found, given.write)
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == [ROW]:
        row(Job.read(Path(sys.argv[2])))
    else:
        sys.exit(main())
