"""Put every variant's figures into tidy tables: results/summary.csv, and under load results/serving.csv."""

from __future__ import annotations

import _project  # noqa: F401

from bench.core.errors import run_stage
from bench.core.params import load_params
from bench.summary.build import build_summary
from bench.summary.serving import build_serving, write_serving
from bench.summary.table_file import write_summary


def main() -> None:
    params = load_params()
    table = build_summary(params)
    write_summary(table)
    write_serving(build_serving(params, table))


if __name__ == "__main__":
    run_stage(main)
