"""Add to the table where each row stands in its panel: intervals, noise, the A/A row's result, and the margin.

A panel is the rows of one device that were timed in the same rounds, at one batch size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

import pandas as pd

from bench.core.params import Params
from bench.core.reports import ProcessTimes, Report, TimingSession
from bench.statistics.intervals import Interval, verdict
from bench.statistics.rounds import Level, Values, levels, ratio
from bench.summary.table_file import Row, is_missing

Cells = dict[str, ProcessTimes]
"""A row's figures by batch size, as text."""
QUANTITIES = ("p50", "p95", "mean")
LIMITS = tuple(f"{quantity}_{end}_ms" for quantity in QUANTITIES for end in ("low", "high"))
NOISE = ("noise_variance", "noise_freedom", "state_variance", "state_freedom", "shares_state")


@dataclass
class Sessions:
    """The rounds that the rows of a table were timed in: their A/A rows and anchors."""

    by_id: dict[str, TimingSession] = field(default_factory=dict)

    def add(self, report: Report) -> None:
        """Take note of the rounds that a variant's report is of."""
        if report.session:
            self.by_id[report.session.id] = report.session

    def twin(self, session_id: Any, batch_size: int) -> ProcessTimes | None:
        """Return the A/A row's figures, None where it was not timed."""
        session = self.by_id.get(str(session_id))
        return session.twin.get(str(batch_size)) if session else None

    def anchors(self, session_id: Any) -> dict[str, Cells]:
        """Return the rows that were timed beside, by variant."""
        session = self.by_id.get(str(session_id))
        return session.anchors if session else {}


def numbers(text: Any) -> list[float]:
    """Return the numbers of a cell of the table."""
    return [float(value) for value in text.split()] if isinstance(text, str) else []


def values(row: Any, quantity: str) -> Values:
    """Return what each process of a row gave, by round; empty where the row has no such figure."""
    found = numbers(getattr(row, f"process_{quantity}_ms", None))
    rounds = [int(number) for number in numbers(getattr(row, "rounds", None))] or list(range(len(found)))
    return dict(zip(rounds, found, strict=True)) if found else {}


def with_levels(table: pd.DataFrame, sessions: Sessions, params: Params) -> pd.DataFrame:
    """Add intervals and noise of p50, p95 and mean, the A/A row's result, margins, and how far apart sessions are."""
    found: dict[Any, Row] = {row.Index: {} for row in table.itertuples()}
    controls: dict[tuple[str, int], Row] = {}
    measured = table[table["status"] == "measured"]
    comparisons = {device: _comparisons(rows) for device, rows in measured.groupby("device")}
    for (device, size, session), rows in measured.groupby(["device", "batch_size", "session"], sort=False):
        panel = list(rows.itertuples())
        twin = sessions.twin(session, size)
        for quantity in QUANTITIES:
            standing, of_twin = _levels(panel, twin, quantity)
            for index, level in standing.items():
                found[index] |= _figures(level, quantity)
            baseline = next((row.Index for row in panel if row.variant == params.baselines.get(device)), None)
            if quantity == "p50" and of_twin and baseline in standing:
                pairs = values(table.loc[baseline], "p50"), _twin_values(twin, "p50")
                again = ratio(standing[baseline], of_twin, comparisons[device])
                controls[device, size] = _control(pairs, standing[baseline].value / of_twin.value, again, params)
    for column in dict.fromkeys(name for row in found.values() for name in row):
        table[column] = [row.get(column) for row in found.values()]
    for column in LIMITS:
        if column not in table:
            table[column] = None
    table["samples_per_s_low"] = table["batch_size"] * 1000.0 / table["mean_high_ms"]
    table["samples_per_s_high"] = table["batch_size"] * 1000.0 / table["mean_low_ms"]
    return _with_moves(_with_controls(table, controls, comparisons, params), sessions)


def _levels(panel: list[Any], twin: ProcessTimes | None, quantity: str) -> tuple[dict[Any, Level], Level | None]:
    """Return where each row of a panel stands, by its index in the table, and where the A/A row does."""
    timed = {row.Index: own for row in panel if (own := values(row, quantity))}
    again = _twin_values(twin, quantity)
    if not timed:
        return {}, None
    found = levels([*timed.values(), *([again] if again else [])])
    return dict(zip(timed, found, strict=False)), found[-1] if again else None


