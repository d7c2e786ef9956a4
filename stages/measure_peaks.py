"""Measure the machine's own peaks, which the report holds every row against: metrics/peaks.json."""

import os

import _project  # noqa: F401

from bench.core.errors import run_stage
from bench.core.files import write_json
from bench.core.params import load_params
from bench.core.paths import PEAKS
from bench.core.progress import log
from bench.core.variables import chosen_variables
from bench.machine.cores import thread_count
from bench.machine.gpus import gpu_to_time
from bench.machine.lock import timing_lock
from bench.peaks.measured import measure_cpu_peaks, measure_cuda_peaks


def main() -> None:
    timing = load_params().timing
    gpu, threads = gpu_to_time(timing.gpu_index), thread_count(timing.cpu_threads)
    chosen = chosen_variables(os.environ, threads, gpu)  # read before PyTorch is imported
    os.environ.clear()
    os.environ.update(chosen)
    with timing_lock():
        log("measuring the peaks of this machine")
        peaks = {"cpu": measure_cpu_peaks(threads), "cuda": measure_cuda_peaks() if gpu is not None else None}
    write_json(PEAKS, peaks)


if __name__ == "__main__":
    run_stage(main)
