"""Does something that runs beside a row move it?  The same row with and without it, in random order.

    python run.py python validation/disturbance.py ray [VARIANT] [--rounds N] [--write FILE]
    python run.py python validation/disturbance.py gpu [VARIANT] [--other ENTRY] [--rounds N] [--write FILE]

`ray`: a Ray of this machine, one of whose tasks waits, as on a node of a fleet (`pip install ray` first).  `gpu`: the
same row, timed without end on another GPU (an entry of CUDA_VISIBLE_DEVICES).

Needs the artifacts of a finished `dvc repro`.  In each round the row gets three processes in random order: one with the
disturbance and two without.  Those two are the control: what they differ by is what this machine does by itself.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.core.errors import WorkerError
from bench.core.params import load_params
from bench.machine.lock import timing_lock
from bench.statistics.intervals import around, t_quantile
from bench.workers.jobs import make_job
from bench.workers.launcher import WorkerProcess, run_worker
from bench.workers.protocol import Job
from validation.found import tell

SIZES = [1, 8]
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


@contextmanager
def ray_beside() -> Iterator[None]:
    """Let a Ray of this machine run, with a task that waits."""
    with subprocess.Popen([sys.executable, "-c", RAY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        if process.stdout is None or process.stdout.readline() != b"ready\n":
            raise SystemExit("error: Ray did not start; is it installed here?")
        yield


@contextmanager
def busy_gpu(job: Job, entry: str) -> Iterator[None]:
    """Let the row run on another GPU at batch size 1, once it is warmed up there."""
    endless = replace(job, gpu=entry, batch_sizes=SIZES[:1], min_seconds=1e6, max_seconds=1e6)
    is_timing = threading.Event()
    ends: list[WorkerError] = []

    def listen(event: dict[str, Any]) -> None:
        if event["event"] == "time":
            is_timing.set()

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        worker = WorkerProcess(endless, Path(scratch))

        def run() -> None:
            try:
                worker.run(1e6, listen)
            except WorkerError as problem:
                ends.append(problem)
            is_timing.set()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        is_timing.wait()
        try:
            if not thread.is_alive():
                raise SystemExit(f"error: the row does not run on GPU {entry}: {', '.join(map(str, ends))}")
            yield
        finally:
            worker.end()
            thread.join()


def medians(job: Job) -> dict[int, float]:
    """Return the median latency of one process at each batch size, in nanoseconds."""
    with tempfile.TemporaryDirectory() as scratch:
        result = run_worker(job, Path(scratch), 1800, lambda _event: None)
    return {size: statistics.median(result["cells"][str(size)]["latencies_ns"]) for size in SIZES}


def ratios(over: list[dict[int, float]], under: list[dict[int, float]]) -> dict[str, Any]:
    """Return the ratio of two conditions at each batch size, with Student's 95% interval over rounds."""
    found = {}
    for size in SIZES:
        logs = [math.log(one[size] / other[size]) for one, other in zip(over, under, strict=True)]
        half = t_quantile(len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
        found[str(size)] = around(statistics.mean(logs), half).__dict__
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("beside", choices=["ray", "gpu"])
    parser.add_argument("variant", nargs="?", default="ort_cpu_int8")
    parser.add_argument("--other", default="1", help="the other GPU (default: 1)")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--write", type=Path, help="write the ratios to this file as well")
    given = parser.parse_args()
    params = load_params()
    job = make_job(given.variant, params.all_variants()[given.variant], params, process=1, measure_accuracy=False)
    job = replace(job, batch_sizes=SIZES)
    disturb = ray_beside if given.beside == "ray" else partial(busy_gpu, job, given.other)
    taken: dict[str, list[dict[int, float]]] = {"beside": [], "first": [], "second": []}
    chance = random.Random(0)
    with timing_lock():
        for _ in range(given.rounds):
            for condition in chance.sample(sorted(taken), len(taken)):
                with disturb() if condition == "beside" else nullcontext():
                    taken[condition].append(medians(job))
    found = {
        "beside": given.beside,
        "variant": given.variant,
        "rounds": given.rounds,
        "with_over_without": ratios(taken["beside"], taken["first"]),
        "without_over_without": ratios(taken["second"], taken["first"]),
    }
    tell(found, given.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
