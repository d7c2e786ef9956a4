"""What each row sustained under load, a row a variant (results/serving.csv), and within other latency budgets."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import pandas as pd

from bench.core import schemas
from bench.core.files import read_model
from bench.core.params import Params, Variant
from bench.core.paths import SERVED, SERVED_TEXT, SERVING_CSV
from bench.core.reports import RatePoint, Served, ServedText, ServingSearch, rate_text
from bench.statistics import rate_curve
from bench.statistics.blocks import Level, estimate
from bench.statistics.served_together import Together, held_per_s, together
from bench.summary.comparisons import Comparison, judged
from bench.summary.over_http import ServedHttp
from bench.summary.table_file import MEND, Row, Rows, identity, known, present, read_table

SHARES = (25, 50, 75, 90)
"""Percent of the rate that a row holds, at which its latencies are told."""
QUANTILES: tuple[rate_curve.Quantile, ...] = ("p50_ms", "p95_ms", "p99_ms")
LEAST_ALONE = {"p50_ms": 1, "p95_ms": 59, "p99_ms": 459}
"""Requests one after another that a quantile of them needs: 0.95^59 < 0.05, 0.99^459 < 0.01."""
GENERATOR_BOUND = 0.8
"""Of what the null session holds: above it the generator may be what limits a row."""
REPORTED = (
    *("status", "budget_ms", "max_batch", "max_delay_ms", "instances", "closed_loop_per_s", "expected_per_s"),
    *("in_flight", "requests", "relative_error", "agreement", "replayed_batches"),
)
"""What the table repeats of a report as it is."""
COLUMNS = (
    *("variant", "runtime", "device", "precision", "padding", "options", "status", "reason", "budget_ms", "max_batch"),
    *("max_delay_ms", "instances", "session", "requests_per_s", "requests_per_s_low", "requests_per_s_high"),
    *("estimates", "confirmed_per_s", "is_cliff", "is_least", "doubled_budget_per_s", "closed_loop_per_s"),
    *("closed_loop_peak_share", "expected_per_s", "offline_per_s", "single_stream_p50_ms", "batch_1_p50_ms"),
    *(f"{quantile}_at_{share}" for share in SHARES for quantile in (*QUANTILES, "mean_batch")),
    *("mean_batch", "tokens_per_request", "session_busy", "gpu_busy_percent", "energy_mj_per_request", "gpu_mib"),
    *("host_mib", "null_per_s", "null_p99_ms", "generator_share", "late_captures", "requests", "relative_error"),
    *("agreement", "replayed_batches", "comparisons", "margin", "cost_per_million_requests", "cut_short", "in_flight"),
    *("text_per_s", "text_is_least", "text_reason", "tokenizer_threads", "tokenizer_per_s", "tokenizer_cores"),
    *("tokenizing_share", "tokenizing_share_of_largest", "searched_per_s", "searched_per_s_low"),
    *("searched_per_s_high", "searched_settings", "searched_verdict", "text_settings"),
)
IN_ROUNDS = "served in rounds, by an earlier version"
Curves = Mapping[str, Sequence[rate_curve.Point]]
"""The curve of each served row."""
STEPS = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
"""Budgets are these multiples of powers of ten."""
LEAST, MOST = 0.1, 5.0
"""As shares of the configured budget: further off nothing was searched for."""


@dataclass(frozen=True)
class Search:
    """A search for better settings; `gain`: the best ones against the row's own, None where too few trials tell."""

    report: ServingSearch
    gain: Comparison | None = None


@dataclass(frozen=True)
class Tables:
    """What findings are made of: rows with their levels, timed and under load, tried rates, loads of deployed rows."""

    summary: pd.DataFrame
    serving: pd.DataFrame
    curves: Curves
    over_http: Mapping[str, ServedHttp] = field(default_factory=dict)


def read_served(variants: Iterable[str], folder: Path = SERVED) -> dict[str, Served]:
    """Return what each of these variants did under load; DataError if a file is missing or damaged."""
    mend = "`dvc repro -f serve@{}` serves it again"
    return {key: read_model(folder / f"{key}.json", mend.format(key), Served) for key in variants}


