"""Put every variant's figures into one tidy table: results/summary.csv."""

from __future__ import annotations

import _project  # noqa: F401

from bench.errors import run_stage
from bench.params import load_params
from bench.report.summary import build_summary, write_summary


def main() -> None:
    write_summary(build_summary(load_params()))


if __name__ == "__main__":
    run_stage(main)
