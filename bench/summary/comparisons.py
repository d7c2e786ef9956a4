"""Where each row stands in its panel, and the one place where the ratio of two rows becomes a verdict.

A panel is the rows of one device that were timed in the same passes, at one batch size.  To each row of the table come
its intervals, what the A/A row says of noise and margin, and the comparison with its baseline.  Among how many
comparisons the error of 5% is shared, bench/statistics/decisions.py decides for all batch sizes of a device together.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, Literal

import numpy as np
import pandas as pd

from bench.core.params import Params
from bench.core.partners import partners
from bench.core.reports import AA_ROW, BlockTimes, Report, TimedCell, TimingSession
from bench.statistics.blocks import Blocks, Level, Panel, estimate, pool_processes
from bench.statistics.decisions import AT_THE_END, Family, Pair, decide
from bench.statistics.intervals import Interval, Verdict, smallest_difference, verdict
from bench.summary.table_file import Row, is_missing, known

Quantity = Literal["latency", "throughput"]
COMPARED = (
    *("speedup", "speedup_low", "speedup_high", "verdict", "verdict_reason", "smallest_difference"),
    "break_even_calls",
)
QUANTITIES = ("p50", "mean")
LIMITS = tuple(f"{quantity}_{end}_ms" for quantity in (*QUANTITIES, "p95") for end in ("low", "high"))
LEVELS = tuple(f"{quantity}_level" for quantity in QUANTITIES)
"""Columns of a table in memory alone: where a row stands, as a Level; no file holds them."""
CONTROLS = ("aa_ratio", "aa_low", "aa_high", "aa_verdict", "noise_floor")
IN_ROUNDS = "timed in rounds, by an earlier version"
Reports = Mapping[str, Report]


@dataclass(frozen=True)
class Comparison:
    """How many times as fast the first of two rows is (or as many requests/s it sustains), and how sure that is."""

    value: float
    interval: Interval | None
    verdict: Verdict
    is_within_noise: bool = False
    """A tie only because the noise floor is wider than the configured margin: it shows no equality."""
    is_apart: bool = False
    """The two were not timed in the same passes: they are compared through the baseline, which was timed with both."""
    reason: str = ""
    """Why an inconclusive verdict could be nothing else."""
    smallest: float | None = None
    """The smallest ratio that this run could have told, where it is only the interval's width that decides nothing."""


def judged(interval: Interval, margin: float) -> Comparison:
    """Return two rows that only the margin decides between."""
    said, smallest = verdict(interval, margin), smallest_difference(interval, margin)
    return Comparison(interval.value, interval, said, smallest=smallest)


def _block_values(cell: BlockTimes, quantity: str) -> Blocks:
    """Return what the blocks of a cell gave, by process and pass."""
    found: dict[int, dict[int, float]] = {}
    for number, process, ms in zip(cell.passes, cell.processes, getattr(cell, f"block_{quantity}_ms"), strict=True):
        found.setdefault(process, {})[number] = ms
    return found


@dataclass
class _Session:
    """The rows of one session at one batch size, by variant: those of the table with their index, then those beside."""

    session: TimingSession
    rows: dict[str, tuple[Any, BlockTimes]] = field(default_factory=dict)

    def panel(self, quantity: str, baseline: str | None) -> Panel:
        reference = [*self.rows].index(baseline) if baseline in self.rows else 0
        return Panel([_block_values(cell, quantity) for _, cell in self.rows.values()], reference, self.session.id)

    def twins(self, baseline: str | None) -> Pair | None:
        """Return the places of the baseline and of its A/A row."""
        both = [[*self.rows].index(name) for name in (baseline, AA_ROW) if name in self.rows]
        return (both[0], both[1]) if len(both) == 2 else None


def _sessions(table: pd.DataFrame, reports: Reports) -> dict[tuple[str, int, str], _Session]:
    """Return the panels by device, batch size and session."""
    found: dict[tuple[str, int, str], _Session] = {}
    for row in table[table["status"] == "measured"].itertuples():
        report = reports[row.variant]
        cell = report.cells[str(row.batch_size)]
        if report.session is None or not isinstance(cell, TimedCell):
            continue
        key = row.device, int(row.batch_size), report.session.id
        found.setdefault(key, _Session(report.session)).rows[row.variant] = row.Index, cell
    for (_, size, _), each in found.items():
        beside = {AA_ROW: each.session.twin, **each.session.anchors}
        for variant, cells in beside.items():
            if (times := cells.get(str(size))) and times.passes:
                each.rows.setdefault(variant, (None, times))
    return found