def read_served_text(folder: Path = SERVED_TEXT) -> dict[str, ServedText]:
    """Return what the best rows did from text, by variant; what is not there yet is left out."""
    reports = [
        read_model(path, f"`dvc repro -f serve_text@{path.stem}` serves it again", ServedText)
        for path in sorted(folder.glob("*.json"))
    ]
    return {report.variant: report for report in reports if report.variant}


def build_serving(
    params: Params, summary: pd.DataFrame, served: Mapping[str, Served], from_text: Mapping[str, ServedText]
) -> pd.DataFrame:
    """Return the table in the configured order, of what each variant did under load, by its name."""
    rows = []
    alone = summary[(summary["batch_size"] == 1) & (summary["status"] == "measured")].set_index("variant")["p50_ms"]
    for key in params.serving.variants:
        row = _row(key, params.all_variants()[key], served[key], params)
        if served[key].processes:
            row |= {"single_stream_p50_ms": served[key].ends()[0].p50_ms, "batch_1_p50_ms": alone.get(key)}
        text = from_text.get(key)
        if text and "requests_per_s" in row and text.tokens_session == row["session"]:
            row |= _from_text(text, summary)
        rows.append(row)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table["margin"] = params.report.margin
    return with_rates(table, served, params.report.margin)


def read_serving(path: Path = SERVING_CSV, mend: str = MEND) -> pd.DataFrame:
    """Read results/serving.csv; DataError if it is missing or damaged."""
    table, _ = read_table(path, schemas.ServingRow, mend)
    return table.reindex(columns=list(dict.fromkeys([*table.columns, *COLUMNS])))


def _row(key: str, variant: Variant, report: Served, params: Params) -> Row:
    session = report.session
    row: Row = {
        "variant": key,
        **identity(variant),
        "session": session.id if session else None,
        **{name: getattr(report, name) for name in REPORTED},
        "reason": report.reason or None,
        "cut_short": (session.cut_short or None) if session else None,
    }
    trials = _trials(report)
    if report.status != "measured" or not trials:
        return row
    curve, processes, budget_ms = rate_curve.curve_of(trials), report.processes, report.budget_ms
    found = [each for process in processes for each in rate_curve.straddles(process.points, budget_ms).values()]
    crossed, doubled = (rate_curve.crossing(curve, times * budget_ms) for times in (1, 2))
    if not found and crossed is None:
        return {**row, "status": "over_budget", "reason": _none_held(budget_ms, trials)}
    by_curve = crossed or rate_curve.Crossing(math.nan)
    rate = rate_curve.sustained_per_s(rate_curve.by_process(processes), budget_ms) or math.nan
    _, offline = report.ends()
    return {
        **row,
        "requests_per_s": rate,
        "estimates": len(found),
        "is_cliff": 2 * sum(each.is_cliff for each in found) > len(found) if found else by_curve.is_cliff,
        "is_least": all(trial.keeps for trial in trials),
        "confirmed_per_s": confirmed(trials),
        "doubled_budget_per_s": doubled.rate if doubled and not doubled.is_least else None,
        "closed_loop_peak_share": rate / offline.per_s,
        **_latencies(report, curve, rate),
        **_at_load(trials),
        "gpu_mib": max(present(process.gpu_mib for process in processes), default=None),
        "host_mib": max(present(process.peak_host_mib for process in processes), default=None),
        **_generator(report, rate),
        "late_captures": max(process.late_captures for process in processes),
        "offline_per_s": offline.per_s,
        "cost_per_million_requests": cost_of_a_million(params.report.price_per_hour.get(variant.device), rate),
    }


def _trials(report: Served) -> list[RatePoint]:
    return [trial for process in report.processes for trial in process.points]


def _none_held(budget_ms: float, trials: Sequence[RatePoint]) -> str:
    lowest = min(trials, key=attrgetter("rate"))
    seen = "overloaded" if lowest.is_overloaded else f"p99 {lowest.p99_ms:.2f} ms"
    tried = f"the lowest rate that was tried, {rate_text(lowest.sent_per_s)}/s, {seen}"
    return f"holds no rate within {budget_ms:g} ms: {tried}"


