"""Measure one TensorRT variant with its engines: what `infer` writes of any other one."""

from __future__ import annotations

import sys

import _project  # noqa: F401

from bench.core.errors import run_stage
from bench.core.params import load_params
from bench.core.paths import METRICS, SAMPLES
from bench.core.provenance import read_provenance
from bench.runtimes.base.registry import check_variant
from bench.timing.session import timed_report
from bench.timing.variant_files import announce, write_report


def main() -> None:
    key = sys.argv[1]
    params = load_params()
    variant = params.tensorrt_variant(key)
    check_variant(f"tensorrt_variants.{key}", variant)
    report = timed_report(key, params, is_real=read_provenance()["model_is_real"])
    samples = SAMPLES / variant.device
    write_report(report, samples / f"{key}.csv", samples / f"{key}.json", METRICS / key, params.batch_sizes)
    announce(key, report)


if __name__ == "__main__":
    run_stage(main)
