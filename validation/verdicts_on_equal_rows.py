"""How often do verdicts call equal rows different, and do they find a row that is 1.20 times as fast?  A simulation.

    python run.py python validation/verdicts_on_equal_rows.py [--tables N] [--most ROUNDS]

A table has 12 rows and an A/A row at 4 batch sizes, timed in rounds of random order: three, and up to `--most` for rows
whose interval is wider than 5%, as the pipeline does.  A process shifts all its batch sizes together, by a draw of its
own (`block`), by a random walk from process to process (`walk`), or by landing in one of a few states of the host
(`modal`).  Exits with 1 if more than 5% of tables of equal rows hold a false verdict, if the fast row is found too
seldom, or if another run's p50 lies outside its interval too often (a walk that goes on can be in no interval: there it
is only shown).
"""

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.statistics.intervals import Verdict, verdict
from bench.statistics.rounds import Level, levels, ratio

ROWS, SIZES = 12, 4
BASELINE, TWIN, FAST = 0, ROWS, 3
CELL_NOISE = 0.01
MARGIN = 0.02
COMPARISONS = ROWS * (ROWS - 1) // 2 * SIZES
"""Every pair of rows at every batch size: a report may look at any of them."""
TARGET = 0.05
SPEEDUP = 1.2
WORLDS: dict[str, tuple[str, float, float]] = {
    "block 2%": ("block", 0.02, 0.9),
    "block 5%": ("block", 0.05, 0.7),
    "walk 1% a process": ("walk", 0.01, 0.9),
    "walk 2% a process": ("walk", 0.02, 0.7),
    "modal, up to 20%": ("modal", 0.1, 0.0),
}
"""What shifts a process, by how much, and in how many cells a row 1.20 times as fast must be found."""
Array = NDArray[np.float64]


def run_in_rounds(truth: Array, kind: str, size: float, most: int, rng: np.random.Generator) -> Array:
    """Return what each process gave, `[rounds, rows, batch sizes]`, NaN of rows that need no further round.

    `truth` `[rows, batch sizes]` are the true logarithms of the latencies.
    """
    table = np.full((most, *truth.shape), np.nan)
    active = list(range(len(truth)))
    shift = 0.0
    for number in range(most):
        if number >= 3:
            active = still_wide(table)
        for row in rng.permutation(active):
            step = size * float(rng.choice([0, 0, 1, 2]) if kind == "modal" else rng.standard_normal())
            shift = shift + step if kind == "walk" else step
            table[number, row] = np.exp(truth[row] + shift + CELL_NOISE * rng.standard_normal(SIZES))
    return table


def still_wide(table: Array) -> list[int]:
    """Return the rows that need another round, with the baseline and its twin; none if there are none."""
    found = panel(table)
    wide = {row for level in found for row in range(1, ROWS) if level[row].half_width() > math.log1p(TARGET)}
    return sorted(wide | {BASELINE, TWIN}) if wide else []


def panel(table: Array) -> list[list[Level]]:
    """Return the levels of all rows at each batch size."""
    rounds_of = [[{n: v for n, v in enumerate(row) if v > 0} for row in cells] for cells in table.transpose(2, 1, 0)]
    return list(map(levels, rounds_of))


def verdicts(table: Array) -> list[dict[int, Verdict]]:
    """Return each row's verdict against the baseline by batch size; all inconclusive if the A/A row fails."""
    found = [
        {
            row: verdict(ratio(level[BASELINE], level[row], comparisons=COMPARISONS), MARGIN)
            for row in range(1, len(level))
        }
        for level in panel(table)
    ]
    if any(size[TWIN] in ("faster", "slower") for size in found):
        return [dict.fromkeys(size, "inconclusive") for size in found]
    return found


def simulate(world: str, tables: int, most: int = 8, seed: int = 0) -> dict[str, float]:
    """Return the share of tables with a false verdict, of cells that find the fast row, of p50 promises kept."""
    kind, size, _ = WORLDS[world]
    rng = np.random.default_rng(seed)
    equal = np.zeros((ROWS + 1, SIZES))
    fast = equal.copy()
    fast[FAST] = -math.log(SPEEDUP)
    false_tables = found = kept = 0
    for _ in range(tables):
        first, second = (run_in_rounds(equal, kind, size, most, rng) for _ in range(2))
        false_tables += any(said in ("faster", "slower") for cells in verdicts(first) for said in cells.values())
        kept += promises_kept(first, second)
        found += sum(cells[FAST] == "faster" for cells in verdicts(run_in_rounds(fast, kind, size, most, rng)))
    return {
        "tables_with_a_false_verdict": false_tables / tables,
        "cells_in_which_1.20_is_found": found / tables / SIZES,
        "p50_of_another_run_in_its_interval": kept / tables / ROWS / SIZES,
    }


def promises_kept(first: Array, second: Array) -> int:
    """Return in how many cells the second run's p50 lies in the first one's interval for it."""
    found = [
        (ours[row].of_another_run(), theirs[row].value)
        for ours, theirs in zip(panel(first), panel(second), strict=True)
        for row in range(ROWS)
    ]
    return sum(interval is not None and interval.low <= value <= interval.high for interval, value in found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=400)
    parser.add_argument("--most", type=int, default=8)
    given = parser.parse_args()
    found = {world: simulate(world, given.tables, given.most) for world in WORLDS}
    print(json.dumps({"tables": given.tables, "most_rounds": given.most, **found}, indent=2))
    return int(any(not holds(world, result) for world, result in found.items()))


def holds(world: str, result: dict[str, float]) -> bool:
    """Tell whether a simulated world came out as it must."""
    return (
        result["tables_with_a_false_verdict"] <= 0.05
        and result["cells_in_which_1.20_is_found"] >= WORLDS[world][2]
        and (WORLDS[world][0] == "walk" or result["p50_of_another_run_in_its_interval"] >= 0.9)
    )


if __name__ == "__main__":
    sys.exit(main())
