"""Common assumptions, tested on a run: upheld, refuted or undecided, with the comparisons behind each result.

"Always" is refuted by one comparison that is surely not faster, upheld if every one surely is, and otherwise undecided;
without any it was not tested.  A tie within the noise floor is no sure tie: it leaves the question open.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

from bench.findings.models import Assumption, Pair, Result
from bench.summary.comparisons import Quantity, compare, fastest
from bench.summary.serving import compare_served
from bench.summary.table_file import Rows, grouped, is_missing, known


def assumptions(rows: Rows, serving: Rows) -> Iterator[Assumption]:
    """Yield each assumption with its result; `rows`: measured rows of the summary; `serving`: rows under load."""
    for precision in ("int8", "fp16", "bf16"):
        pairs = by_precision(rows, precision, "fp32")
        yield always(f"{precision.upper()} is always faster than FP32", pairs)
    alike = grouped(rows, "runtime", "device", "padding", "options", "batch_size").values()
    yield always("FP8 is always faster than FP16", fastest_pairs(alike, "precision", "fp8", "fp16"))
    on_gpu = by_batch([row for row in rows if row.device == "cuda"])
    yield always("TensorRT always wins", fastest_pairs(on_gpu, "runtime", "tensorrt"))
    same = grouped(rows, "runtime", "device", "precision", "options", "batch_size").values()
    yield always("Less padding is always faster", fastest_pairs(same, "padding", "longest", "fixed"))
    yield always("Without padding is always fastest on a GPU", fastest_pairs(on_gpu, "padding", "none"))
    yield always("A larger batch always gives more samples/s", _batches(rows))
    yield always("The row with the most samples/s serves most requests", _most_samples(serving))


def always(claim: str, found: Iterable[Pair]) -> Assumption:
    """Return what these comparisons say of a claim that the first of each is always faster."""
    pairs = list(found)
    if not pairs:
        return Assumption(claim=claim, result="not tested")
    against = [pair for pair in pairs if pair.verdict in ("slower", "tie")]
    undecided = [pair for pair in pairs if pair.verdict == "inconclusive"]
    weakest = min(pairs, key=lambda pair: pair.comparison.value)
    result: Result = "refuted" if against else "undecided" if undecided else "upheld"
    return Assumption(claim=claim, result=result, tested=len(pairs), deciding=against or undecided or [weakest])


def pair_of(first: Any, second: Any, quantity: Quantity = "latency") -> Pair:
    """Return two rows of the summary, compared."""
    is_host_bound = known(first, "bound") == "host-bound"
    return Pair(
        first=str(first.variant),
        second=str(second.variant),
        first_batch=int(first.batch_size),
        second_batch=int(second.batch_size),
        comparison=compare(first, second, quantity),
        host_bound=(float(first.gpu_busy_ms), float(first.p50_ms)) if is_host_bound else None,
    )


def plain(rows: Rows) -> Rows:
    """Return the rows of variants without further options."""
    return [row for row in rows if is_missing(row.options) or row.options == ""]


def fastest_pairs(groups: Iterable[Rows], column: str, first: str, second: str | None = None) -> Iterator[Pair]:
    """Yield the fastest row of each group with `first` in a column against that with `second`, or with anything else.

    Groups without both yield nothing.
    """
    for group in groups:
        ours = fastest(row for row in group if getattr(row, column) == first)
        others = (row for row in group if getattr(row, column) != first)
        theirs = fastest(row for row in others if second in (None, getattr(row, column)))
        if ours is not None and theirs is not None:
            yield pair_of(ours, theirs)


def by_precision(rows: Rows, low: str, high: str) -> Iterator[Pair]:
    """Compare each row of a precision with one of another: the same runtime, device and padding, no options."""
    for group in grouped(plain(rows), "runtime", "device", "padding", "batch_size").values():
        reference = next((row for row in group if row.precision == high), None)
        if reference is not None:
            yield from (pair_of(row, reference) for row in group if row.precision == low)


def by_batch(rows: Rows) -> list[Rows]:
    """Return the rows of each batch size, the smallest first."""
    return [group for _, group in sorted(grouped(rows, "batch_size").items())]


def _batches(rows: Rows) -> Iterator[Pair]:
    for group in grouped(rows, "variant").values():
        for before, after in pairwise(sorted(group, key=lambda row: row.batch_size)):
            yield pair_of(after, before, "throughput")


def _most_samples(serving: Rows) -> Iterator[Pair]:
    """Compare the row with most samples/s under load with each other row of its device, most requests first."""
    rows = sorted((row for row in serving if row.status == "measured"), key=lambda row: -row.requests_per_s)
    for group in grouped(rows, "device").values():
        top = max(group, key=lambda row: known(row, "closed_loop_per_s") or 0.0)
        for row in (row for row in group if row is not top):
            yield Pair(first=str(top.variant), second=str(row.variant), comparison=compare_served(top, row))
