"""How far are two runs of one machine apart?  The distribution of |p50 difference| over their cells.

    python run.py python validation/repeatability.py FIRST/summary.csv SECOND/summary.csv [--write FILE]

Exits with 1 if the median is above 3%.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.core.files import write_json
from bench.summary.table_file import read_summary

ALLOWED_MEDIAN = 0.03
GPU_BOUND = 0.8
"""From this share of a call on, the GPU's work sets its length."""
CELL = ["variant", "batch_size"]


def distribution(first: pd.DataFrame, second: pd.DataFrame) -> dict[str, Any]:
    """Return quantiles of |second / first - 1| over the cells measured in both, and the widest cells."""
    both = first[first["status"] == "measured"].merge(second[second["status"] == "measured"], on=CELL)
    both["difference"] = (both["p50_ms_y"] / both["p50_ms_x"] - 1).abs()
    both["limit"] = [_limit(row) for row in both.itertuples()]
    widest = both.nlargest(5, "difference")
    return {
        "cells": len(both),
        "quantiles": {
            f"{share:.0%}": float(both["difference"].quantile(share)) for share in (0, 0.25, 0.5, 0.75, 0.9, 1)
        },
        "median_by_limit": {
            limit: {"cells": len(group), "median": float(group["difference"].median())}
            for limit, group in both.groupby("limit")
        },
        "widest": {f"{row.variant} batch {row.batch_size}": float(row.difference) for row in widest.itertuples()},
    }


def _limit(row: Any) -> str:
    """Return what sets the length of a cell's calls: the CPU, the GPU, or the host that feeds the GPU."""
    if row.device_x == "cpu":
        return "cpu row"
    return "gpu-bound" if row.gpu_busy_ms_x >= GPU_BOUND * row.p50_ms_x else "host-bound"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    found = distribution(read_summary(given.first), read_summary(given.second))
    print(json.dumps(found, indent=2))
    if given.write:
        write_json(given.write, found)
    return int(found["quantiles"]["50%"] > ALLOWED_MEDIAN)


if __name__ == "__main__":
    sys.exit(main())
