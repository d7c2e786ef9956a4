"""Do the rates under load of one run hold in a second one?  From results/serving.csv of two runs of one machine.

    python run.py python validation/serving_repeatability.py FIRST/serving.csv SECOND/serving.csv [--write FILE]

Counts how many rates of the second run lie in the intervals that the first gives for them, and how many pairs of rows
whose order the first decides come out the other way in the second.  Exits with 1 if fewer than 85% lie inside, or if
one pair is turned round.
"""

from __future__ import annotations

import argparse
import math
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.summary.serving import compare_served, read_serving
from validation.found import tell, turned_round

WANTED_INSIDE = 0.85
DECIDED = ("faster", "slower", "tie")


def held(first: pd.DataFrame, second: pd.DataFrame) -> dict[str, Any]:
    """Return how the first run's promises came out in the second; both are rows of one device that hold a rate."""
    ours, theirs = ({row.variant: row for row in rows.itertuples()} for rows in (first, second))
    names = [name for name in ours if name in theirs]
    inside = [
        name
        for name in names
        if ours[name].requests_per_s_low <= theirs[name].requests_per_s <= ours[name].requests_per_s_high
    ]
    moves = [abs(math.log(theirs[name].requests_per_s / ours[name].requests_per_s)) for name in names]
    pairs = list(combinations(names, 2))
    before, after = (
        {pair: compare_served(rows[pair[0]], rows[pair[1]]).verdict for pair in pairs} for rows in (ours, theirs)
    )
    return {
        "rows": len(names),
        "in_the_interval_for_another_run": len(inside),
        "largest_difference": math.expm1(max(moves, default=0.0)),
        "pairs": len(pairs),
        "decided": sum(before[pair] in DECIDED for pair in pairs),
        "turned_round": turned_round(before, after),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    tables = [read_serving(path) for path in (given.first, given.second)]
    measured = [table[table["status"] == "measured"] for table in tables]
    found = {
        device: held(*(rows[rows["device"] == device] for rows in measured))
        for device in sorted(set(measured[0]["device"]))
    }
    tell(found, given.write)
    return int(not all(map(_is_good, found.values())))


def _is_good(result: dict[str, Any]) -> bool:
    is_inside = result["in_the_interval_for_another_run"] >= WANTED_INSIDE * result["rows"]
    return is_inside and not result["turned_round"]


if __name__ == "__main__":
    sys.exit(main())
