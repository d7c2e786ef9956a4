"""Add to the table where each row stands in its panel: intervals, noise, the A/A row's result, and the margin.

A panel is the rows of one device that were timed in the same rounds, at one batch size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

import pandas as pd

from bench.core.reports import ProcessTimes, TimingSession
from bench.statistics.intervals import Interval, verdict
from bench.statistics.rounds import Level, Values, levels, ratio
from bench.summary.table_file import Row

Cells = dict[str, ProcessTimes]
"""A row's figures by batch size, as text."""
QUANTITIES = ("p50", "p95", "mean")
LIMITS = tuple(f"{quantity}_{end}_ms" for quantity in QUANTITIES for end in ("low", "high"))
LEVELS = tuple(f"{quantity}_level" for quantity in QUANTITIES)
"""Columns of a table in memory alone: where a row stands, as a Level; no file holds them."""


@dataclass
class Sessions:
    """The rounds that the rows of a table were timed in: their A/A rows and anchors."""

    by_id: dict[str, TimingSession] = field(default_factory=dict)

    @classmethod
    def of(cls, sessions: Iterable[TimingSession | None]) -> Sessions:
        """Return the rounds that the reports of variants are of, each once."""
        return cls({session.id: session for session in sessions if session})

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


def with_levels(table: pd.DataFrame, sessions: Sessions) -> pd.DataFrame:
    """Return the rows of results/summary.csv with where each measured one stands (`LEVELS`), and its intervals."""
    found: dict[Any, Row] = {index: {} for index in table.index}
    for _, panel, twin in _panels(table, sessions):
        for quantity in QUANTITIES:
            standing, _ = _levels(panel, twin, quantity)
            for row in (row for row in panel if row.Index in standing):
                found[row.Index] |= _figures(standing[row.Index], quantity, row)
    columns = {name: pd.Series([row.get(name) for row in found.values()], table.index) for name in (*LIMITS, *LEVELS)}
    columns |= {name: columns[name].astype(float) for name in LIMITS}
    table = table.drop(columns=list(columns), errors="ignore").assign(**columns)
    table["samples_per_s_low"] = table["batch_size"] * 1000.0 / table["mean_high_ms"]
    table["samples_per_s_high"] = table["batch_size"] * 1000.0 / table["mean_low_ms"]
    return table


def _panels(
    table: pd.DataFrame, sessions: Sessions
) -> Iterator[tuple[tuple[str, int], list[Any], ProcessTimes | None]]:
    """Yield the device and batch size of each panel, its rows, and the figures of its A/A row."""
    measured = table[table["status"] == "measured"]
    for (device, size, session), rows in measured.groupby(["device", "batch_size", "session"], sort=False):
        yield (device, size), list(rows.itertuples()), sessions.twin(session, size)


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


def _figures(level: Level, quantity: str, row: Any) -> Row:
    """Return the interval for another run, and the level of the figure that is shown; rounds of other sessions are
    other rounds.
    """
    promised = level.of_another_run()
    limits = {f"{quantity}_low_ms": promised.low, f"{quantity}_high_ms": promised.high} if promised else {}
    rounds = frozenset(f"{row.session} {number}" for number in level.rounds)
    shown = replace(level, log_level=math.log(getattr(row, f"{quantity}_ms")), rounds=rounds)
    return {**limits, f"{quantity}_level": shown}


def with_controls(table: pd.DataFrame, sessions: Sessions, baselines: Mapping[Any, str], margin: float) -> pd.DataFrame:
    """Add what the A/A row says, and how far the machine drifted between sessions: what comparisons need beside levels.

    The A/A row gives its ratio to the baseline, the noise floor and margin, and which panels it voids.  `baselines`:
    the baseline of each device; `margin`: the configured one.
    """
    measured = table[table["status"] == "measured"]
    comparisons = {device: _comparisons(rows) for device, rows in measured.groupby("device")}
    controls: dict[tuple[str, int], Row] = {}
    for key, panel, twin in _panels(table, sessions):
        standing, of_twin = _levels(panel, twin, "p50")
        baseline = next((row for row in panel if row.variant == baselines.get(key[0])), None)
        if of_twin and baseline is not None and baseline.Index in standing:
            pairs, own = (values(baseline, "p50"), _twin_values(twin, "p50")), standing[baseline.Index]
            again = ratio(own, of_twin, comparisons[key[0]])
            controls[key] = _control(pairs, own.value / of_twin.value, again, margin)
    voided = {device for (device, _), control in controls.items() if control["aa_verdict"] in ("faster", "slower")}
    found = [controls.get(key, {}) for key in zip(table["device"], table["batch_size"], strict=True)]
    for column in ("aa_ratio", "aa_low", "aa_high", "aa_verdict", "noise_floor"):
        table[column] = [control.get(column) for control in found]
    table["margin"] = [max(margin, control.get("noise_floor", 0.0)) for control in found]
    table["comparisons"] = [comparisons.get(device, 1) for device in table["device"]]
    table["voided"] = [device in voided for device in table["device"]]
    return _with_moves(table, sessions)


def _comparisons(rows: pd.DataFrame) -> int:
    """Return how many pairs of a device's rows a report may look at: all, at each batch size."""
    return max(1, sum(len(group) * (len(group) - 1) // 2 for _, group in rows.groupby("batch_size")))


def _control(pairs: tuple[Values, Values], value: float, again: Interval | None, margin: float) -> Row:
    """Return what the A/A row says; `pairs`: p50 of baseline and twin by round, `again`: how fast the twin is."""
    baseline, twin = pairs
    common = sorted(set(baseline) & set(twin))
    floor = math.expm1(abs(median(math.log(twin[number] / baseline[number]) for number in common))) if common else 0.0
    limits = {"aa_low": again.low, "aa_high": again.high} if again else {}
    return {"aa_ratio": value, **limits, "aa_verdict": verdict(again, margin), "noise_floor": floor}


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
