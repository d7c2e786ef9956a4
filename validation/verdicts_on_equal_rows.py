"""How often do verdicts call equal rows different, and do they find rows that are 1.2 and 1.5 times as fast?

    python run.py python validation/verdicts_on_equal_rows.py [--tables N] [--passes N] [--world NAME]

A simulation of the rule that runs: bench/timing/passes.py asks for blocks, looks, stops rows early and adds processes,
as long as `--passes` passes of all rows take; then the table is decided as bench/summary does.  A table has 12 rows and
an A/A row at 3 batch sizes.  A block's noise is 3%; to it comes what the world (`WORLDS`) does.  Of each world there
are tables of equal rows, each run twice, and tables with two faster rows.  Exits with 1 if more than 5% of tables of
either kind hold a false verdict, if the faster rows are found too seldom, or if another run's p50 lies outside its
interval in more than 10% of cells.
"""

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.statistics.blocks import Panel, estimate, pool_processes
from bench.statistics.decisions import AT_THE_END, Family, decide
from bench.statistics.intervals import Verdict, verdict
from bench.timing.passes import Cell, Passes, Plan, asked_pairs, twins

SIZES = (1, 8, 16)
BASELINE, TWIN = "row 0", "a/a"
ROWS = (BASELINE, TWIN, *(f"row {number}" for number in range(1, 12)))
PARTNERS = [("row 1", "row 2"), ("row 3", "row 4"), ("row 5", "row 6"), ("row 7", "row 8")]
EQUAL: Mapping[str, float] = {}
FASTER: Mapping[str, float] = {"row 3": -math.log(1.5), "row 8": -math.log(1.2)}
"""True logarithms of latencies of rows that are not 1 ms."""
JUMPING, JUMP, JUMPS = "row 5", math.log(15), 0.1
BLOCK_SECONDS = 0.03
NOISE = 0.03
PROCESS = 0.03
STATE = math.log(1.7)
STEAL = math.log(1.5)
DRIFT = 0.3
MARGIN, TARGET = 0.02, 0.05
ALLOWED = 0.05
APART = ("1.2", "1.5")
PROMISED = 0.9


@dataclass(frozen=True)
class World:
    """What happens to blocks and processes beside noise.

    `kind`: `states` (the host is 1.7 times as slow in some blocks), `slow states` (for some blocks on end), `drift`,
    `jump` (one row takes 15 times as long in a tenth of its blocks), `steal` (another process takes a core for half of
    the run), `wander` (each cell on its own, from pass to pass).  `process`: of 3%, `each` process or each at every
    `size` anew.
    """

    kind: str = ""
    process: str = ""
    wanted: tuple[float, float] = (0.6, 0.99)
    """The least shares of asked pairs 1.2 and 1.5 times apart that thirty passes must find."""


WORLDS = {
    "noise alone": World(wanted=(0.95, 0.99)),
    "processes 3%": World(process="each"),
    "processes 3%, each batch size": World(process="size"),
    "two states by block": World("states", wanted=(0.0, 0.7)),
    "two states by block, processes 3%": World("states", "each", wanted=(0.0, 0.5)),
    "two states for some blocks, processes 3%": World("slow states", "each", wanted=(0.0, 0.6)),
    "drift, processes 3%": World("drift", "each"),
    "a row that jumps, processes 3%": World("jump", "each"),
    "a core is taken, processes 3%": World("steal", "each", wanted=(0.0, 0.9)),
    "rows that wander": World("wander"),
}
SHOWN = {"rows that wander"}
"""A row that was stopped early cannot show that it wanders for longer: what comes of it is only shown."""


