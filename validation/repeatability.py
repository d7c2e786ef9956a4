"""How far does this machine repeat itself?  From two recorded runs of it, or from its CPU alone.

    python run.py python validation/repeatability.py runs runs/FIRST runs/SECOND [--record TITLE]
    python run.py python validation/repeatability.py host [--rounds N]

`runs`: does what the first run says hold in the second?  Counts its p50, p95, means and rates that lie in the first
one's intervals for another run, and the pairs of rows that the first run decides and the second turns round.  Exits
with 1 if fewer than 90% of p50, or 85% of p95 or rates, lie inside, or if a pair is turned round.  --record keeps what
was found for the docs.

`host`: is the CPU steady?  A fixed Python loop, timed again and again on every CPU while nothing else runs.  It fits
into a core's own caches and waits for nothing, so only the core's speed changes its time: its clock, or whoever shares
it (on a virtual machine, other guests).  Rows whose GPU waits for the host vary as much.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.core.files import read_json, write_json
from bench.machine.lock import timing_lock
from bench.runs.recorded_runs import RecordedRun
from bench.summary.comparisons import compare
from bench.summary.serving import compare_served
from bench.timing.monitors import calibration_loop_ms

RECORDED = Path(__file__).with_name("recorded") / "repeatability.json"
"""By what was compared and by title: what docs/statistics.md cites."""
WANTED_INSIDE = {"p50": 0.9, "p95": 0.85, "requests_per_s": 0.85}
DECIDED = ("faster", "slower")
PAUSE_SECONDS = 0.25


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


def of_two_runs(folders: Sequence[Path]) -> dict[str, Any]:
    """Return what was found of rows in the closed loop, and of rows under load."""
    first, second = map(RecordedRun.read, folders)
    return {
        "summary": by_device(first.table, second.table, held),
        "serving": by_device(first.serving, second.serving, held_under_load),
    }


def is_good(found: Mapping[str, Any]) -> bool:
    """Tell whether the second run keeps what the first one says."""
    shares = found["in_the_interval_for_another_run"]
    keeps = all(each["inside"] >= WANTED_INSIDE.get(name, 0.0) * each["known"] for name, each in shares.items())
    return keeps and not found["turned_round"]


def host_speed(rounds: int) -> dict[str, Any]:
    """Return how long the fixed loop takes, and how far its times on one CPU differ."""
    times = []
    with timing_lock():
        for _ in range(rounds):
            times += [{"cpu": cpu, "ms": calibration_loop_ms()} for cpu in on_each_cpu(psutil.Process())]
            time.sleep(PAUSE_SECONDS)
    every = pd.DataFrame(times)
    spread = every.groupby("cpu", sort=False)["ms"].agg(lambda of_one: of_one.max() / of_one.min())
    return {
        "fastest_ms": every["ms"].min(),
        "median_ms": every["ms"].median(),
        "slowest_ms": every["ms"].max(),
        "slowest_over_fastest_of_one_cpu": {"median": spread.median(), "cpus": spread.to_dict()},
    }


def on_each_cpu(process: psutil.Process) -> Iterator[str]:
    """Move this process to one CPU after the other, and back to all; `any` where the system does not allow it."""
    if not hasattr(process, "cpu_affinity"):
        yield "any"
        return
    everywhere = process.cpu_affinity() or []
    try:
        for cpu in everywhere:
            process.cpu_affinity([cpu])
            yield str(cpu)
    finally:
        process.cpu_affinity(everywhere)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ways = parser.add_subparsers(dest="what", required=True)
    runs = ways.add_parser("runs")
    runs.add_argument("runs", type=Path, nargs=2, metavar="FOLDER")
    runs.add_argument("--record", metavar="TITLE", help=f"keep what was found in {RECORDED.name} as well")
    ways.add_parser("host").add_argument("--rounds", type=int, default=20)
    given = parser.parse_args()
    if given.what == "host":
        print(json.dumps(host_speed(given.rounds), indent=2))
        return 0
    found = of_two_runs(given.runs)
    print(json.dumps(found, indent=2))
    if given.record:
        content = read_json(RECORDED, "restore it with git")
        for name, of_devices in found.items():
            content[name] |= {given.record: of_devices} if of_devices else {}
        write_json(RECORDED, content)
    return int(not all(is_good(each) for of_devices in found.values() for each in of_devices.values()))


if __name__ == "__main__":
    sys.exit(main())
