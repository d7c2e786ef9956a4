"""Serve the row of a device that sustains most requests once more, from text: artifacts/served_text/DEVICE.json."""

import sys
from typing import cast

import _project  # noqa: F401

from bench.core.errors import run_stage
from bench.core.params import Device, load_params
from bench.serving.from_text import serve_best


def main() -> None:
    serve_best(cast(Device, sys.argv[1]), load_params())


if __name__ == "__main__":
    run_stage(main)
