"""Measure a device's baseline once more after everything else: artifacts/control/DEVICE.json."""

from __future__ import annotations

import sys

import _project  # noqa: F401

from bench.environment import read_environment
from bench.errors import ParameterError, run_stage
from bench.files import write_json
from bench.jobs import reason_to_skip
from bench.params import load_params
from bench.paths import CONTROL
from bench.variant_run import announce, measure_variant, without_runs


def main() -> None:
    device = sys.argv[1]
    params = load_params()
    if device not in params.baselines:
        raise ParameterError(f"params.yaml: no baseline for {device!r}, allowed: {', '.join(params.baselines)}")
    key = params.baselines[device]
    variant = params.all_variants()[key]
    reason = reason_to_skip(variant, read_environment())
    if not params.is_on(variant):
        report = without_runs(params, "off")
    elif reason:
        report = without_runs(params, "skipped", reason)
    else:
        report = measure_variant(key, variant, params, is_real=False, profile=False)
    for cell in report["cells"].values():
        cell.pop("latencies_ms", None)
    write_json(CONTROL / f"{device}.json", {"variant": key, **report})
    announce(f"{key} again", report)


if __name__ == "__main__":
    run_stage(main)
