"""Serve one variant: artifacts/served/KEY.json."""

import sys

import _project  # noqa: F401

from bench.core.errors import ParameterError, run_stage
from bench.core.files import write_json
from bench.core.params import load_params
from bench.core.paths import SERVED
from bench.serving.coordinator import serve_variant


def main() -> None:
    key = sys.argv[1]
    params = load_params()
    if key in params.not_served:
        write_json(SERVED / f"{key}.json", {"left_out": "no such variant"})
        return
    if key not in params.serving.variants:
        allowed = ", ".join(params.serving.variants)
        raise ParameterError(f"params.yaml: serving.variants: no {key!r}, allowed: {allowed}")
    serve_variant(key, params)


if __name__ == "__main__":
    run_stage(main)
