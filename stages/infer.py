"""Measure one variant: artifacts/samples/DEVICE/KEY.csv and KEY.json, metrics/KEY/bsNNN.json."""

from __future__ import annotations

import sys

import _project  # noqa: F401

from bench.errors import ParameterError, run_stage
from bench.params import load_params
from bench.paths import METRICS, SAMPLES
from bench.provenance import read_provenance
from bench.runtimes import check_variant
from bench.variant_run import announce, report_variant, write_report


def main() -> None:
    key = sys.argv[1]
    params = load_params()
    variants = params.all_variants()
    if key not in variants:
        raise ParameterError(f"params.yaml: no variant {key!r}, allowed: {', '.join(variants)}")
    variant = variants[key]
    check_variant(f"variants.{key}", variant)
    report = report_variant(key, variant, params, is_real=read_provenance()["model_is_real"])
    samples = SAMPLES / variant.device
    write_report(report, samples / f"{key}.csv", samples / f"{key}.json", METRICS / key, params.batch_sizes)
    announce(key, report)


if __name__ == "__main__":
    run_stage(main)
