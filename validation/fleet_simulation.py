"""How a fleet's schedule does on clusters that nobody here has: hundreds of made-up nodes, 20 kinds, 5% failures.

    python run.py python validation/fleet_simulation.py [--write PATH]

The schedule is the real one; nodes are made up, and so is the clock: an hour of measuring is a number.  Shows that each
kind is measured once however many of its nodes fail, what is left without a run, and how long it takes.
"""

from __future__ import annotations

import argparse
import heapq
import random
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.core.files import write_json
from fleet.kinds import Node, by_kind, run_names
from fleet.schedule import Lines, Result, Work, look_at, measure_all

LOOK_MINUTES = (0.5, 4.0)
MEASURE_MINUTES = (20.0, 75.0)
HUNG_MINUTES = 190.0
"""Of the nodes that fail at measuring, one in five hangs until its limit; the others fail at a random time."""
SEEDS = 200


@dataclass
class MadeUpCluster:
    """Nodes that take a random time and fail at random; an Engine whose clock jumps from one end to the next."""

    kinds: int
    nodes: int
    failing: float
    seed: int
    minutes: float = 0.0
    busy_minutes: float = 0.0
    measured: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._ends: list[tuple[float, int, Work, Result]] = []
        self._started = 0
        self._kind_of = {
            Node(f"{number:04d}", f"10.0.{number // 256}.{number % 256}", 16.0, 1.0): self._a_kind(number)
            for number in range(self.nodes)
        }

    def _a_kind(self, number: int) -> int:
        """Return a node's kind: one of each first, then few kinds have most of the nodes, as in a real cluster."""
        weights = [1 / (place + 1) for place in range(self.kinds)]
        return number if number < self.kinds else self._random.choices(range(self.kinds), weights)[0]

    def all_nodes(self) -> list[Node]:
        return list(self._kind_of)

    def start(self, work: Work) -> None:
        minutes = self._random.uniform(*(LOOK_MINUTES if work.what == "look" else MEASURE_MINUTES))
        result: Result = {"seconds": minutes * 60}
        if work.what == "look":
            result = {"cpu": {"model": "made-up", "cores": 16}, "os": "Linux", "cuda": self._gpu(work.node)}
        if self._random.random() < self.failing:
            result = {"fault": "died"}
            hangs = work.what == "measure" and self._random.random() < 0.2
            minutes = HUNG_MINUTES if hangs else minutes * self._random.random()
        self._started += 1
        self.busy_minutes += minutes
        heapq.heappush(self._ends, (self.minutes + minutes, self._started, work, result))

    def _gpu(self, node: Node) -> dict[str, Any]:
        return {"gpu": f"GPU {self._kind_of[node]:02d}", "count": 1, "memory_mib": 80_000}

    def next_ended(self) -> tuple[Work, Result]:
        self.minutes, _number, work, result = heapq.heappop(self._ends)
        return work, result

    def keep(self, work: Work, _kind: str, result: Result) -> str:
        if "fault" not in result:
            self.measured.append(work.name)
        return ""


def simulate(kinds: int, nodes: int, failing: float, repeat: int, seed: int) -> dict[str, float]:
    """Run one fleet; return what came of it."""
    cluster, lines = MadeUpCluster(kinds, nodes, failing, seed), Lines()
    found = by_kind(look_at(cluster, cluster.all_nodes(), lines))
    wanted = {kind: (run_names(kind, min(repeat, len(there))), there) for kind, there in found.items()}
    names = [name for own, _ in wanted.values() for name in own]
    missing = measure_all(cluster, wanted, lines, cluster.keep)
    if sorted([*cluster.measured, *missing]) != sorted(names) or len(lines.texts) != nodes:
        raise AssertionError(f"seed {seed}: a run came twice or is lost, or a node has no line")
    return {
        "kinds_found": len(found),
        "runs": len(cluster.measured),
        "missing": len(missing),
        "hours": cluster.minutes / 60,
        "node_hours": cluster.busy_minutes / 60,
    }


def summary(kinds: int, nodes: int, failing: float, repeat: int) -> dict[str, Any]:
    """Return what came of many fleets of one size."""
    came = [simulate(kinds, nodes, failing, repeat, seed) for seed in range(SEEDS)]
    ordered = sorted(each["hours"] for each in came)
    return {
        "nodes": nodes,
        "kinds": kinds,
        "failing": failing,
        "repeat": repeat,
        "fleets": SEEDS,
        "with_all_kinds": sum(each["missing"] == 0 and each["kinds_found"] == kinds for each in came),
        "runs_median": statistics.median(each["runs"] for each in came),
        "hours_median": statistics.median(ordered),
        "hours_p95": ordered[int(0.95 * len(ordered))],
        "node_hours_median": statistics.median(each["node_hours"] for each in came),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, metavar="PATH", help="write the figures as JSON")
    given = parser.parse_args()
    sizes = ((8, 8, 0.05, 1), (20, 100, 0.05, 1), (20, 400, 0.05, 1), (20, 400, 0.05, 3), (20, 400, 0.3, 1))
    found = [summary(*size) for size in sizes]
    for each in found:
        print(", ".join(f"{name} {value:.3g}" for name, value in each.items()))
    if given.write:
        write_json(given.write, {"simulated": found})


if __name__ == "__main__":
    main()
