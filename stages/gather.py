"""Wait until every graph and engine is up to date, so that rows can be timed together: artifacts/gathered/DEVICE.

The file never changes: it makes no row stale.
"""

from __future__ import annotations

import sys

import _project  # noqa: F401

from bench.core.errors import run_stage
from bench.core.files import write_text
from bench.core.params import load_params
from bench.core.paths import GATHERED


def main() -> None:
    device = sys.argv[1]
    load_params()
    write_text(GATHERED / device, "gathered\n")


if __name__ == "__main__":
    run_stage(main)
