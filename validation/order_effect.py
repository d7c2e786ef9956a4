"""Is what is timed later slower?  How far each round's figures are from their row's mean, over all rows of a summary.

    python run.py python validation/order_effect.py SUMMARY.csv [--write FILE]

Only the rounds that all rows had are looked at, so that no row weighs more in one than in another.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from statistics import fmean, median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.summary.panels import values
from bench.summary.table_file import read_summary
from validation.found import tell


def by_round(path: Path) -> dict[str, Any]:
    """Return by device and round: the median over cells of p50 / its row's mean, and the share of cells above it."""
    table = read_summary(path)
    found: dict[str, Any] = {}
    for device, rows in table[table["status"] == "measured"].groupby("device"):
        cells = [values(row, "p50") for row in rows.itertuples()]
        common = sorted(set.intersection(*map(set, cells)))
        logs = [{number: math.log(cell[number]) for number in common} for cell in cells]
        apart = [[cell[number] - fmean(cell.values()) for cell in logs] for number in common]
        found[str(device)] = {
            "cells": len(cells),
            "rounds": [
                {"ratio": math.exp(median(values_of)), "cells_above": sum(value > 0 for value in values_of)}
                for values_of in apart
            ],
        }
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("summary", type=Path)
    parser.add_argument("--write", type=Path, help="write what was found to this file as well")
    given = parser.parse_args()
    found = by_round(given.summary)
    tell(found, given.write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
