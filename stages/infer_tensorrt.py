"""Measure one TensorRT variant with its engines: what `infer` writes of any other one."""

from __future__ import annotations

import sys

import _project  # noqa: F401

from bench.core.errors import run_stage
from bench.core.params import load_params
from bench.runtimes.base.registry import check_variant
from bench.timing.coordinator import time_variant


def main() -> None:
    key = sys.argv[1]
    params = load_params()
    variant = params.variant(key, "tensorrt_variants")
    check_variant(f"tensorrt_variants.{key}", variant)
    time_variant(key, params)


if __name__ == "__main__":
    run_stage(main)
