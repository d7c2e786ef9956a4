"""Do the verdicts and intervals of one run hold in a second one?  From the summaries of two runs of one machine.

    python run.py python validation/repeatability.py FIRST/summary.csv SECOND/summary.csv [--write FILE]

Counts how many of the second run's p50, p95 and means lie in the intervals that the first gives for them, how many
cells are called faster or slower than themselves (timed apart: the move of the device's baseline and of its fastest row
widens each interval), how many comparisons with the baseline are decided, and how many pairs of rows of one batch size
that the first run decides come out the other way in the second.  Exits with 1 if fewer than 90% of p50 or 85% of p95
lie inside, if more than 5% of cells differ from themselves, or if a pair is turned round.
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

from bench.summary.comparisons import compare
from bench.summary.panels import Sessions, with_levels
from bench.summary.table_file import read_summary
from validation.found import tell, turned_round

WANTED = {"p50": 0.9, "p95": 0.85}
ALLOWED_DIFFERENT = 0.05
CELL = ["variant", "batch_size"]


def held(first: pd.DataFrame, second: pd.DataFrame) -> dict[str, Any]:
    """Return how the first run's promises came out in the second; both are measured rows of one device."""
    ours, theirs = (rows.set_index(CELL, drop=False) for rows in (first, second))
    cells = [key for key in ours.index if key in theirs.index]
    inside = {quantity: _inside(ours, theirs, cells, quantity) for quantity in ("p50", "p95", "mean")}
    differences = [abs(math.log(theirs.p50_ms[key] / ours.p50_ms[key])) for key in cells]
    verdicts = [_against_itself(ours, theirs, key) for key in cells]
    decided = first["verdict"].dropna()
    return {
        "cells": len(cells),
        "in_the_interval_for_another_run": inside,
        "cells_called_faster_or_slower_than_themselves": sum(said in ("faster", "slower") for said in verdicts),
        "comparisons_with_the_baseline": len(decided),
        "decided": int((decided != "inconclusive").sum()),
        **_pairs(first, second),
        "median_difference_of_p50": math.expm1(float(pd.Series(differences).median())),
        "largest_difference_of_p50": math.expm1(max(differences)),
    }


def _inside(ours: pd.DataFrame, theirs: pd.DataFrame, cells: list[Any], quantity: str) -> dict[str, int]:
    known = [key for key in cells if not pd.isna(ours[f"{quantity}_low_ms"][key])]
    kept = [
        key
        for key in known
        if ours[f"{quantity}_low_ms"][key] <= theirs[f"{quantity}_ms"][key] <= ours[f"{quantity}_high_ms"][key]
    ]
    return {"known": len(known), "inside": len(kept)}


def _pairs(first: pd.DataFrame, second: pd.DataFrame) -> dict[str, int]:
    """Return how many pairs of rows of one batch size there are in both runs, and what became of those decided."""
    before, after = _verdicts(first), _verdicts(second)
    both = [pair for pair in before if pair in after]
    decided = [pair for pair in both if before[pair] in ("faster", "slower")]
    return {
        "pairs": len(both),
        "pairs_faster_or_slower": len(decided),
        "the_same_again": sum(after[pair] == before[pair] for pair in decided),
        "turned_round": turned_round(before, after),
    }


def _verdicts(rows: pd.DataFrame) -> dict[tuple[str, str, int], str]:
    """Return the verdict on each pair of rows at each batch size, the names in alphabetical order."""
    return {
        (one.variant, other.variant, int(one.batch_size)): compare(one, other).verdict
        for _, cells in rows.sort_values("variant").groupby("batch_size")
        for one, other in combinations(cells.itertuples(), 2)
    }


def _against_itself(ours: pd.DataFrame, theirs: pd.DataFrame, key: Any) -> str:
    """Return the verdict on a row against itself in the other run, the machine's move seen through two anchors."""
    size = key[1]
    at_size = ours[ours["batch_size"] == size]
    anchors = {(at_size["baseline"].iloc[0], size), (at_size.sort_values("p50_ms")["variant"].iloc[0], size)} - {key}
    moves = [abs(math.log(theirs.p50_ms[anchor] / ours.p50_ms[anchor])) for anchor in anchors if anchor in theirs.index]
    if not moves:
        return "inconclusive"
    [row, again] = pd.DataFrame([dict(ours.loc[key]) | {"moved": max(moves)}, dict(theirs.loc[key])]).itertuples()
    return compare(row, again).verdict


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--device", choices=("cpu", "cuda"))
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    tables = [with_levels(read_summary(path), Sessions()) for path in (given.first, given.second)]
    devices = [given.device] if given.device else sorted(set(tables[0]["device"]))
    measured = [table[table["status"] == "measured"] for table in tables]
    found = {
        device: held(*(rows[rows["device"] == device] for rows in measured))
        for device in devices
        if all((rows["device"] == device).any() for rows in measured)
    }
    tell(found, given.write)
    return int(not all(map(_is_good, found.values())))


def _is_good(result: dict[str, Any]) -> bool:
    inside = result["in_the_interval_for_another_run"]
    keeps = all(inside[name]["inside"] >= share * inside[name]["known"] for name, share in WANTED.items())
    agrees = result["cells_called_faster_or_slower_than_themselves"] <= ALLOWED_DIFFERENT * result["cells"]
    return keeps and agrees and not result["turned_round"]


if __name__ == "__main__":
    sys.exit(main())
