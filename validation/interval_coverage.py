"""Do the intervals hold what they promise?  Simulated processes with known truth.

    python run.py python validation/interval_coverage.py [--cells N] [--write FILE]

A simulated run: skewed (log-normal), autocorrelated latencies that drift, in processes that
differ from one another.  Counted over many cells: how often the interval of p50 holds the true
median, and how often two equal variants (A/A) are called different.  Seeded.
Exits with 1 if coverage leaves 93% to 97% or false wins exceed 5%.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.core.files import write_json
from bench.statistics.intervals import interval, ratio_interval, verdict

SPREAD_BETWEEN_PROCESSES = 0.03
SKEW = 0.05
AUTOCORRELATION = 0.6
DRIFT = 0.01


def medians(rng: np.random.Generator, processes: int, runs: int, truth_ms: float) -> list[float]:
    """Return the median of each of `processes` simulated processes whose true median is `truth_ms`."""
    found = []
    for _ in range(processes):
        noise = rng.standard_normal(runs)
        for place in range(1, runs):
            noise[place] = AUTOCORRELATION * noise[place - 1] + np.sqrt(1 - AUTOCORRELATION**2) * noise[place]
        drift = DRIFT * (np.arange(runs) / runs - 0.5)
        level = SPREAD_BETWEEN_PROCESSES * rng.standard_normal()
        skewed = SKEW * (np.exp(noise) - 1)  # median 0, long tail above
        found.append(float(np.median(truth_ms * np.exp(level + drift + skewed))))
    return found


def simulate(cells: int, processes: int, runs: int = 60, seed: int = 0, margin: float = 0.02) -> dict[str, Any]:
    """Return coverage of the p50 interval and the share of A/A pairs called faster or slower."""
    rng = np.random.default_rng(seed)
    covered = false_wins = 0
    for _ in range(cells):
        ours, theirs = (medians(rng, processes, runs, 2.0) for _ in range(2))
        found = interval(ours)
        covered += found is not None and found.low <= 2.0 <= found.high
        false_wins += verdict(ratio_interval(ours, theirs), margin) in ("faster", "slower")
    return {
        "cells": cells,
        "processes": processes,
        "coverage": covered / cells,
        "false_wins": false_wins / cells,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=4000)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    found = [simulate(given.cells, processes) for processes in (3, 5, 10)]
    print(json.dumps(found, indent=2))
    if given.write:
        write_json(given.write, {str(result["processes"]): result for result in found})
    return int(any(not 0.93 <= result["coverage"] <= 0.97 or result["false_wins"] > 0.05 for result in found))


if __name__ == "__main__":
    sys.exit(main())
