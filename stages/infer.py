"""Measure one variant: artifacts/samples/KEY.csv and KEY.json."""

import sys

import _project  # noqa: F401

from bench.core.errors import run_stage
from bench.core.params import load_params
from bench.runtimes.base.registry import check_variant
from bench.timing.coordinator import time_variant


def main() -> None:
    key = sys.argv[1]
    params = load_params()
    check_variant(key, params.variant(key))
    time_variant(key, params)


if __name__ == "__main__":
    run_stage(main)
