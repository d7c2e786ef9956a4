"""Does what a run says hold in another run of the same machine?

    python run.py python validation/repeatability.py runs/FIRST runs/SECOND

Counts the second run's p50, p95, means and rates that lie in the first one's intervals for another run, and the pairs
of rows that the first run decides and the second turns round.  Exits with 1 if fewer than 90% of p50, or 85% of p95 or
rates, lie inside, or if a pair is turned round.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.runs.recorded_runs import RecordedRun
from bench.summary.comparisons import compare
from bench.summary.serving import compare_served

WANTED_INSIDE = {"p50": 0.9, "p95": 0.85, "requests_per_s": 0.85}
DECIDED = ("faster", "slower")


def held(first: pd.DataFrame, second: pd.DataFrame) -> dict[str, Any]:
    """Return how the first run's promises came out in the second; both are measured rows of one device."""
    ours, theirs = in_both(first, second, ["variant", "batch_size"])
    moves = np.abs(np.log(theirs["p50_ms"] / ours["p50_ms"]))
    return {
        "cells": len(ours),
        "in_the_interval_for_another_run": {name: inside(ours, theirs, name, "_ms") for name in ("p50", "p95", "mean")},
        **pairs(first, second, compare, "batch_size"),
        "median_difference_of_p50": math.expm1(float(moves.median())),
        "largest_difference_of_p50": math.expm1(moves.max()),
    }


def held_under_load(first: pd.DataFrame, second: pd.DataFrame) -> dict[str, Any]:
    """Return the same of rates; both are rows of one device that sustain one."""
    ours, theirs = in_both(first, second, "variant")
    moves = np.abs(np.log(theirs["requests_per_s"] / ours["requests_per_s"]))
    return {
        "cells": len(ours),
        "in_the_interval_for_another_run": {"requests_per_s": inside(ours, theirs, "requests_per_s")},
        **pairs(first, second, compare_served, "device"),
        "largest_difference": math.expm1(moves.max()),
    }


def in_both(first: pd.DataFrame, second: pd.DataFrame, key: str | list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows that both runs have, in the first one's order and by their key."""
    ours, theirs = (rows.set_index(key, drop=False) for rows in (first, second))
    common = ours.index[ours.index.isin(theirs.index)]
    return ours.loc[common], theirs.loc[common]


def inside(ours: pd.DataFrame, theirs: pd.DataFrame, quantity: str, unit: str = "") -> dict[str, int]:
    """Return of how many cells the first run gives an interval for a quantity, and in how many the second keeps it."""
    low, high = ours[f"{quantity}_low{unit}"], ours[f"{quantity}_high{unit}"]
    return {"known": int(low.notna().sum()), "inside": int(theirs[f"{quantity}{unit}"].between(low, high).sum())}


def pairs(first: pd.DataFrame, second: pd.DataFrame, compared: Callable[..., Any], by: str) -> dict[str, int]:
    """Return how many pairs of rows, equal in the column `by`, both runs have, and what became of the decided ones."""
    before, after = (
        {
            (one.variant, other.variant, same): compared(one, other).verdict
            for same, cells in rows.sort_values("variant").groupby(by)
            for one, other in combinations(cells.itertuples(), 2)
        }
        for rows in (first, second)
    )
    both = [pair for pair in before if pair in after]
    decided = [pair for pair in both if before[pair] in DECIDED]
    return {
        "pairs": len(both),
        "pairs_faster_or_slower": len(decided),
        "the_same_again": sum(after[pair] == before[pair] for pair in decided),
        "turned_round": sum({before[pair], after[pair]} == set(DECIDED) for pair in decided),
    }


def by_device(
    first: pd.DataFrame, second: pd.DataFrame, compared: Callable[[pd.DataFrame, pd.DataFrame], dict[str, Any]]
) -> dict[str, Any]:
    """Return what was found of each device that has measured rows in both tables."""
    ours, theirs = (dict(list(rows[rows["status"] == "measured"].groupby("device"))) for rows in (first, second))
    return {str(device): compared(ours[device], theirs[device]) for device in sorted({*ours} & {*theirs})}


def is_good(found: Mapping[str, Any]) -> bool:
    """Tell whether the second run keeps what the first one says."""
    shares = found["in_the_interval_for_another_run"]
    keeps = all(each["inside"] >= WANTED_INSIDE.get(name, 0.0) * each["known"] for name, each in shares.items())
    return keeps and not found["turned_round"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs=2, metavar="FOLDER")
    first, second = map(RecordedRun.read, parser.parse_args().runs)
    found = {
        "summary": by_device(first.table, second.table, held),
        "serving": by_device(first.serving, second.serving, held_under_load),
    }
    print(json.dumps(found, indent=2))
    return int(not all(is_good(each) for of_devices in found.values() for each in of_devices.values()))


if __name__ == "__main__":
    sys.exit(main())