class SimulatedBench:
    """Gives blocks of a world, and the time that they take."""

    def __init__(self, world: World, truth: Mapping[str, float], slow_share: float, seconds: float, seed: int) -> None:
        self.world, self.truth, self.slow_share, self.seconds = world, truth, slow_share, seconds
        self.random = np.random.default_rng(seed)
        self.now = 0.0
        self.effects: dict[tuple[str, int, int], float] = {}
        self.wandered: dict[Cell, float] = {}
        self.is_slow = False

    def clock(self) -> float:
        return self.now

    def begin_pass(self) -> None:
        """Nothing to note."""

    def is_whole(self, number: int) -> bool:  # noqa: ARG002
        return True

    def add_processes(self, rows: Sequence[str]) -> list[str]:
        return list(rows)

    def block(self, cell: Cell, process: int, number: int) -> float:  # noqa: ARG002
        self.now += BLOCK_SECONDS
        log = self.truth.get(cell.row, 0.0) + NOISE * self.random.standard_normal() + self._world(cell)
        return math.exp(log + (self._process(cell, process) if self.world.process else 0.0))

    def _process(self, cell: Cell, process: int) -> float:
        key = cell.row, process, cell.size if self.world.process == "size" else 0
        if key not in self.effects:
            self.effects[key] = PROCESS * self.random.standard_normal()
        return self.effects[key]

    def _world(self, cell: Cell) -> float:
        chance, kind = self.random.random(), self.world.kind
        if kind == "wander":
            self.wandered[cell] = 0.9 * self.wandered.get(cell, 0.0) + 0.02 * self.random.standard_normal()
            return self.wandered[cell]
        if kind == "drift":
            return DRIFT * self.now / self.seconds
        if kind == "jump":
            return JUMP * (cell.row == JUMPING and chance < JUMPS)
        if kind == "steal":
            return STEAL * (self.now > self.seconds / 2 and chance < 0.5)
        return STATE * self._is_slow(chance)

    def _is_slow(self, chance: float) -> bool:
        if self.world.kind == "states":
            return chance < self.slow_share
        if self.world.kind == "slow states" and chance < 0.1:
            self.is_slow = self.random.random() < self.slow_share
        return self.is_slow


@dataclass(frozen=True)
class Run:
    """A table: the panel of each batch size, and each pair's verdict there by the places in `ROWS`; all if voided."""

    panels: list[Panel]
    verdicts: list[dict[tuple[int, int], Verdict]]
    is_voided: bool


def run(world: World, truth: Mapping[str, float], passes: int, seed: int, slow_share: float) -> Run:
    """Time and decide one table."""
    seconds = BLOCK_SECONDS * passes * len(ROWS) * len(SIZES)
    bench = SimulatedBench(world, truth, slow_share, seconds, seed)
    plan = Plan(dict.fromkeys(ROWS, SIZES), BASELINE, TWIN, PARTNERS, seconds, MARGIN, TARGET, seed)
    timed = Passes(plan, bench, clock=bench.clock)
    timed.run()
    return decided([Panel([timed.blocks[Cell(row, size)] for row in ROWS]) for size in SIZES], plan)


def decided(panels: list[Panel], plan: Plan) -> Run:
    """Return the verdicts on all pairs, as bench/summary/comparisons.py has them."""
    control = twins(ROWS, plan)
    assert control
    pool_processes(panels, [control] * len(panels))
    families = [Family(panel.levels(), asked_pairs(ROWS, plan)) for panel in panels]
    comparisons, decisions = decide(families, MARGIN, AT_THE_END)
    found = []
    is_voided = False
    for panel, family, decision in zip(panels, families, decisions, strict=True):
        twin = panel.compared(*control)
        floor = math.expm1(abs(float(np.median(panel.differences(*control)))))
        is_voided |= twin is not None and verdict(twin.interval(comparisons), MARGIN) in ("faster", "slower")
        margin = max(MARGIN, floor)
        ours = {}
        for first, second in decision.verdicts:
            each = estimate(family.levels[second], family.levels[first])
            ours[first, second] = verdict(each.interval(comparisons) if each else None, margin)
        found.append(ours)
    return Run(panels, found, is_voided)


def true_differences(truth: Mapping[str, float], world: World) -> dict[tuple[int, int], float]:
    """Return the true logarithm of second / first by the places of two rows."""
    logs = [truth.get(row, 0.0) + JUMP * JUMPS * (world.kind == "jump" and row == JUMPING) for row in ROWS]
    return {(a, b): logs[b] - logs[a] for a in range(len(ROWS)) for b in range(a + 1, len(ROWS))}


