"""Put every variant's figures into one tidy table: results/summary.csv."""

from __future__ import annotations

import _project  # noqa: F401

from bench.core.errors import run_stage
from bench.core.params import load_params
from bench.core.progress import say
from bench.summary.build import build_summary
from bench.summary.leftovers import remove_leftovers
from bench.summary.table_file import write_summary


def main() -> None:
    params = load_params()
    for path in remove_leftovers(params.all_variants()):
        say(f"removed {path}: no row of that name is configured")
    write_summary(build_summary(params))


if __name__ == "__main__":
    run_stage(main)
