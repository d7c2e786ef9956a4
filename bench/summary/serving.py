"""What each row sustained under load, a row a variant (results/serving.csv), and within other latency budgets."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from statistics import fmean, geometric_mean, median
from typing import Any

import numpy as np
import pandas as pd

from bench.core import schemas
from bench.core.files import read_model
from bench.core.params import Params, Variant
from bench.core.paths import SERVED, SERVING_CSV
from bench.core.reports import LoadedProcess, NoopProcess, RatePoint, Served, ServingProcess, rate_text
from bench.statistics.intervals import smallest_difference, verdict
from bench.statistics.rate_curve import Crossing, Point, Quantile, crossing, latency_at, shows_p99
from bench.statistics.rounds import Level, levels, ratio
from bench.summary.comparisons import Comparison
from bench.summary.table_file import MEND, Row, Rows, identity, present, read_table

SHARES = (25, 50, 75, 90)
"""Percent of the rate that a row holds, at which its latencies are told."""
QUANTILES: tuple[Quantile, ...] = ("p50_ms", "p95_ms", "p99_ms")
LEAST_ALONE = {"p50_ms": 1, "p95_ms": 59, "p99_ms": 459}
"""Requests one after another that a quantile of them needs: 0.95^59 < 0.05, 0.99^459 < 0.01."""
GENERATOR_BOUND = 0.8
"""Of what the null session holds: above it the generator may be what limits a row."""
REPORTED = (
    *("status", "budget_ms", "max_batch", "max_delay_ms", "instances", "closed_loop_per_s", "expected_per_s"),
    *("requests", "relative_error", "agreement", "replayed_batches"),
)
"""What the table repeats of a report as it is."""
COLUMNS = (
    *("variant", "runtime", "device", "precision", "padding", "options", "status", "reason", "budget_ms", "max_batch"),
    *("max_delay_ms", "instances", "session", "requests_per_s", "requests_per_s_low", "requests_per_s_high"),
    *("process_per_s", "confirmed_per_s", "is_cliff", "is_least", "doubled_budget_per_s", "closed_loop_per_s"),
    *("closed_loop_peak_share", "expected_per_s", "offline_per_s", "single_stream_p50_ms", "batch_1_p50_ms"),
    *(f"{quantile}_at_{share}" for share in SHARES for quantile in (*QUANTILES, "mean_batch")),
    *("mean_batch", "tokens_per_request", "session_busy", "gpu_busy_percent", "energy_mj_per_request", "gpu_mib"),
    *("host_mib", "null_per_s", "null_p99_ms", "generator_share", "late_captures", "requests", "relative_error"),
    *("agreement", "replayed_batches", "comparisons", "margin", "cost_per_million_requests"),
)


Curves = Mapping[str, Sequence[Sequence[Point]]]
"""The points of each served row, process by process."""
STEPS = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
"""Budgets are these multiples of powers of ten."""
LEAST, MOST = 0.1, 5.0
"""As shares of the configured budget: further off nothing was searched for."""


@dataclass(frozen=True)
class Tables:
    """What a run's findings are made of: its rows with their levels, timed and under load, and the tried rates."""

    summary: pd.DataFrame
    serving: pd.DataFrame
    curves: Curves


def read_served(variants: Iterable[str], folder: Path = SERVED) -> dict[str, Served]:
    """Return what each of these variants did under load; DataError if a file is missing or damaged."""
    mend = "`dvc repro -f serve@{}` serves it again"
    return {key: read_model(folder / f"{key}.json", mend.format(key), Served) for key in variants}


