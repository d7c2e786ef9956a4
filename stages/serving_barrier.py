"""Wait until every row is timed, so that rows can be served together: artifacts/barriers/serving.json.

The file holds what all rows are served with, which so makes them stale; how they were timed is not in it.
"""

from __future__ import annotations

import _project  # noqa: F401

from bench.core.errors import run_stage
from bench.core.files import write_json
from bench.core.params import load_params
from bench.core.paths import BARRIERS
from bench.core.schemas import read_environment


def main() -> None:
    serving, versions = load_params().serving, read_environment()["versions"]
    shared = {
        "serving": serving.model_dump(exclude={"variants"}),
        "versions": {"mlcommons_loadgen": versions.get("mlcommons_loadgen")},
    }
    write_json(BARRIERS / "serving.json", shared)


if __name__ == "__main__":
    run_stage(main)
