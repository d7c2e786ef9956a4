"""How far are two runs of one machine apart?  The distribution of |p50 difference| over their cells.

    python run.py python benchmarks/repeatability.py FIRST/summary.csv SECOND/summary.csv [--write FILE]

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

from bench.files import write_json
from bench.report.summary import read_summary

ALLOWED_MEDIAN = 0.03
CELL = ["variant", "batch_size"]


def distribution(first: pd.DataFrame, second: pd.DataFrame) -> dict[str, Any]:
    """Return quantiles of |second / first - 1| over the cells measured in both, and the widest cells."""
    both = first[first["status"] == "measured"].merge(second[second["status"] == "measured"], on=CELL)
    difference = (both["p50_ms_y"] / both["p50_ms_x"] - 1).abs()
    widest = both.assign(difference=difference).nlargest(5, "difference")
    return {
        "cells": len(both),
        "quantiles": {f"{share:.0%}": float(difference.quantile(share)) for share in (0, 0.25, 0.5, 0.75, 0.9, 1)},
        "widest": {f"{row.variant} batch {row.batch_size}": float(row.difference) for row in widest.itertuples()},
    }


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
