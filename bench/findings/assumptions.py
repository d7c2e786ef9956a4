"""Common assumptions, tested on a run: upheld, refuted or undecided, with the comparisons behind each result, and why.

"Always" is refuted by one comparison that is surely not faster, upheld if every one surely is, and otherwise undecided;
without any there is no claim.  A tie within the noise floor is no sure tie: it leaves the question open.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from bench.core.params import Device
from bench.findings.models import Claim, Kind, Pair, Result, Traits
from bench.summary.comparisons import Quantity, compare, fastest
from bench.summary.serving import compare_served
from bench.summary.table_file import Rows, grouped, is_missing, known

LOWER = (("int8", "fp32"), ("fp16", "fp32"), ("bf16", "fp32"), ("tf32", "fp32"), ("fp8", "fp16"))
RUNTIMES = {
    **{"pytorch": "PyTorch", "pytorch_varlen": "PyTorch without padding", "onnxruntime": "ONNX Runtime"},
    **{"openvino": "OpenVINO", "tensorrt": "TensorRT"},
}
SURE_TIE = math.log(1.1)
"""What a sure tie weighs: no gain where one was expected."""


class Question(NamedTuple):
    """A claim that the first of each pair of rows is always faster, and what it has in place of what the second has."""

    kind: Kind
    claim: str
    change: tuple[str, str]


def claims(device: Device, rows: Rows, serving: Rows) -> Iterator[Claim]:
    """Yield each claim that a device's measured rows can test; `serving`: its rows under load."""
    at = {(row.variant, row.batch_size): row for row in rows}
    for question, pairs in _questions(device, rows, serving):
        if found := list(pairs):
            yield _judged(device, question, found, at)


def _questions(device: Device, rows: Rows, serving: Rows) -> Iterator[tuple[Question, Iterable[Pair]]]:
    for (runtime,), own in grouped(rows, "runtime").items():
        for low, high in LOWER:
            change = (low.upper(), high.upper())
            pairs = by_precision(own, low, high) if high == "fp32" else _alike(own, "precision", low, high)
            claim = f"{change[0]} is always faster than {change[1]} in {RUNTIMES.get(runtime, runtime)}"
            yield Question("precision", claim, change), pairs
    padded = ("dynamic padding", "padding to the sequence length")
    less = Question("padding", "Less padding is always faster", padded)
    yield less, _alike(rows, "padding", "longest", "fixed")
    batches = by_batch(rows)
    if device == "cuda":
        none = Question("padding", "Without padding is always fastest on a GPU", ("no padding", "padding"))
        yield none, fastest_pairs(batches, "padding", "none")
    engine = Question("tensorrt", "TensorRT always beats the CUDA provider", ("TensorRT", "CUDA provider"))
    yield engine, fastest_pairs(batches, "runtime", "tensorrt", "onnxruntime")
    other = Question("runtime", "Another runtime is always faster than PyTorch at FP32", ("another runtime", "PyTorch"))
    alike = by_batch([row for row in plain(rows) if (row.precision, row.padding) == ("fp32", "fixed")])
    yield other, fastest_pairs(alike, "runtime", None, "pytorch")
    for (name, options), found in _by_options(rows).items():
        claim = f"{options} is always faster in {RUNTIMES.get(name, name)}"
        yield Question("options", claim, (options, "no option")), found
    by_size = (sorted(group, key=lambda row: row.batch_size) for group in grouped(rows, "variant").values())
    larger = (pair_of(after, before, "throughput") for own in by_size for before, after in pairwise(own))
    yield Question("batch", "A larger batch always gives more samples/s", ("larger", "smaller")), larger
    most = ("most samples/s", "fewer samples/s")
    served = Question("served", "The row with the most samples/s serves most requests", most)
    yield served, _most_samples(serving)


def _judged(device: Device, question: Question, pairs: list[Pair], at: Mapping[Any, Any]) -> Claim:
    """Return what these comparisons say of a claim that the first of each is always faster."""
    against = [pair for pair in pairs if pair.verdict in ("slower", "tie")]
    undecided = [pair for pair in pairs if pair.verdict == "inconclusive"]
    weakest = min(pairs, key=lambda pair: pair.comparison.value)
    result: Result = "refuted" if against else "undecided" if undecided else "upheld"
    shown = _shown(pairs, against, at)
    return Claim(
        **question._asdict(),
        device=device,
        result=result,
        tested=len(pairs),
        faster=sum(pair.verdict == "faster" for pair in pairs),
        deciding=against or undecided or [weakest],
        undecided=len(undecided),
        widest=max(undecided, key=lambda pair: pair.comparison.smallest or 0.0, default=None),
        shown=shown,
        traits=[
            (
                traits_of(at.get((pair.first, pair.first_batch)), pair.first),
                traits_of(at.get((pair.second, pair.second_batch)), pair.second),
            )
            for pair in shown
        ],
        sure=max(map(_sure, shown)),
    )


