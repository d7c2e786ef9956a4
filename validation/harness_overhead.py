"""Does the harness add time of its own?  Its p50 against a bare loop around the same call.

    python run.py python validation/harness_overhead.py VARIANT [--batch-size N] [--blocks N] [--one-process]

Needs the artifacts of a finished `dvc repro`.  Two comparisons, both of blocks in alternation:
  in one process, the timing core and a bare `perf_counter_ns` loop;
  in processes of their own, which are alive all the time: a worker as `infer` asks it, and a bare script.
Exits with 1 if the geometric means over blocks are more than 2% apart.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.core.errors import run_stage
from bench.core.params import load_params
from bench.inputs.batches import IndexedBatch, make_batches
from bench.inputs.encoded import load_encoded
from bench.machine.lock import timing_lock
from bench.runtimes.base.registry import import_runtime
from bench.timing.measure import LONG_CALL_MS, Run, block_calls, run_block
from bench.workers.launcher import WorkerProcess, worker_environment
from bench.workers.protocol import Job, make_job

ALLOWED = 0.02
LIMIT_SECONDS = 600.0


def bare_loop(run: Run, batches: Sequence[IndexedBatch], calls: int, call_ms: float) -> float:
    """Return the median of `calls` calls in ms, with nothing around them but the clock; the block's rule as `infer`."""
    if call_ms < LONG_CALL_MS:
        run(batches[-1].inputs)
    latencies = []
    for batch in islice(cycle(batches), calls):
        before = time.perf_counter_ns()
        run(batch.inputs)
        latencies.append(time.perf_counter_ns() - before)
    return float(np.median(latencies)) / 1e6


class Bare:
    """A session without the harness."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.run = import_runtime(job.runtime).open_session(job).run
        self.sets = make_batches(load_encoded(Path(job.inputs)), job.batch_sizes[0], job.padding, job.multiple_of)
        for batch in (batch for batches in self.sets for batch in batches):
            self.run(batch.inputs)
        self.call_ms = bare_loop(self.run, self.sets[0], 3, 0.0)

    def calls(self) -> int:
        return block_calls(self.call_ms, len(self.sets[0]), self.job.padding == "fixed")

    def block(self, number: int) -> float:
        """Return the median of a block in ms."""
        self.call_ms = bare_loop(self.run, self.sets[number % len(self.sets)], self.calls(), self.call_ms)
        return self.call_ms


def in_one_process(job: Job, blocks: int) -> float:
    """Return p50 of the timing core over p50 of the bare loop."""
    bare, pairs = Bare(job), []
    for number in range(blocks):
        batches = bare.sets[number % len(bare.sets)]
        ours = run_block(bare.run, batches, bare.calls(), bare.call_ms).median_ms()
        pairs.append((ours, bare.block(number)))
    return ratio(pairs)


def in_processes(job: Job, blocks: int) -> float:
    """Return p50 of a worker over p50 of a bare process."""
    with tempfile.TemporaryDirectory() as scratch:
        worker = WorkerProcess(job, Path(scratch))
        command = [sys.executable, __file__, "--bare", str(Path(scratch) / f"job{job.process}.json")]
        environment = worker_environment(job, os.environ, Path(scratch))
        pipe = subprocess.PIPE
        with subprocess.Popen(command, env=environment, text=True, bufsize=1, stdin=pipe, stdout=pipe) as bare:
            try:
                worker.wait_until_ready(LIMIT_SECONDS)
                worker.ask("open", LIMIT_SECONDS)
                return ratio([(_of_worker(worker, job, number), _of_bare(bare, number)) for number in range(blocks)])
            finally:
                worker.end()
                bare.kill()


def _of_worker(worker: WorkerProcess, job: Job, number: int) -> float:
    answer = worker.ask("block", LIMIT_SECONDS, size=job.batch_sizes[0], number=number)
    return float(np.median(answer["latencies_ns"])) / 1e6


def _of_bare(bare: "subprocess.Popen[str]", number: int) -> float:
    assert bare.stdin
    assert bare.stdout
    bare.stdin.write(f"{number}\n")
    found = next(line for line in bare.stdout if line.startswith("p50 "))
    return float(found.split()[1])


def ratio(pairs: Sequence[tuple[float, float]]) -> float:
    """Return the geometric mean over blocks of ours over that of the bare loop."""
    ours, bare = np.log(pairs).mean(axis=0)
    return float(np.exp(ours - bare))


def bare_process(job_file: Path) -> None:
    """Print the median of a bare block for each number that is read."""
    bare = Bare(Job.read(job_file))
    for line in sys.stdin:
        print(f"p50 {bare.block(int(line))}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variant", nargs="?", default="")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--blocks", type=int, default=60)
    parser.add_argument("--one-process", action="store_true", help="only the first comparison")
    parser.add_argument("--bare", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.bare:
        bare_process(given.bare)
        return
    params = load_params()
    job = replace(make_job(given.variant, params.variant(given.variant), params), batch_sizes=[given.batch_size])
    with timing_lock():
        ratios = {"one process": in_one_process(job, given.blocks)}
        if not given.one_process:
            ratios["processes of their own"] = in_processes(job, given.blocks)
    found = {"variant": given.variant, "batch_size": given.batch_size, "harness_p50_over_bare": ratios}
    print(json.dumps(found, indent=2))
    if any(abs(ratio - 1) > ALLOWED for ratio in ratios.values()):
        sys.exit(1)


if __name__ == "__main__":
    run_stage(main)
