"""What the best row under load did from text, where its requests must be tokenized first."""

from typing import Any

from bench.findings.models import FromText
from bench.summary.table_file import known


def from_text(row: Any) -> FromText | None:
    """Return what a row did from text; None where it was not asked to."""
    rate, threads = known(row, "text_per_s"), known(row, "tokenizer_threads")
    if threads is None:
        return None
    per_s, cores = known(row, "tokenizer_per_s"), known(row, "tokenizer_cores")
    of_tokens = row.searched_per_s if known(row, "text_settings") else row.requests_per_s
    first, last = known(row, "tokenizing_share"), known(row, "tokenizing_share_of_largest")
    return FromText(
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
