"""Add to the table where each row stands in its panel: intervals, noise, the A/A row's result, and the margin.

A panel is the rows of one device that were timed in the same rounds, at one batch size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import pandas as pd

from bench.core.reports import ProcessTimes, TimingSession
from bench.statistics.intervals import Interval, verdict
from bench.statistics.rounds import Level, Values, levels, ratio
from bench.summary.table_file import Row, known

QUANTITIES = ("p50", "p95", "mean")
LIMITS = tuple(f"{quantity}_{end}_ms" for quantity in QUANTITIES for end in ("low", "high"))
LEVELS = tuple(f"{quantity}_level" for quantity in QUANTITIES)
"""Columns of a table in memory alone: where a row stands, as a Level; no file holds them."""
CONTROLS = ("aa_ratio", "aa_low", "aa_high", "aa_verdict", "noise_floor")
Sessions = Mapping[str, TimingSession]
"""The rounds that the rows of a table were timed in, with their A/A rows and anchors, by id."""


def sessions_of(sessions: Iterable[TimingSession | None]) -> Sessions:
    """Return the rounds that reports of variants are of, each once."""
    return {session.id: session for session in sessions if session}


def values(row: Any, quantity: str) -> Values:
    """Return what each process of a row gave, by round; empty where the row has no such figure."""
    found = _numbers(row, f"process_{quantity}_ms")
    rounds = _numbers(row, "rounds") or range(len(found))
    return dict(zip(map(int, rounds), found, strict=True)) if found else {}


def _numbers(row: Any, name: str) -> list[float]:
    return [float(value) for value in (known(row, name) or "").split()]


def with_levels(table: pd.DataFrame, sessions: Sessions) -> pd.DataFrame:
    """Return the rows of results/summary.csv with where each measured one stands (`LEVELS`), and its intervals."""
    table = table.drop(columns=[*LIMITS, *LEVELS], errors="ignore")
    table = table.assign(**dict.fromkeys(LIMITS, math.nan), **dict.fromkeys(LEVELS))
    for _, panel, twin in _panels(table, sessions):
        for quantity in QUANTITIES:
            standing, _ = _levels(panel, twin, quantity)
            for row in (row for row in panel if row.Index in standing):
                columns = f"{quantity}_level", f"{quantity}_low_ms", f"{quantity}_high_ms"
                put_level(table, row, standing[row.Index], f"{quantity}_ms", columns)
    table["samples_per_s_low"] = table["batch_size"] * 1000.0 / table["mean_high_ms"]
    table["samples_per_s_high"] = table["batch_size"] * 1000.0 / table["mean_low_ms"]
    return table


def put_level(table: pd.DataFrame, row: Any, level: Level, figure: str, columns: Sequence[str]) -> None:
    """Write where a row stands by this figure, and the interval for another run, to three columns of its table."""
    rounds = frozenset(f"{row.session} {number}" for number in level.rounds)  # another session's are others
    table.at[row.Index, columns[0]] = replace(level, log_level=math.log(getattr(row, figure)), rounds=rounds)
    if promised := level.of_another_run():
        table.loc[row.Index, list(columns[1:])] = promised.low, promised.high


def _panels(
    table: pd.DataFrame, sessions: Sessions
) -> Iterator[tuple[tuple[str, int], list[Any], ProcessTimes | None]]:
    """Yield the device and batch size of each panel, its rows, and the figures of its A/A row."""
    measured = table[table["status"] == "measured"]
    for (device, size, session), rows in measured.groupby(["device", "batch_size", "session"], sort=False):
        twins = sessions[session].twin if session in sessions else {}
        yield (device, size), list(rows.itertuples()), twins.get(str(size))


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
    for column in CONTROLS:
        table[column] = [control.get(column) for control in found]
    table["margin"] = [max(margin, control.get("noise_floor", 0.0)) for control in found]
    table["comparisons"] = [comparisons.get(device, 1) for device in table["device"]]
    table["voided"] = [device in voided for device in table["device"]]
    table["moved"] = _moves(table, measured, sessions)
    return table


def _comparisons(rows: pd.DataFrame) -> int:
    return max(1, sum(len(group) * (len(group) - 1) // 2 for _, group in rows.groupby("batch_size")))


def _control(pairs: tuple[Values, Values], value: float, again: Interval | None, margin: float) -> Row:
    """Return what the A/A row says; `pairs`: p50 of baseline and twin by round, `again`: how fast the twin is."""
    baseline, twin = pairs
    changes = [math.log(twin[number] / baseline[number]) for number in baseline if number in twin]
    floor = math.expm1(abs(median(changes))) if changes else 0.0
    limits = {"aa_low": again.low, "aa_high": again.high} if again else {}
    return {"aa_ratio": value, **limits, "aa_verdict": verdict(again, margin), "noise_floor": floor}


def _moves(table: pd.DataFrame, measured: pd.DataFrame, sessions: Sessions) -> list[float]:
    """Return how far the machine had moved when a row was timed apart from most others of its device; 0 for these.

    That is the largest change of a row that was timed in both sessions, as a logarithm; infinite without one.
    """
    p50_ms = {(row.variant, row.session, row.batch_size): row.p50_ms for row in measured.itertuples()}
    main = {device: rows["session"].mode() for device, rows in measured.groupby("device")}

    def move(row: Any) -> float:
        reference = next(iter(main.get(row.device, ())), None)
        if row.status != "measured" or reference in (None, row.session):
            return 0.0
        changes = [
            abs(math.log(cell.p50_ms / p50_ms[variant, other, row.batch_size]))
            for session, other in ((row.session, reference), (reference, row.session))
            for variant, cells in (sessions[session].anchors if session in sessions else {}).items()
            if (cell := cells.get(str(row.batch_size))) and (variant, other, row.batch_size) in p50_ms
        ]
        return max(changes, default=math.inf)

    return [move(row) for row in table.itertuples()]