def with_levels(table: pd.DataFrame, reports: Reports, baselines: Mapping[Any, str]) -> pd.DataFrame:
    """Return the rows of results/summary.csv with where each measured one stands (`LEVELS`), and its intervals."""
    found: dict[Any, Row] = {index: {} for index in table.index}
    sessions = _sessions(table, reports)
    for quantity in QUANTITIES:
        panels = {key: each.panel(quantity, baselines.get(key[0])) for key, each in sessions.items()}
        for device in {device for device, _, _ in sessions}:
            own = [key for key in sessions if key[0] == device]
            pool_processes([panels[key] for key in own], [sessions[key].twins(baselines.get(device)) for key in own])
        for key, each in sessions.items():
            for (index, _), level in zip(each.rows.values(), panels[key].levels(), strict=True):
                if index is not None:
                    found[index] |= _standing(quantity, level)
    for row in table[table["status"] == "measured"].itertuples():
        parts = getattr(reports[row.variant].cells[str(row.batch_size)], "part_p95_ms", [])
        if len(parts) > 1:
            level = Panel([{0: dict(enumerate(parts))}]).levels()[0]
            found[row.Index] |= _limits("p95", level, row.p95_ms / level.value)
    columns = {name: [own.get(name) for own in found.values()] for name in (*LIMITS, *LEVELS, "unstable")}
    table = table.drop(columns=list(columns), errors="ignore").assign(**columns)
    table[list(LIMITS)] = table[list(LIMITS)].astype(float)
    table["samples_per_s_low"] = table["batch_size"] * 1000.0 / table["mean_high_ms"]
    table["samples_per_s_high"] = table["batch_size"] * 1000.0 / table["mean_low_ms"]
    return table


def _standing(quantity: str, level: Level) -> Row:
    """Return where a row stands, and the interval for another run."""
    found = {f"{quantity}_level": level, **_limits(quantity, level)}
    if level.is_unstable and quantity == "p50":
        own = np.exp(level.panel.logs[level.place])
        found["unstable"] = f"usually {_ms(np.nanmedian(own))}, at worst {_ms(np.nanmax(own))}"
    return found


def _limits(quantity: str, level: Level, scale: float = 1.0) -> Row:
    promised = level.of_another_run()
    ends = {"low": promised.low, "high": promised.high} if promised else {}
    return {f"{quantity}_{end}_ms": value * scale for end, value in ends.items()}


def _ms(value: float) -> str:
    return f"{value:.0f} ms" if value >= 100 else f"{value:#.3g} ms"


def with_controls(table: pd.DataFrame, reports: Reports, params: Params) -> pd.DataFrame:
    """Add what comparisons need beside levels.

    The A/A row gives its ratio to the baseline, the noise floor and margin, and which panels it voids.  `comparisons`:
    among how many the error of 5% is shared.  `moved`: how far the machine drifted between sessions.
    """
    margin: float = params.report.margin
    baselines: Mapping[Any, str] = params.baselines
    shared = _shared(table, params)
    controls: dict[tuple[str, int], Row] = {}
    for (device, size, _), each in _sessions(table, reports).items():
        twins = each.twins(baselines.get(device))
        index = [*each.rows.values()][twins[0]][0] if twins else None
        if twins and index is not None:
            controls[device, size] = _control(table.at[index, "p50_level"].panel, twins, shared[device], margin)
    voided = {device for (device, _), control in controls.items() if control["aa_verdict"] in ("faster", "slower")}
    found = [controls.get(key, {}) for key in zip(table["device"], table["batch_size"], strict=True)]
    for column in CONTROLS:
        table[column] = [control.get(column) for control in found]
    table["margin"] = [max(margin, control.get("noise_floor", 0.0)) for control in found]
    table["comparisons"] = [shared.get(device, 1) for device in table["device"]]
    table["voided"] = [device in voided for device in table["device"]]
    table["moved"] = _moves(table, reports, baselines)
    return table


def _shared(table: pd.DataFrame, params: Params) -> dict[str, int]:
    """Return among how many comparisons the error of each device is shared."""
    variants, families = params.all_variants(), dict[str, list[Family]]()
    for (device, _), rows in table[table["p50_level"].notna()].groupby(["device", "batch_size"]):
        baseline, place = params.baselines.get(device), {name: number for number, name in enumerate(rows["variant"])}
        pairs = [(baseline, variant) for variant in place if baseline in place and variant != baseline]
        pairs += partners({variant: variants[variant] for variant in place})
        asked = (sorted((place[a], place[b])) for a, b in pairs)
        family = Family(list(rows["p50_level"]), frozenset((a, b) for a, b in asked))
        families.setdefault(device, []).append(family)
    return {device: decide(own, params.report.margin, AT_THE_END)[0] for device, own in families.items()}


def _control(panel: Panel, twins: Pair, comparisons: int, margin: float) -> Row:
    """Return what the A/A row says: how fast it is against the baseline, and the noise floor."""
    changes = panel.differences(*twins)
    floor = {"noise_floor": math.expm1(abs(median(changes))) if len(changes) else 0.0}
    found = panel.compared(*twins)
    if again := found and found.interval(comparisons):
        limits = {"aa_low": again.low, "aa_high": again.high}
        return {"aa_ratio": again.value, **limits, "aa_verdict": verdict(again, margin), **floor}
    return {"aa_ratio": math.exp(np.mean(changes)) if len(changes) else 1.0, "aa_verdict": "inconclusive", **floor}