def _twin_values(twin: ProcessTimes | None, quantity: str) -> Values:
    return dict(zip(twin.rounds, getattr(twin, f"process_{quantity}_ms", []), strict=False)) if twin else {}


def _figures(level: Level, quantity: str) -> Row:
    promised = level.of_another_run()
    limits = {f"{quantity}_low_ms": promised.low, f"{quantity}_high_ms": promised.high} if promised else {}
    return {**limits, **{f"{quantity}_{name}": float(getattr(level, name)) for name in NOISE}}


def level_of(row: Any, quantity: str) -> Level:
    """Return where a row of the table stands, from its columns; rounds of other sessions are other rounds.

    A table without these columns was kept by an older version: the row's own processes are all that is known then.
    """
    log_level = math.log(getattr(row, f"{quantity}_ms"))
    own = values(row, quantity) or values(row, "p50")
    names = frozenset(f"{getattr(row, 'session', '')} {number}" for number in own)
    noise = [getattr(row, f"{quantity}_{name}", None) for name in NOISE]
    if any(is_missing(value) for value in noise):
        alone = levels([own])[0] if own else Level(log_level, names, 0.0, 0.0, 0.0, 1.0)
        return replace(alone, log_level=log_level, rounds=names)
    found = [float(value or 0.0) for value in noise]
    return Level(log_level, names, found[0], found[1], found[2], found[3], shares_state=bool(found[4]))


def _with_controls(
    table: pd.DataFrame, controls: dict[tuple[str, int], Row], comparisons: dict[str, int], params: Params
) -> pd.DataFrame:
    """Add what the A/A row says: its ratio to the baseline, the noise floor and margin, and which panels it voids."""
    voided = {device for (device, _), control in controls.items() if control["aa_verdict"] in ("faster", "slower")}
    keys = list(zip(table["device"], table["batch_size"], strict=True))
    for column in ("aa_ratio", "aa_low", "aa_high", "aa_verdict", "noise_floor"):
        table[column] = [controls.get(key, {}).get(column) for key in keys]
    table["margin"] = [max(params.report.margin, controls.get(key, {}).get("noise_floor", 0.0)) for key in keys]
    table["comparisons"] = [comparisons.get(device, 1) for device in table["device"]]
    table["voided"] = [device in voided for device in table["device"]]
    return table


def _comparisons(rows: pd.DataFrame) -> int:
    """Return how many pairs of a device's rows a report may look at: all, at each batch size."""
    return max(1, sum(len(group) * (len(group) - 1) // 2 for _, group in rows.groupby("batch_size")))


def _control(pairs: tuple[Values, Values], value: float, again: Interval | None, params: Params) -> Row:
    """Return what the A/A row says; `pairs`: p50 of baseline and twin by round, `again`: how fast the twin is."""
    baseline, twin = pairs
    common = sorted(set(baseline) & set(twin))
    floor = math.expm1(abs(median(math.log(twin[number] / baseline[number]) for number in common))) if common else 0.0
    limits = {"aa_low": again.low, "aa_high": again.high} if again else {}
    return {"aa_ratio": value, **limits, "aa_verdict": verdict(again, params.report.margin), "noise_floor": floor}


def _with_moves(table: pd.DataFrame, sessions: Sessions) -> pd.DataFrame:
    """Add how far the machine had moved when a row was timed apart from most others of its device; 0 for these."""
    moves: list[float] = []
    main = {
        device: rows["session"].mode().iloc[0]
        for device, rows in table[table["status"] == "measured"].groupby("device")
        if rows["session"].notna().any()
    }
    for row in table.itertuples():
        reference = main.get(row.device)
        is_apart = row.status == "measured" and reference is not None and row.session != reference
        moves.append(_move(table, sessions, row, reference) if is_apart else 0.0)
    table["moved"] = moves
    return table


def _move(table: pd.DataFrame, sessions: Sessions, row: Any, reference: Any) -> float:
    """Return the largest change of a row that was timed in both sessions, as a logarithm; infinite without one."""
    changes = []
    for session, other in ((row.session, reference), (reference, row.session)):
        for variant, cells in sessions.anchors(session).items():
            there = table[
                (table["variant"] == variant)
                & (table["session"] == other)
                & (table["batch_size"] == row.batch_size)
                & (table["status"] == "measured")
            ]
            cell = cells.get(str(row.batch_size))
            changes += [abs(math.log(cell.p50_ms / p50_ms)) for p50_ms in there["p50_ms"]] if cell else []
    return max(changes, default=math.inf)
