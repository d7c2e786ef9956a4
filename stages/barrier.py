"""Wait until all that rows share is up to date: artifacts/barriers/NAME.json, NAME being cpu, cuda or serving."""

import sys

import _project  # noqa: F401

from bench.core.errors import run_stage
from bench.core.files import write_json
from bench.core.paths import BARRIERS
from bench.core.shared import shared_by_rows


def main() -> None:
    name = sys.argv[1]
    write_json(BARRIERS / f"{name}.json", shared_by_rows(name))


if __name__ == "__main__":
    run_stage(main)
