"""Wait until every row is served; write down which row of a device is served from text: artifacts/best/DEVICE.json."""

import sys
from typing import cast

import _project  # noqa: F401

from bench.core.errors import run_stage
from bench.core.files import write_json
from bench.core.params import Device, load_params
from bench.core.paths import BEST
from bench.serving.from_text import best_row


def main() -> None:
    device = cast(Device, sys.argv[1])
    write_json(BEST / f"{device}.json", {**best_row(device, load_params())})


if __name__ == "__main__":
    run_stage(main)
