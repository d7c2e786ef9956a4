"""Does the harness add time of its own?  Its p50 against a bare loop around the same call.

    python run.py python validation/harness_overhead.py VARIANT [--batch-size N] [--rounds N] [--one-process]

Needs the artifacts of a finished `dvc repro`.  Two comparisons:
  in one process, the timing core and a bare `perf_counter_ns` loop in alternation;
  in processes of their own, a worker as `infer` starts it and a bare script.
Exits with 1 if a p50 is more than 2% apart.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.core.errors import run_stage
from bench.core.params import load_params
from bench.inputs.batches import IndexedBatch, make_batches
from bench.inputs.encoded import load_encoded
from bench.machine.lock import timing_lock
from bench.runtimes.base.registry import import_runtime
from bench.timing.measure import Budget, Run, time_runs
from bench.workers.launcher import WorkerProcess, worker_environment
from bench.workers.protocol import Job, make_job

ALLOWED = 0.02


def bare_loop(run: Run, batches: list[IndexedBatch], runs: int) -> list[int]:
    """Time `runs` calls with nothing around them but the clock."""
    latencies = []
    for number in range(runs):
        batch = batches[number % len(batches)]
        before = time.perf_counter_ns()
        run(batch.inputs)
        latencies.append(time.perf_counter_ns() - before)
    return latencies


def in_one_process(job: Job, size: int, rounds: int) -> float:
    """Return p50 of the timing core over p50 of the bare loop, runs taken in alternation."""
    session = import_runtime(job.runtime).open_session(job)
    batches = make_batches(load_encoded(Path(job.inputs)), size)
    bare_loop(session.run, batches, job.min_runs)
    budget = Budget(job.min_runs, 0.0, job.max_seconds)
    ours: list[int] = []
    bare: list[int] = []
    for _ in range(rounds):
        ours += time_runs(session.run, batches, budget).latencies_ns
        bare += bare_loop(session.run, batches, job.min_runs)
    return statistics.median(ours) / statistics.median(bare)


def in_processes(job: Job, size: int, rounds: int) -> float:
    """Return p50 of whole workers over p50 of bare processes, started in alternation."""
    ours: list[float] = []
    bare: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(rounds):
            result = WorkerProcess(job, Path(scratch)).run(600, lambda _event: None)
            ours.append(statistics.median(result["cells"][str(size)]["latencies_ns"]))
            job_file = Path(scratch) / "bare.json"
            job.write(job_file)
            command = [sys.executable, __file__, "--bare", str(job_file)]
            surroundings = worker_environment(job, os.environ, Path(scratch))
            bare.append(float(subprocess.run(command, env=surroundings, capture_output=True, check=True).stdout))
    return statistics.median(ours) / statistics.median(bare)


def bare_process(job_file: Path) -> None:
    """Print the median of a bare loop, warmed up as a worker is."""
    job = Job.read(job_file)
    session = import_runtime(job.runtime).open_session(job)
    batches = make_batches(load_encoded(Path(job.inputs)), job.batch_sizes[0])
    bare_loop(session.run, batches, job.warmup_runs)
    print(statistics.median(bare_loop(session.run, batches, job.min_runs)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variant", nargs="?", default="")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--one-process", action="store_true", help="only the first comparison")
    parser.add_argument("--bare", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.bare:
        bare_process(given.bare)
        return
    params = load_params()
    variant = params.variant(given.variant)
    job = make_job(given.variant, variant, params)
    job = replace(job, batch_sizes=[given.batch_size], min_runs=given.runs, min_seconds=0.0, max_seconds=600.0)
    with timing_lock():
        ratios = {"one process, alternating": in_one_process(job, given.batch_size, given.rounds)}
        if not given.one_process:
            ratios["processes of their own"] = in_processes(job, given.batch_size, given.rounds)
    found = {"variant": given.variant, "batch_size": given.batch_size, "harness_p50_over_bare": ratios}
    print(json.dumps(found, indent=2))
    if any(abs(ratio - 1) > ALLOWED for ratio in ratios.values()):
        sys.exit(1)


if __name__ == "__main__":
    run_stage(main)
