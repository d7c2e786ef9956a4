"""How far machines of one kind differ: the same rows on several of them, beside what differs within one."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from bench.report.figures import MISSING, milliseconds
from bench.report.markdown import table_lines
from bench.runs.recorded_runs import RecordedRun
from bench.statistics.intervals import t_quantile

HARDWARE = ("cpu", "cuda", "os")
COLUMNS = ("variant", "batch", "machines", "p50 ms, lowest to highest", "between machines", "within one")
MIN_MACHINES = 2


def repeated(runs: list[RecordedRun]) -> list[list[RecordedRun]]:
    """Return the groups of runs of different machines with equal hardware, system, versions and parameters."""
    groups: dict[str, dict[str, RecordedRun]] = {}
    for run in runs:
        key = {name: run.environment[name] for name in HARDWARE} | {"params": run.params}
        key |= {"versions": run.environment["versions"], "python": run.environment["python"]}
        groups.setdefault(json.dumps(key, sort_keys=True, default=str), {}).setdefault(run.machine, run)
    return [list(group.values()) for group in groups.values() if len(group) >= MIN_MACHINES]


def between_nodes(runs: list[RecordedRun], device: str) -> Iterator[str]:
    """Yield how far the p50 of each row goes apart between machines of one kind; nothing without such machines.

    Between machines: half of the 95% interval for one more machine of the kind, as a share: Student's t of the
    machines' logarithms, times √(1 + 1/n) (Hahn and Meeker, Statistical Intervals, 1991, 4.6).  Within one: half of a
    run's own 95% interval, the median of the machines.
    """
    for group in repeated(runs):
        rows = list(_rows(group, device))
        if rows:
            yield f"Machines of one kind ({', '.join(f'`{run.name}`' for run in group)}):"
            yield ""
            yield from table_lines(COLUMNS, COLUMNS[:1], rows)
            yield ""


def _rows(group: list[RecordedRun], device: str) -> Iterator[list[str]]:
    tables = [run.measured(device) for run in group]
    for (variant, size), cells in pd.concat(tables).groupby(["variant", "batch_size"], sort=False):
        if len(cells) == len(group):
            low, high = milliseconds(cells["p50_ms"].min()), milliseconds(cells["p50_ms"].max())
            outside, inside = spread(list(cells["p50_ms"])), own_spread(cells)
            yield [f"`{variant}`", str(size), str(len(group)), f"{low} – {high}", f"±{outside:.1%}", inside]


def spread(values: list[float]) -> float:
    """Return half of the 95% interval for one more value, as a share of their geometric mean."""
    logs = np.log(values)
    deviation = float(np.std(logs, ddof=1))
    return math.expm1(t_quantile(len(logs) - 1) * deviation * math.sqrt(1 + 1 / len(logs)))


def own_spread(cells: pd.DataFrame) -> str:
    """Return the median half width of the runs' own intervals."""
    halves = np.sqrt(cells["p50_high_ms"] / cells["p50_low_ms"]) - 1
    return f"±{float(halves.median()):.1%}" if halves.notna().all() else MISSING
