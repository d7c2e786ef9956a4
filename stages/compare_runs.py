"""Compare the runs that were kept in runs/: results/hardware.md and results/hardware.png."""

from __future__ import annotations

import _project  # noqa: F401

from bench.errors import run_stage
from bench.files import replacing_file, write_text
from bench.paths import HARDWARE, HARDWARE_PLOT
from bench.report.hardware import render_hardware
from bench.report.hardware_plot import write_hardware_plot
from bench.report.recorded_runs import comparable, read_runs


def main() -> None:
    runs = read_runs()
    write_text(HARDWARE, render_hardware(runs))
    with replacing_file(HARDWARE_PLOT) as temporary:
        write_hardware_plot(comparable(runs)[0], temporary)


if __name__ == "__main__":
    run_stage(main)