def confirmed(trials: Sequence[RatePoint]) -> float | None:
    """Return the highest rate, as it was sent, at which all requests of all trials show a p99 within the budget.

    None where no rate shows it.  A rate at which a trial was overloaded shows nothing.
    """
    for own in reversed(rate_curve.at_each_rate(trials).values()):
        queries, late = sum(trial.queries for trial in own), sum(trial.late for trial in own)
        if not any(trial.is_overloaded for trial in own) and rate_curve.shows_p99(late, queries):
            return float(queries / sum(trial.queries / trial.sent_per_s for trial in own))
    return None


def _latencies(report: Served, curve: Sequence[rate_curve.Point], rate: float) -> Row:
    single, _ = report.ends()
    tried = rate_curve.at_each_rate(_trials(report)).items()
    steady = {at: own for at, own in tried if not any(trial.is_overloaded for trial in own)}
    rates, batches = [0.0, *steady], [1.0, *(fmean(trial.mean_batch for trial in own) for own in steady.values())]
    row: Row = {}
    for share in SHARES:
        for quantile in QUANTILES:
            alone_ms = float(getattr(single, quantile)) if single.queries >= LEAST_ALONE[quantile] else None
            row[f"{quantile}_at_{share}"] = rate_curve.latency_at(curve, rate * share / 100, quantile, alone_ms)
        row[f"mean_batch_at_{share}"] = float(np.interp(rate * share / 100, rates, batches))
    return row


def _at_load(trials: Sequence[RatePoint]) -> Row:
    """Return what was seen at the highest rate that met the budget, medians over its trials there."""
    kept = list(rate_curve.at_each_rate(trial for trial in trials if trial.keeps).values())
    points = kept[-1] if kept else [min(trials, key=attrgetter("rate"))]
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


def _generator(report: Served, rate: float) -> Row:
    """Return what the null session held, its p99 at about the row's rate, and the row's share of what it held."""
    null = report.session.null if report.session else None
    if null is None or null.status != "measured":
        return {}
    points = rate_curve.curve_of(null.points)
    most = rate_curve.crossing(points, report.budget_ms)
    p99_ms = rate_curve.latency_at(points, rate, "p99_ms") if len(points) > 1 else None
    if p99_ms is None:
        p99_ms = min(null.points, key=lambda point: abs(math.log(point.rate / rate))).p99_ms
    of_most = {"null_per_s": most.rate, "generator_share": rate / most.rate} if most else {}
    return {"null_p99_ms": p99_ms, **of_most}


def cost_of_a_million(price_per_hour: float | None, rate: float) -> float | None:
    """Return what a million requests cost at a rate a second; None without a price."""
    return None if price_per_hour is None else price_per_hour / 3600 / rate * 1e6


def _from_text(report: ServedText, summary: pd.DataFrame) -> Row:
    """Return what a row sustains from text, and the tokenizer's part of a call and of the machine.

    Its cores: the row's requests/s from tokens over the texts/s of each of its threads while all of them work.
    """
    row: Row = {
        "text_settings": report.settings.text() if report.settings else None,
        "text_per_s": held_per_s(report),
        "text_is_least": all(trial.keeps for trial in _trials(report)),
        "text_reason": report.reason or None,
        "tokenizer_threads": report.tokenizer_threads,
    }
    if not report.tokenizing:
        return row
    cells = summary[(summary["variant"] == report.variant) & (summary["status"] == "measured")]
    p50_ms = dict(zip(cells["batch_size"], cells["p50_ms"], strict=True))
    shares = [each.ms / (each.ms + p50_ms[each.batch_size]) for each in report.tokenizing if each.batch_size in p50_ms]
    most = report.tokenizing[-1]
    per_s = 1000 * most.batch_size / most.ms
    cores = math.ceil((report.tokens_per_s or 0.0) / per_s * (report.tokenizer_threads or 1))
    ends = {"tokenizing_share": shares[0], "tokenizing_share_of_largest": shares[-1]} if shares else {}
    return {**row, "tokenizer_per_s": per_s, "tokenizer_cores": cores, **ends}