def _moves(table: pd.DataFrame, reports: Reports, baselines: Mapping[Any, str]) -> list[float]:
    """Return how far the machine had moved when a row was timed apart from most others of its device; 0 for these.

    That is the largest change, between both sessions, of what a row is against the baseline, as a logarithm; for a
    session with no other row than the baseline timed in both, the change of the baseline itself.
    """
    sessions = {device: rows["session"] for device, rows in table[table["status"] == "measured"].groupby("device")}
    main = {device: own.mode() for device, own in sessions.items()}
    is_apart = any(own.nunique() > 1 for own in sessions.values())
    p50: dict[tuple[str, int], dict[str, float]] = {}
    for (_, size, session), each in (_sessions(table, reports) if is_apart else {}).items():
        levels = each.panel("p50", None).levels()
        p50[session, size] = {name: level.log_level for name, level in zip(each.rows, levels, strict=True)}

    def move(row: Any) -> float:
        reference = next(iter(main.get(row.device, ())), None)
        if row.status != "measured" or reference in (None, row.session):
            return 0.0
        here, there = (p50.get((session, row.batch_size), {}) for session in (row.session, reference))
        baseline = baselines.get(row.device)
        if baseline not in here or baseline not in there:
            return math.inf
        both = (here.keys() & there.keys()) - {baseline}
        own = here[baseline] - there[baseline]
        return max((abs(here[name] - there[name] - own) for name in both), default=abs(own))

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
        "smallest_difference": found.smallest,
        "break_even_calls": break_even_calls(row.one_off_seconds, baseline.mean_ms, row.mean_ms),
    }


def _engine_pays_after(row: Any, rows: list[Any]) -> int | None:
    """Return after how many calls an engine repays what it takes once more than ONNX Runtime's fastest CUDA row."""
    like = ("onnxruntime", "cuda", "measured", row.batch_size)
    others = [other for other in rows if (other.runtime, other.device, other.status, other.batch_size) == like]
    if row.runtime != "tensorrt" or row.status != "measured" or not others:
        return None
    fastest = min(others, key=lambda other: other.mean_ms)
    ours, theirs = known(row, "one_off_seconds"), known(fastest, "one_off_seconds")
    more_seconds = None if ours is None or theirs is None else max(0.0, ours - theirs)
    return break_even_calls(more_seconds, fastest.mean_ms, row.mean_ms)


def break_even_calls(one_off: float | None, baseline_mean_ms: float, mean_ms: float) -> int | None:
    """Return after how many calls `one_off` seconds are saved; None if never, or if these are not known."""
    if is_missing(one_off) or one_off is None or mean_ms >= baseline_mean_ms:
        return None
    return math.ceil(one_off * 1000 / (baseline_mean_ms - mean_ms))


def compare(first: Any, second: Any, quantity: Quantity = "latency") -> Comparison:
    """Return how many times as fast `first` is as `second`: the ratio of p50, or of throughput (made of means)."""
    name = "p50" if quantity == "latency" else "mean"
    ours, theirs = (known(row, f"{name}_level") for row in (first, second))
    scale = first.batch_size / second.batch_size if quantity == "throughput" else 1.0
    value = scale * (getattr(second, f"{name}_ms") / getattr(first, f"{name}_ms"))
    if ours is None or theirs is None:
        return Comparison(value, None, "inconclusive", reason=IN_ROUNDS)
    is_apart = known(first, "session") != known(second, "session")
    moved = sum(_both(first, second, "moved")) if is_apart else 0.0
    reason = _reason(first, second, moved)
    interval: Interval | None = None
    if math.isfinite(moved) and (found := estimate(theirs, ours)):
        value = math.exp(found.value) * scale
        comparisons = int(max(_both(first, second, "comparisons")))
        interval = replace(found, value=math.log(value)).interval(comparisons, moved)
    if not interval and not reason:
        reason = "too few passes"
    margin = max(_both(first, second, "margin"))
    said: Verdict = "inconclusive" if reason else verdict(interval, margin)
    is_noise = said == "tie" and max(_both(first, second, "noise_floor")) >= margin
    smallest = smallest_difference(interval, margin) if interval and not reason else None
    return Comparison(value, interval, said, is_noise, is_apart, reason, smallest)


def _both(first: Any, second: Any, name: str) -> tuple[float, float]:
    return float(known(first, name) or 0.0), float(known(second, name) or 0.0)


def _reason(first: Any, second: Any, moved: float) -> str:
    if any(_both(first, second, "voided")):
        return "the A/A row came out as different from itself"
    if not math.isfinite(moved):
        return "different sessions, with nothing timed in both"
    jumping = dict.fromkeys(f"`{row.variant}`" for row in (first, second) if known(row, "unstable"))
    return f"{' and '.join(jumping)} {'jumps' if len(jumping) == 1 else 'jump'}" if jumping else ""


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