def build_serving(params: Params, summary: pd.DataFrame, served: Mapping[str, Served]) -> pd.DataFrame:
    """Return the table in the configured order; `served`: what each variant did under load, by its name."""
    rows = [
        _row(key, params.all_variants()[key], served[key], params) | _alone(key, served[key], summary)
        for key in params.serving.variants
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table["margin"] = params.report.margin
    return with_intervals(table)


def read_serving(path: Path = SERVING_CSV, mend: str = MEND) -> pd.DataFrame:
    """Read results/serving.csv, each row with its level; DataError if it is missing or damaged."""
    table, _ = read_table(path, schemas.ServingRow, mend)
    return with_intervals(table.reindex(columns=list(dict.fromkeys([*table.columns, *COLUMNS]))))


def _row(key: str, variant: Variant, report: Served, params: Params) -> Row:
    row: Row = {
        "variant": key,
        **identity(variant),
        "session": report.session.id if report.session else None,
        **{name: getattr(report, name) for name in REPORTED},
        "reason": report.reason or None,
    }
    processes, budget_ms = report.processes, report.budget_ms
    if report.status != "measured" or not processes:
        return row
    curves = {process.process: points_of(process) for process in processes}
    held = {number: found for number, points in curves.items() if (found := crossing(points, budget_ms))}
    if len(held) < len(curves):
        return {**row, "status": "over_budget", "reason": _none_held(budget_ms, processes, held)}
    rate = geometric_mean(found.rate for found in held.values())
    offline_per_s = geometric_mean(process.offline.per_s for process in processes)
    return {
        **row,
        "requests_per_s": rate,
        "process_per_s": " ".join(f"{held[number].rate:.6g}" for number in sorted(held)),
        "is_cliff": any(found.is_cliff for found in held.values()),
        "is_least": any(found.is_least for found in held.values()),
        "confirmed_per_s": confirmed(processes),
        "doubled_budget_per_s": _doubled(curves, budget_ms),
        "closed_loop_peak_share": rate / offline_per_s,
        **_latencies(processes, curves, held),
        **_at_load(processes),
        "gpu_mib": max(present(process.gpu_mib for process in processes), default=None),
        "host_mib": max(present(process.peak_host_mib for process in processes), default=None),
        **_generator(report, rate),
        "late_captures": max(process.late_captures for process in processes),
        "offline_per_s": offline_per_s,
        "cost_per_million_requests": cost_of_a_million(params.report.price_per_hour.get(variant.device), rate),
    }


def _none_held(budget_ms: float, processes: Sequence[ServingProcess], held: Collection[int]) -> str:
    without = [process.points for process in processes if process.process not in held]
    of = f"of {len(processes)} processes"
    kept = [points for points in without if any(point.keeps for point in points)]
    parts = [_kept_above_a_miss(points, of) for points in kept]
    never = [points for points in without if points not in kept]
    if never:
        lowest = min(point.sent_per_s for points in never for point in points)
        parts.append(f"{len(never)} {of} kept it at none that was tried, down to {rate_text(lowest)}/s")
    return f"holds no rate within {budget_ms:g} ms: {'; '.join(parts)}"


def _kept_above_a_miss(points: Sequence[RatePoint], of: str) -> str:
    """Return at which rate a process kept the budget, and at which lower one it did not.

    The lowest rate of such a process is missed: else the curve, which never falls, would begin within the budget.
    """
    kept, missed = _last_kept(points), min(points, key=attrgetter("rate"))
    seen = "overloaded" if missed.is_overloaded else f"p99 {missed.p99_ms:.2f} ms"
    return (
        f"1 {of} kept it at {rate_text(kept.sent_per_s)}/s (p99 {kept.p99_ms:.2f} ms), not at "
        f"{rate_text(missed.sent_per_s)}/s ({seen}), so that its p99 does not follow the rate"
    )


def points_of(process: LoadedProcess | NoopProcess) -> list[Point]:
    """Return the points of a serving process, at the rates that were really sent.

    Of a few hundred requests at random times some percent more or fewer come than were asked for; MLPerf's result of
    the Server scenario is the scheduled rate for the same reason.
    """
    return [
        Point(each.sent_per_s, each.p50_ms, each.p95_ms, each.p99_ms, each.is_overloaded) for each in process.points
    ]


def confirmed(processes: Sequence[LoadedProcess]) -> float | None:
    """Return the highest rate whose requests, of all processes together, show a p99 within the budget; None without.

    Of each process the requests at the lowest rate that is not below count: they are late at least as often.  A process
    that was tried at lower rates alone shows nothing of this one, so that nothing is shown there.
    """
    curves = [sorted(process.points, key=attrgetter("rate")) for process in processes]
    for rate in sorted({point.rate for points in curves for point in points}, reverse=True):
        chosen = [next((point for point in points if point.rate >= rate), None) for points in curves]
        known = [point for point in chosen if point and not point.is_overloaded]
        if len(known) < len(curves):
            continue
        queries = sum(point.queries for point in known)
        if shows_p99(sum(point.late for point in known), queries):
            return float(queries / sum(point.queries / point.sent_per_s for point in known))
    return None


def _doubled(curves: dict[int, list[Point]], budget_ms: float) -> float | None:
    """Return the rate within twice the budget, where every process was tried far enough to tell."""
    found = [crossing(points, 2 * budget_ms) for points in curves.values()]
    known = [each.rate for each in found if each and not each.is_least]
    return geometric_mean(known) if len(known) == len(found) else None


def _latencies(processes: Sequence[ServingProcess], curves: dict[int, list[Point]], held: dict[int, Crossing]) -> Row:
    row: Row = {}
    for share in SHARES:
        rates = [held[process.process].rate * share / 100 for process in processes]
        for quantile in QUANTILES:
            known = present(
                latency_at(curves[process.process], rate, quantile, _alone_ms(process, quantile))
                for process, rate in zip(processes, rates, strict=True)
            )
            row[f"{quantile}_at_{share}"] = geometric_mean(known) if known else None
        row[f"mean_batch_at_{share}"] = fmean(map(_mean_batch, processes, rates))
    return row


def _alone_ms(process: ServingProcess, quantile: Quantile) -> float | None:
    single = process.single_stream
    return float(getattr(single, quantile)) if single.queries >= LEAST_ALONE[quantile] else None


def _mean_batch(process: ServingProcess, rate: float) -> float:
    """Return the mean batch at a rate, between 1 at none and what formed at the rates that were tried."""
    known = sorted((point.sent_per_s, point.mean_batch) for point in process.points if not point.is_overloaded)
    rates, batches = zip((0.0, 1.0), *known, strict=True)
    return float(np.interp(rate, rates, batches))


def _at_load(processes: Sequence[ServingProcess]) -> Row:
    """Return what was seen at the highest rate of each process that keeps the budget, medians over the processes."""
    points = [_last_kept(process.points) for process in processes]
    gpus = [(point.queries, point.gpu) for point in points if point.gpu]
    energies = [1000 * gpu.energy_j / queries for queries, gpu in gpus if gpu.energy_j is not None]
    busy = present(gpu.busy_percent for _, gpu in gpus)
    return {
        "mean_batch": median(point.mean_batch for point in points),
        "tokens_per_request": fmean(point.tokens_computed or 0.0 for point in points),
        "session_busy": median(point.busy_share for point in points),
        "gpu_busy_percent": median(busy) if busy else None,
        "energy_mj_per_request": median(energies) if energies else None,
    }


def _last_kept(points: Sequence[RatePoint]) -> RatePoint:
    return max([point for point in points if point.keeps] or points, key=attrgetter("rate"))


def _generator(report: Served, rate: float) -> Row:
    """Return what the null session held, its p99 at about the row's rate, and the row's share of what it held."""
    null = report.session.null if report.session else None
    if null is None or null.status != "measured":
        return {}
    points = points_of(null)
    most = crossing(points, report.budget_ms)
    p99_ms = latency_at(points, rate, "p99_ms") if len(points) > 1 else None
    close = min(null.points, key=lambda point: abs(math.log(point.rate / rate)))
    return {
        "null_per_s": most.rate if most else None,
        "null_p99_ms": p99_ms if p99_ms is not None else close.p99_ms,
        "generator_share": rate / most.rate if most else None,
    }


def cost_of_a_million(price_per_hour: float | None, rate: float) -> float | None:
    """Return what a million requests cost at a rate a second; None without a price."""
    return None if price_per_hour is None else price_per_hour / 3600 / rate * 1e6


def _alone(key: str, report: Served, summary: pd.DataFrame) -> Row:
    if not report.processes:
        return {}
    rows = summary[(summary["variant"] == key) & (summary["batch_size"] == 1) & (summary["status"] == "measured")]
    single = geometric_mean(process.single_stream.p50_ms for process in report.processes)
    return {"single_stream_p50_ms": single, "batch_1_p50_ms": None if rows.empty else float(rows.iloc[0]["p50_ms"])}


def with_intervals(table: pd.DataFrame) -> pd.DataFrame:
    """Add the interval of each rate for another run of the same row, what comparisons need, and the column `level`."""
    table["level"] = None
    measured = table[table["status"] == "measured"]
    for _, rows in measured.groupby("device"):
        table.loc[rows.index, "comparisons"] = max(1, len(rows) * (len(rows) - 1) // 2)
    for _, together in measured.groupby(["device", "session"]):
        rates = [dict(enumerate(map(float, text.split()))) for text in together["process_per_s"]]
        for row, level in zip(together.itertuples(), levels(rates), strict=True):
            _put_level(table, row, level)
    return table


def _put_level(table: pd.DataFrame, row: Any, level: Level) -> None:
    rounds = frozenset(f"{row.session} {number}" for number in level.rounds)  # another session's are others
    table.at[row.Index, "level"] = replace(level, log_level=math.log(row.requests_per_s), rounds=rounds)
    if promised := level.of_another_run():
        table.loc[row.Index, ["requests_per_s_low", "requests_per_s_high"]] = promised.low, promised.high


def compare_served(first: Any, second: Any) -> Comparison:
    """Return how many times the requests of the second row the first one sustains: more is `faster`.

    Rows that were not served in the same rounds are not compared: `inconclusive`.
    """
    value = float(first.requests_per_s / second.requests_per_s)
    if first.session != second.session:
        return Comparison(value, None, "inconclusive", is_apart=True, reason="served in different sessions")
    found = ratio(first.level, second.level, int(first.comparisons))
    margin = float(first.margin)
    smallest = smallest_difference(found, margin) if found else None
    return Comparison(value, found, verdict(found, margin), smallest=smallest)


def budgets_around(configured_ms: float) -> list[float]:
    """Return round budgets around the configured one, and itself, in milliseconds."""
    powers = (10.0**power for power in range(-3, 7))
    steps = (step * power for power in powers for step in STEPS)
    found = {float(f"{ms:.6g}") for ms in steps if LEAST * configured_ms <= ms <= MOST * configured_ms}
    return sorted(found | {configured_ms})


def curves_of(reports: Mapping[str, Served]) -> Curves:
    """Return the points of the rows that were served, process by process, from their reports under load."""
    return {
        key: [points_of(process) for process in report.processes] for key, report in reports.items() if report.processes
    }


def within_budgets(tried: Rows, curves: Curves) -> Iterator[tuple[float, Rows]]:
    """Yield each budget with a row for each served variant of which every process sustains a rate within it.

    `tried`: the rows of one device in results/serving.csv; the rows have what a comparison of rates needs.
    """
    served = [row for row in tried if curves.get(str(row.variant)) and row.budget_ms]
    for budget_ms in budgets_around(float(served[0].budget_ms)) if served else ():
        found = [each for row in served if (each := _within(row, curves[str(row.variant)], budget_ms))]
        table = pd.DataFrame(found, columns=served[0]._fields).drop(columns="Index")
        yield budget_ms, list(with_intervals(table).itertuples())


def _within(row: Any, processes: Sequence[Sequence[Point]], budget_ms: float) -> Any:
    """Return a row with its figures within a budget; None where a process of it sustains no rate."""
    found = [each for each in (crossing(points, budget_ms) for points in processes) if each]
    if len(found) < len(processes):
        return None
    return row._replace(
        status="measured",
        requests_per_s=geometric_mean(each.rate for each in found),
        process_per_s=" ".join(f"{each.rate:.6g}" for each in found),
        is_least=any(each.is_least for each in found),
    )
