"""Measure the machine's own peaks, which the report holds every row against: metrics/peaks.json."""

from __future__ import annotations

import os

import _project  # noqa: F401

from bench.core.errors import run_stage
from bench.core.files import write_json
from bench.core.params import load_params
from bench.core.paths import PEAKS
from bench.core.progress import say
from bench.core.provenance import read_environment
from bench.machine.cores import thread_count
from bench.machine.lock import timing_lock
from bench.peaks.cpu import measure_cpu_peaks
from bench.peaks.cuda import measure_cuda_peaks


def main() -> None:
    timing = load_params().timing
    os.environ.pop("NVIDIA_TF32_OVERRIDE", None)  # it would hide the peak of TF32
    os.environ |= {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": str(timing.gpu_index)}
    with timing_lock():
        say("measuring the peaks of this machine")
        has_gpu = read_environment()["cuda"] is not None
        peaks = {
            "cpu": measure_cpu_peaks(thread_count(timing.cpu_threads)),
            "cuda": measure_cuda_peaks(timing.gpu_index) if has_gpu else None,
        }
    write_json(PEAKS, peaks)


if __name__ == "__main__":
    run_stage(main)
