"""Compare the runs that were kept in runs/: results/hardware.md and hardware.png."""

import _project  # noqa: F401

from bench.core.errors import run_stage
from bench.core.files import replacing_file, write_text
from bench.core.paths import HARDWARE, HARDWARE_PLOT
from bench.runs.hardware import render_hardware, write_hardware_plot
from bench.runs.recorded_runs import comparable, read_runs


def main() -> None:
    runs = read_runs()
    write_text(HARDWARE, render_hardware(runs))
    with replacing_file(HARDWARE_PLOT) as temporary:
        write_hardware_plot(comparable(runs)[0], temporary)


if __name__ == "__main__":
    run_stage(main)
