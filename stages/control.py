"""Measure a device's baseline once more after everything else: artifacts/control/DEVICE.json."""

from __future__ import annotations

import sys

import _project  # noqa: F401

from bench.core.errors import ParameterError, run_stage
from bench.core.files import write_json
from bench.core.params import load_params
from bench.core.paths import CONTROL
from bench.engines.timed import report_engine_variant
from bench.timing.variant_files import announce
from bench.timing.variant_run import report_variant


def main() -> None:
    device = sys.argv[1]
    params = load_params()
    if device not in params.baselines:
        raise ParameterError(f"params.yaml: no baseline for {device!r}, allowed: {', '.join(params.baselines)}")
    key = params.baselines[device]
    variant = params.all_variants()[key]
    measure = report_engine_variant if variant.runtime == "tensorrt" else report_variant
    report = measure(key, variant, params, is_real=False, profile=False)
    for cell in report["cells"].values():
        cell.pop("latencies_ms", None)
    write_json(CONTROL / f"{device}.json", {"variant": key, **report})
    announce(f"{key} again", report)


if __name__ == "__main__":
    run_stage(main)