def _shown(pairs: list[Pair], against: list[Pair], at: Mapping[Any, Any]) -> list[Pair]:
    """Return the strongest refuting pair, then those of the fastest row at the smallest and largest batch size: two."""
    largest = max(pair.first_batch or 0 for pair in pairs)
    ends = [pair for pair in pairs if (pair.first_batch or 0) == largest]
    best = min(ends, key=lambda pair: at[pair.first, pair.first_batch].p50_ms if pair.first_batch else 0.0)
    own = [pair for pair in pairs if pair.first == best.first] if best.first_batch else [best]
    worst = [min(against, key=lambda pair: pair.comparison.value)] if against else []
    ordered = sorted([pair for pair in own if pair not in worst], key=lambda pair: pair.first_batch or 0)
    return [*worst, *({id(pair): pair for pair in (*ordered[:1], *ordered[-1:])}.values())][:2]


def _sure(pair: Pair) -> float:
    found = pair.comparison.interval
    if found is None or pair.verdict == "inconclusive":
        return 0.0
    return SURE_TIE if pair.verdict == "tie" else max(math.log(found.low), -math.log(found.high))


def traits_of(row: Any, variant: str) -> Traits:
    """Return what explains a row of the summary; of a row under load, None, its name alone."""
    busy, kernels, pays = (known(row, name) for name in ("gpu_busy_ms", "kernel_launches", "break_even_calls"))
    same = ("limit_ms", "limit_share", "limited_by", "accuracy_loss", "accuracy_loss_p")
    return Traits(
        variant=variant,
        tokens=known(row, "tokens_computed"),
        gpu_share=None if busy is None else min(1.0, busy / row.p50_ms),
        kernels=None if kernels is None else int(kernels),
        gemm_share=known(row, "matrix_share"),
        pays_after=int(pays) if pays is not None and known(row, "one_off_seconds") else None,
        **{name: known(row, name) for name in same},
    )


def pair_of(first: Any, second: Any, quantity: Quantity = "latency") -> Pair:
    """Return two rows of the summary, compared."""
    return Pair(
        first=str(first.variant),
        second=str(second.variant),
        first_batch=int(first.batch_size),
        second_batch=int(second.batch_size),
        comparison=compare(first, second, quantity),
    )


def plain(rows: Rows) -> Rows:
    """Return the rows of variants without further options."""
    return [row for row in rows if is_missing(row.options) or row.options == ""]


def fastest_pairs(groups: Iterable[Rows], column: str, first: str | None, second: str | None = None) -> Iterator[Pair]:
    """Yield the fastest row of each group with `first` in a column against that with `second` (None: any other)."""
    for group in groups:
        values = [(row, getattr(row, column)) for row in group]
        ours = fastest(row for row, value in values if (value == first if first else value != second))
        theirs = fastest(row for row, value in values if (value == second if second else value != first))
        if ours is not None and theirs is not None:
            yield pair_of(ours, theirs)


def _alike(rows: Rows, column: str, first: str, second: str) -> Iterator[Pair]:
    axes = [name for name in ("runtime", "device", "precision", "padding", "options", "batch_size") if name != column]
    yield from fastest_pairs(grouped(rows, *axes).values(), column, first, second)


def by_precision(rows: Rows, low: str, high: str) -> Iterator[Pair]:
    """Compare each row of a precision with one of another: the same runtime, device and padding, no options."""
    for group in grouped(plain(rows), "runtime", "device", "padding", "batch_size").values():
        if reference := next((row for row in group if row.precision == high), None):
            yield from (pair_of(row, reference) for row in group if row.precision == low)


def _by_options(rows: Rows) -> dict[tuple[str, str], list[Pair]]:
    """Return each row with options against the one without, by runtime and option: the same precision and padding."""
    found: dict[tuple[str, str], list[Pair]] = {}
    for group in grouped(rows, "runtime", "precision", "padding", "batch_size").values():
        base = next(iter(plain(group)), None)
        for row in group:
            if base is not None and known(row, "options"):
                found.setdefault((row.runtime, row.options), []).append(pair_of(row, base))
    return found


def by_batch(rows: Rows) -> list[Rows]:
    """Return the rows of each batch size, the smallest first."""
    return [group for _, group in sorted(grouped(rows, "batch_size").items())]


def _most_samples(serving: Rows) -> Iterator[Pair]:
    """Compare the row with most samples/s under load with each other one, most requests first."""
    rows = sorted((row for row in serving if row.status == "measured"), key=lambda row: -row.requests_per_s)
    if rows:
        top = max(rows, key=lambda row: known(row, "closed_loop_per_s") or 0.0)
        for row in (row for row in rows if row is not top):
            yield Pair(first=str(top.variant), second=str(row.variant), comparison=compare_served(top, row))