def has_false_verdict(found: Run, differences: Mapping[tuple[int, int], float]) -> bool:
    """Tell whether a table says something false; a voided one says nothing."""
    return not found.is_voided and any(
        (said == "faster" and differences[pair] <= 0) or (said == "slower" and differences[pair] >= 0)
        for verdicts in found.verdicts
        for pair, said in verdicts.items()
    )


def found_apart(found: Run, differences: Mapping[tuple[int, int], float]) -> Counter[str]:
    """Count the pairs with the baseline and the best that are so far apart, and those of them that are decided."""
    counts: Counter[str] = Counter()
    asked = {ROWS.index(BASELINE), ROWS.index(min(FASTER, key=lambda row: FASTER[row]))}
    for verdicts in found.verdicts:
        for pair, said in verdicts.items():
            apart = abs(differences[pair])
            if asked.isdisjoint(pair) or apart < math.log(1.15) or JUMPING in (ROWS[pair[0]], ROWS[pair[1]]):
                continue
            name = "1.2" if apart < math.log(1.4) else "1.5"
            counts[name] += 1
            counts[f"{name} found"] += not found.is_voided and said in ("faster", "slower")
    return counts


def promises(first: Run, second: Run) -> tuple[int, int]:
    """Return how many cells give an interval for another run, and in how many the second run's p50 lies in it."""
    known = kept = 0
    for ours, theirs in zip(first.panels, second.panels, strict=True):
        for one, other in zip(ours.levels(), theirs.levels(), strict=True):
            if promised := one.of_another_run():
                known += 1
                kept += promised.low <= other.value <= promised.high
    return known, kept


def simulate(world: World, tables: int, passes: int, seed: int = 0) -> dict[str, float]:
    """Return the shares of tables with a false verdict, of voided ones, of pairs found, of promises kept."""
    shares = np.random.default_rng(seed).uniform(0.2, 0.8, tables)
    counts: Counter[str] = Counter()
    equal, apart = (true_differences(truth, world) for truth in (EQUAL, FASTER))
    widths = []
    for number, slow_share in enumerate(shares):
        seeds = [1000 * seed + 3 * number + place for place in range(3)]
        first, second = (run(world, EQUAL, passes, each, slow_share) for each in seeds[:2])
        faster = run(world, FASTER, passes, seeds[2], slow_share)
        counts["false"] += sum(has_false_verdict(each, equal) for each in (first, second))
        counts["false apart"] += has_false_verdict(faster, apart)
        counts["voided"] += first.is_voided + second.is_voided
        known, kept = promises(first, second)
        counts.update({"known": known, "kept": kept} | found_apart(faster, apart))
        widths += [each.half_width() for panel in first.panels if (each := panel.compared(0, 1))]
    return {
        "tables_of_equal_rows_with_a_false_verdict": counts["false"] / tables / 2,
        "tables_with_faster_rows_with_a_false_verdict": counts["false apart"] / tables,
        "tables_voided": counts["voided"] / tables / 2,
        **{f"pairs_{name}_apart_found": counts[f"{name} found"] / max(1, counts[name]) for name in APART},
        "p50_of_another_run_in_its_interval": counts["kept"] / max(1, counts["known"]),
        "half_of_the_interval_of_the_aa_row_alone": float(np.median(widths)),
    }


def holds(world: World, result: Mapping[str, float]) -> bool:
    """Tell whether a simulated world came out as it must."""
    return (
        max(value for name, value in result.items() if name.endswith("false_verdict")) <= ALLOWED
        and all(result[f"pairs_{name}_apart_found"] >= least for name, least in zip(APART, world.wanted, strict=True))
        and result["p50_of_another_run_in_its_interval"] >= PROMISED
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=20)
    parser.add_argument("--passes", type=int, default=30)
    parser.add_argument("--world", choices=WORLDS, action="append", help="all, if left out")
    given = parser.parse_args()
    found = {}
    for name in given.world or WORLDS:
        found[name] = simulate(WORLDS[name], given.tables, given.passes)
        print(name, json.dumps(found[name]), file=sys.stderr)
    print(json.dumps({"tables": given.tables, "passes": given.passes, **found}, indent=2))
    return int(not all(name in SHOWN or holds(WORLDS[name], result) for name, result in found.items()))


if __name__ == "__main__":
    sys.exit(main())
