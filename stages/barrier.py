"""Wait until every graph and engine is up to date, so that rows can be timed together: artifacts/barriers/DEVICE.json.

The file holds what all rows of the device are timed with, which so makes them stale; graphs and engines are not in it.
"""

from __future__ import annotations

import sys

import _project  # noqa: F401

from bench.core.errors import run_stage
from bench.core.files import file_sha256, write_json
from bench.core.params import load_params
from bench.core.paths import BARRIERS, INPUTS
from bench.core.schemas import read_environment, read_provenance


def main() -> None:
    device = sys.argv[1]
    params, environment = load_params(), read_environment()
    shared = {
        "sequence_length": params.sequence_length,
        "timing": params.timing.model_dump(),
        "machine": {name: environment.get(name) for name in ("cpu", device, "os", "python", "variables")},
        "model": read_provenance(),
        "inputs": {path.name: file_sha256(path) for path in sorted(INPUTS.iterdir())},
    }
    write_json(BARRIERS / f"{device}.json", shared)


if __name__ == "__main__":
    run_stage(main)
