"""Where each row stands in its panel, and the one place where the ratio of two rows becomes a verdict.

A panel is the rows of one device that were timed in the same rounds, at one batch size.  To each row of the table come
its intervals, what the A/A row says of noise and margin, and the comparison with its baseline.

Every pair of a device's rows may be looked at, so the interval of each ratio is one of all of them together: the error
of 5% is shared out over all pairs (Bonferroni).  What a reader picks out afterwards, the fastest row say, is covered.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Literal

import pandas as pd

from bench.core.params import Params
from bench.core.reports import ProcessTimes, TimingSession
from bench.statistics.intervals import Interval, Verdict, verdict
from bench.statistics.rounds import Level, Values, levels, ratio
from bench.summary.table_file import Row, is_missing, known

Quantity = Literal["latency", "throughput"]
COMPARED = ("speedup", "speedup_low", "speedup_high", "verdict", "verdict_reason", "break_even_calls")
QUANTITIES = ("p50", "p95", "mean")
LIMITS = tuple(f"{quantity}_{end}_ms" for quantity in QUANTITIES for end in ("low", "high"))
LEVELS = tuple(f"{quantity}_level" for quantity in QUANTITIES)
"""Columns of a table in memory alone: where a row stands, as a Level; no file holds them."""
CONTROLS = ("aa_ratio", "aa_low", "aa_high", "aa_verdict", "noise_floor")
Sessions = Mapping[str, TimingSession]
"""The rounds that the rows of a table were timed in, with their A/A rows and anchors, by id."""


@dataclass(frozen=True)
class Comparison:
    """How many times as fast the first of two rows is (or as many requests/s it sustains), and how sure that is."""

    value: float
    interval: Interval | None
    verdict: Verdict
    is_within_noise: bool = False
    """A tie only because the noise floor is wider than the configured margin: it shows no equality."""
    is_apart: bool = False
    """The two were not timed in the same rounds: the interval is wider by the drift in between."""
    reason: str = ""
    """Why an inconclusive verdict could be nothing else."""


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


def with_comparisons(table: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Add what comes of comparing each row with the baseline of its device and batch size."""
    rows = list(table.itertuples())
    baselines = {
        (row.device, row.batch_size): row
        for row in rows
        if row.status == "measured" and params.baselines.get(row.device) == row.variant
    }
    table["baseline"] = [params.baselines.get(device) for device in table["device"]]
    columns = [_against(baselines.get((row.device, row.batch_size)), row) for row in rows]
    for name in COMPARED:
        table[name] = [found.get(name) for found in columns]
    table["break_even_cuda_calls"] = [_engine_pays_after(row, rows) for row in rows]
    return table


def _against(baseline: Any, row: Any) -> Row:
    if baseline is None or row.status != "measured":
        return {}
    if baseline.variant == row.variant:
        return {"speedup": 1.0}
    found = compare(row, baseline)
    return {
        "speedup": found.value,
        "speedup_low": found.interval and found.interval.low,
        "speedup_high": found.interval and found.interval.high,
        "verdict": found.verdict,
        "verdict_reason": found.reason or None,
        "break_even_calls": break_even_calls(row.one_off_seconds, baseline.mean_ms, row.mean_ms),
    }


def _engine_pays_after(row: Any, rows: list[Any]) -> int | None:
    """Return after how many calls an engine has paid for what it takes once more than ONNX Runtime's fastest CUDA row.

    None for rows without an engine, and where the engine saves nothing.
    """
    like = ("onnxruntime", "cuda", "measured", row.batch_size)
    others = [other for other in rows if (other.runtime, other.device, other.status, other.batch_size) == like]
    if row.runtime != "tensorrt" or row.status != "measured" or not others:
        return None
    fastest = min(others, key=lambda other: other.mean_ms)
    if is_missing(row.one_off_seconds) or is_missing(fastest.one_off_seconds):
        return None
    more_seconds = max(0.0, row.one_off_seconds - fastest.one_off_seconds)
    return break_even_calls(more_seconds, fastest.mean_ms, row.mean_ms)


def break_even_calls(one_off: float | None, baseline_mean_ms: float, mean_ms: float) -> int | None:
    """Return after how many calls the time saved is more than what was spent once.

    None if nothing is saved, or `one_off` is not known.
    """
    if one_off is None or math.isnan(one_off) or mean_ms >= baseline_mean_ms:
        return None
    return math.ceil(one_off * 1000 / (baseline_mean_ms - mean_ms))


def compare(first: Any, second: Any, quantity: Quantity = "latency") -> Comparison:
    """Return how many times as fast `first` is as `second`: the ratio of p50, or of throughput (made of means)."""
    ours, theirs = (_level(row, quantity) for row in (first, second))
    is_apart = known(first, "session") != known(second, "session")
    moved = sum(_both(first, second, "moved")) if is_apart else 0.0
    comparisons = int(max(_both(first, second, "comparisons")))
    found = ratio(theirs, ours, comparisons, moved) if math.isfinite(moved) else None
    reason = _reason(first, second, found, moved)
    margin = max(_both(first, second, "margin"))
    said: Verdict = "inconclusive" if reason else verdict(found, margin)
    is_noise = said == "tie" and max(_both(first, second, "noise_floor")) >= margin
    return Comparison(math.exp(theirs.log_level - ours.log_level), found, said, is_noise, is_apart, reason)


def _level(row: Any, quantity: Quantity) -> Level:
    level: Level = row.p50_level if quantity == "latency" else row.mean_level
    return level if quantity == "latency" else replace(level, log_level=level.log_level - math.log(row.batch_size))


def _both(first: Any, second: Any, name: str) -> tuple[float, float]:
    return float(known(first, name) or 0.0), float(known(second, name) or 0.0)


def _reason(first: Any, second: Any, found: Interval | None, moved: float) -> str:
    if any(_both(first, second, "voided")):
        return "the A/A row came out as different from itself"
    if not math.isfinite(moved):
        return "different sessions, with nothing timed in both"
    return "one process" if found is None else ""


def fastest(rows: Iterable[Any]) -> Any:
    """Return the row with the lowest p50, None where there is none."""
    return min(rows, key=lambda row: row.p50_ms, default=None)


def fastest_and_ties(rows: Iterable[Any]) -> list[Any]:
    """Return the row with the lowest p50, then those that it is not surely faster than; empty where there is none."""
    ordered = sorted(rows, key=lambda row: row.p50_ms)
    return [ordered[0], *not_surely_slower(ordered[0], ordered[1:])] if ordered else []


def not_surely_slower(first: Any, others: Iterable[Any], quantity: Quantity = "latency") -> list[Any]:
    """Return those of the other rows that the first is not surely faster than."""
    return [row for row in others if compare(first, row, quantity).verdict != "faster"]