def with_rates(table: pd.DataFrame, served: Mapping[str, Served], margin: float) -> pd.DataFrame:
    """Add the interval of each rate for another run of the same row, what comparisons need, and what a search gave.

    In memory alone are the columns `level`, where a row stands in seconds a request (None where it was served in
    rounds, or holds a rate by too few trials), and `search`.
    """
    texts = dict.fromkeys(("searched_settings", "searched_verdict"), object)
    table = table.assign(level=None, search=None).astype(texts)
    for _, rows in table[table["status"] == "measured"].groupby(["device", "session"]):
        index_of = {row.variant: row.Index for row in rows.itertuples()}
        found = together({key: served[key] for key in index_of}, margin)
        for key, index in index_of.items():
            if found and (level := found.levels.get(key)):
                table.at[index, "level"], table.at[index, "comparisons"] = level, found.comparisons
                table.loc[index, ["requests_per_s_low", "requests_per_s_high"]] = _another_run(level)
            if search := served[key].search:
                for name, value in _searched(key, search, served[key].budget_ms, found, margin).items():
                    table.at[index, name] = value
    return table


def _another_run(level: Level) -> tuple[float | None, float | None]:
    promised = level.of_another_run()
    return (1 / promised.high, 1 / promised.low) if promised else (None, None)


def _searched(key: str, search: ServingSearch, budget_ms: float, found: Together | None, margin: float) -> Row:
    """Return what a row sustains with the settings that a search found best, beside its own."""
    if search.settings is None:
        return {"search": Search(search)}
    rate = rate_curve.sustained_per_s(rate_curve.by_process(search.processes), budget_ms)
    row: Row = {"searched_settings": search.settings.text(), "searched_per_s": rate}
    gain = found.gain(key) if found and key in found.searched else None
    if found is None or gain is None:
        return {**row, "search": Search(search), "searched_verdict": "inconclusive"}
    low, high = _another_run(found.searched[key])
    compared = judged(gain, margin)
    limits = {"searched_per_s_low": low, "searched_per_s_high": high}
    return {**row, **limits, "search": Search(search, compared), "searched_verdict": compared.verdict}


def compare_served(first: Any, second: Any) -> Comparison:
    """Return how many times the second row's requests the first sustains; `inconclusive` if of different sessions."""
    value = float(first.requests_per_s / second.requests_per_s)
    if first.session != second.session:
        return Comparison(value, None, "inconclusive", is_apart=True, reason="served in different sessions")
    if known(first, "process_per_s") or known(second, "process_per_s"):
        return Comparison(value, None, "inconclusive", reason=IN_ROUNDS)
    ours, theirs = known(first, "level"), known(second, "level")
    if ours and theirs and (found := estimate(theirs, ours)):
        moved = math.log(value) - (theirs.log_level - ours.log_level)  # within another budget than the configured one
        if interval := replace(found, value=found.value + moved).interval(int(first.comparisons)):
            return judged(interval, float(first.margin))
    return Comparison(value, None, "inconclusive", reason="too few trials")


def budgets_around(configured_ms: float) -> list[float]:
    """Return round budgets around the configured one, and itself, in milliseconds."""
    powers = (10.0**power for power in range(-3, 7))
    steps = (step * power for power in powers for step in STEPS)
    found = {float(f"{ms:.6g}") for ms in steps if LEAST * configured_ms <= ms <= MOST * configured_ms}
    return sorted(found | {configured_ms})


def curves_of(reports: Mapping[str, Served]) -> Curves:
    """Return the curves of the rows that were served, from their reports under load."""
    return {key: rate_curve.curve_of(_trials(report)) for key, report in reports.items() if report.processes}


def within_budgets(tried: Rows, curves: Curves) -> Iterator[tuple[float, Rows]]:
    """Yield each budget with the rows of one device (of results/serving.csv) that sustain a rate within it."""
    served = [row for row in tried if curves.get(str(row.variant)) and row.budget_ms]
    for budget_ms in budgets_around(float(served[0].budget_ms)) if served else ():
        yield budget_ms, [each for row in served if (each := _within(row, curves[str(row.variant)], budget_ms))]


def _within(row: Any, curve: Sequence[rate_curve.Point], budget_ms: float) -> Any:
    """Return a row with its figures within a budget, as wide an interval as it has, as a share; None without a rate."""
    if budget_ms == row.budget_ms:
        return row if row.status == "measured" else None
    found = rate_curve.crossing(curve, budget_ms)
    if found is None:
        return None
    limits = {name: known(row, name) for name in ("requests_per_s_low", "requests_per_s_high")}
    scaled = {name: limit and limit * found.rate / row.requests_per_s for name, limit in limits.items()}
    return row._replace(status="measured", requests_per_s=found.rate, is_least=found.is_least, **scaled)
