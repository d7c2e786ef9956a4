"""Wait until all that rows share is up to date: artifacts/barriers/NAME.json, NAME being cpu, cuda or serving.

The file holds what all rows of a device are timed with, or what all rows are served with, which so makes them stale.
Graphs and engines are not in it, nor how the rows that are served were timed.
"""

from __future__ import annotations

import sys
from typing import Any

import _project  # noqa: F401

from bench.core.errors import run_stage
from bench.core.files import file_sha256, write_json
from bench.core.params import load_params
from bench.core.paths import BARRIERS, INPUTS
from bench.core.schemas import read_environment, read_provenance


def main() -> None:
    name = sys.argv[1]
    write_json(BARRIERS / f"{name}.json", served_with() if name == "serving" else timed_with(name))


def timed_with(device: str) -> dict[str, Any]:
    """Return what all rows of a device are timed with."""
    params, environment = load_params(), read_environment()
    return {
        "sequence_length": params.sequence_length,
        "timing": params.timing.model_dump(),
        "machine": {name: environment.get(name) for name in ("cpu", device, "os", "python", "variables")},
        "model": read_provenance(),
        "inputs": {path.name: file_sha256(path) for path in sorted(INPUTS.iterdir())},
    }


def served_with() -> dict[str, Any]:
    """Return what all rows are served with."""
    return {
        "serving": load_params().serving.model_dump(exclude={"variants"}),
        "versions": {"mlcommons_loadgen": read_environment()["versions"].get("mlcommons_loadgen")},
    }


if __name__ == "__main__":
    run_stage(main)
