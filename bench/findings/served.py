"""What rows sustain under load: which sustains most, how sure that is, and what each sustains within other budgets."""

from collections.abc import Iterator, Mapping
from typing import Any

from bench.core.reports import ServingSearch
from bench.findings import models
from bench.findings.timed import left_out
from bench.summary.over_http import ServedHttp
from bench.summary.serving import GENERATOR_BOUND, Curves, compare_served, cost_of_a_million, within_budgets
from bench.summary.table_file import Rows, known

QUEUED = 1.25
"""From this ratio of SingleStream's p50 to the batch-1 row's on it is remarked: a queue lies between."""


def served(
    tried: Rows, summary: Rows, curves: Curves, price_per_hour: float | None, http: Mapping[str, ServedHttp]
) -> models.Served | None:
    """Return what one device's rows of results/serving.csv, tried rates and loads over HTTP show; None without any."""
    settings = next((row for row in tried if known(row, "budget_ms")), None)
    if settings is None:
        return None
    rows = sustaining(tried)
    losses = {row.variant: loss for row in summary if (loss := known(row, "accuracy_loss")) is not None}
    return models.Served(
        budget_ms=settings.budget_ms,
        max_batch=int(settings.max_batch),
        max_delay_ms=known(settings, "max_delay_ms") or 0.0,
        instances=int(known(settings, "instances") or 1),
        in_flight=int(known(settings, "in_flight") or 1),
        rows=[
            models.Sustained(
                variant=row.variant,
                requests_per_s=row.requests_per_s,
                vs_best=compare_served(row, rows[0]) if row.variant != rows[0].variant else None,
                remarks=list(_remarks(row)),
            )
            for row in rows
        ],
        no_op_per_s=known(rows[0], "null_per_s") if rows else None,
        from_text=next((found for row in rows if (found := _from_text(row))), None),
        over_http=[over_http(http[row.variant]) for row in rows if row.variant in http],
        searched=[_searched(row, found.report, found.gain) for row in rows if (found := known(row, "search"))],
        budgets=[
            models.Budget(budget_ms=budget_ms, rows=list(_alternatives(sustaining(found), losses, price_per_hour)))
            for budget_ms, found in within_budgets(tried, curves)
        ],
        not_served=list(left_out([row for row in tried if row.status != "measured"], tried)),
    )


def sustaining(rows: Rows) -> list[Any]:
    """Return the rows that sustain a rate, most requests first."""
    return sorted((row for row in rows if row.status == "measured"), key=lambda row: -row.requests_per_s)


def _remarks(row: Any) -> Iterator[models.Remark]:
    if (known(row, "generator_share") or 0.0) > GENERATOR_BOUND:
        yield models.Remark(kind="generator-bound", value=float(row.null_per_s))
    if cut := known(row, "cut_short"):
        yield models.Remark(kind="cut short", value=cut)
    if known(row, "is_cliff"):
        yield models.Remark(kind="saturates")
    if known(row, "is_least"):
        yield models.Remark(kind="lower bound")
    if known(row, "late_captures"):
        yield models.Remark(kind="late captures", value=float(row.late_captures))
    alone = known(row, "batch_1_p50_ms")
    if alone is not None and row.single_stream_p50_ms > QUEUED * alone:
        yield models.Remark(kind="queue", value=float(row.single_stream_p50_ms / alone))


def _alternatives(
    rows: Rows, losses: Mapping[str, float], price_per_hour: float | None
) -> Iterator[models.Alternative]:
    for row in rows:
        yield models.Alternative(
            **{name: getattr(row, name) for name in ("variant", "padding", "requests_per_s")},
            low=known(row, "requests_per_s_low"),
            high=known(row, "requests_per_s_high"),
            is_lower_bound=row.is_least,
            memory_mib=known(row, "gpu_mib" if row.device == "cuda" else "host_mib"),
            accuracy_loss=losses.get(row.variant),
            cost_per_million_requests=cost_of_a_million(price_per_hour, row.requests_per_s),
            fewer=[other.variant for other in rows if compare_served(other, row).verdict == "slower"],
        )


def _from_text(row: Any) -> models.FromText | None:
    """Return what a row did from text; None where it was not asked to."""
    rate, threads = known(row, "text_per_s"), known(row, "tokenizer_threads")
    if threads is None:
        return None
    per_s, cores = known(row, "tokenizer_per_s"), known(row, "tokenizer_cores")
    of_tokens = row.searched_per_s if known(row, "text_settings") else row.requests_per_s
    first, last = known(row, "tokenizing_share"), known(row, "tokenizing_share_of_largest")
    return models.FromText(
        variant=row.variant,
        requests_per_s=rate,
        is_lower_bound=bool(known(row, "text_is_least")),
        reason=known(row, "text_reason"),
        of_tokens=rate and rate / of_tokens,
        threads=int(threads),
        tokenizer_per_s=per_s,
        tokenizer_cores=cores and int(cores),
        is_bottleneck=per_s is not None and per_s < of_tokens,
        shares=None if first is None or last is None else (first, last),
    )


def over_http(report: ServedHttp) -> models.OverHttp:
    """Return what a deployed row did over HTTP."""
    text_per_s, counts = report.text_per_s, {"right", "reference_right", "labelled"}
    loads = [
        models.OverHttpLoad(
            **load.model_dump(include={"texts", "requests_per_s", "reason", "control_per_s"}),
            of_text=load.texts * rate / text_per_s if (rate := load.requests_per_s) and text_per_s else None,
            is_client_bound=load.is_client_bound,
            **(load.used.model_dump(exclude={"mean_batch"}) if load.used else {}),
        )
        for load in report.loads
    ]
    own = report.model_dump(include={"variant", "tokens_per_s", "text_per_s"})
    right = report.accuracy.model_dump(include=counts) if report.accuracy else {}
    return models.OverHttp(**own, loads=loads, **right)


def _searched(row: Any, search: ServingSearch, gain: Any) -> models.Searched:
    """Return what a search tried of a row, and what the best settings sustain beside the row's own."""
    return models.Searched(
        variant=row.variant,
        settings=search.settings.text() if search.settings else None,
        requests_per_s=known(row, "searched_per_s"),
        low=known(row, "searched_per_s_low"),
        high=known(row, "searched_per_s_high"),
        gain=gain,
        ended=search.ended or None,
        reason=search.reason or None,
        tried=len({trial.settings.text() for trial in search.trials}),
    )
