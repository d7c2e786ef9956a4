"""What precisions, paddings, engines and batch sizes change, from one device's measured rows."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any, Literal, get_args

from bench.core.params import Precision
from bench.findings.assumptions import by_batch, fastest_pairs, pair_of, plain
from bench.findings.models import (
    AtBatch,
    BreakEven,
    ByVariant,
    CallParts,
    Energy,
    PaddedShare,
    Padding,
    PrecisionSpeedup,
    TensorRT,
)
from bench.findings.picks import cell_of
from bench.summary.comparisons import compare, fastest
from bench.summary.table_file import Rows, grouped, known

PADDINGS = ("longest", "none")
"""Ways to pad less than to the sequence length."""


def precision_speedups(rows: Rows) -> Iterator[PrecisionSpeedup]:
    """Yield each lower precision of a runtime and padding against fp32, batch by batch."""
    for (runtime, padding), group in grouped(plain(rows), "runtime", "padding").items():
        for precision in (name for name in get_args(Precision) if name != "fp32"):
            sizes = ((cells, _of(cells, precision), _of(cells, "fp32")) for cells in by_batch(group))
            found = [
                AtBatch(batch_size=int(cells[0].batch_size), comparison=compare(ours, theirs))
                for cells, ours, theirs in sizes
                if ours is not None and theirs is not None
            ]
            if found:
                names = {"runtime": str(runtime), "padding": str(padding)}
                yield PrecisionSpeedup(**names, precision=precision, reference="fp32", by_batch=found)


def _of(cells: Rows, precision: str) -> Any:
    return next((row for row in cells if row.precision == precision), None)


def paddings(rows: Rows) -> Iterator[Padding]:
    """Yield each way to pad less: its fastest row against the fastest of fixed length, at each batch size."""
    for way in PADDINGS:
        pairs = fastest_pairs(by_batch(rows), partial(_pads, way), partial(_pads, "fixed"))
        if found := list(pairs):
            yield Padding(padding=way, by_batch=found)


def _pads(way: str, row: Any) -> bool:
    return bool(row.padding == way)


def padded_shares(rows: Rows) -> Iterator[PaddedShare]:
    """Yield how much of what each padding computes is padding, at the smallest and the largest batch size.

    Nothing where every row pads to the sequence length, or tokens are not known.
    """
    ways = {row.padding for row in rows}
    for way in ("fixed", *PADDINGS) if ways - {"fixed"} else ():
        for row in ends([row for row in rows if row.padding == way and known(row, "tokens_given")]):
            share = float(1 - row.tokens_given / row.tokens_computed)
            yield PaddedShare(padding=way, batch_size=int(row.batch_size), share=share)


def ends(rows: Rows) -> list[Any]:
    """Return the first row of the smallest batch size, and of the largest one where that is another."""
    sizes = by_batch(rows)
    return [group[0] for group in (sizes if len(sizes) < 2 else (sizes[0], sizes[-1]))]


def tensorrt(rows: Rows) -> Iterator[TensorRT]:
    """Yield the fastest TensorRT row against ONNX Runtime's fastest CUDA row, at each batch size."""
    for group in by_batch([row for row in rows if row.device == "cuda"]):
        ours, theirs = (
            fastest(row for row in group if row.runtime == runtime) for runtime in ("tensorrt", "onnxruntime")
        )
        if ours is None or theirs is None:
            continue
        pair, first, second = pair_of(ours, theirs), _parts(ours), _parts(theirs)
        decides = _decides(first, second, pair.comparison.verdict) if first and second else None
        yield TensorRT(pair=pair, first_parts=first, second_parts=second, decides=decides)


def _parts(row: Any) -> CallParts | None:
    kernels, gpu_ms, host_ms = (known(row, name) for name in ("kernel_launches", "gpu_busy_ms", "host_ms"))
    if kernels is None:
        return None
    return CallParts(kernels=int(kernels), gpu_ms=float(gpu_ms), host_ms=float(host_ms))


def _decides(ours: CallParts, theirs: CallParts, verdict: str) -> Literal["gpu", "host", "both"] | None:
    """Return where the slower row loses its time: `host` where the other's time on the host would turn the outcome."""
    if verdict not in ("faster", "slower"):
        return None
    winner, loser = (ours, theirs) if verdict == "faster" else (theirs, ours)
    if loser.gpu_ms <= winner.gpu_ms:
        return "host"
    return "gpu" if loser.host_ms <= winner.host_ms else "both"


def by_variant(rows: Rows) -> Iterator[ByVariant]:
    """Yield what the batch sizes of each variant show together."""
    for (variant,), group in grouped(rows, "variant").items():
        ordered = sorted(group, key=lambda row: row.batch_size)
        first, outer = ordered[0], ends(group)
        best = max(ordered, key=lambda row: float(row.samples_per_s))
        nearest = max(ordered, key=lambda row: known(row, "limit_share") or 0.0)
        is_cuda = first.device == "cuda"
        yield ByVariant(
            variant=str(variant),
            ends=[int(row.batch_size) for row in outer],
            best=cell_of(best),
            gain=None if best is first else float(best.samples_per_s / first.samples_per_s),
            loses_at=_loses_at(ordered),
            gemm_share=_each(outer, lambda row: known(row, "matrix_share")),
            gpu_share=_each(outer, _gpu_share),
            kernels=[parts.kernels for row in outer if (parts := _parts(row))],
            limit_share=known(nearest, "limit_share"),
            limited_by=known(nearest, "limited_by"),
            cold_start_seconds=known(first, "cold_start_seconds"),
            warm_start_seconds=known(first, "warm_start_seconds"),
            cuda_graphs=int(first.captures) if is_cuda and known(first, "captures") is not None else None,
            warm_up_gpu_mib=known(first, "warm_up_gpu_mib"),
            setup_seconds=known(first, "one_off_seconds"),
            break_even=_break_even([row for row in ordered if row.verdict == "faster"], "break_even_calls"),
            break_even_cuda=_break_even(ordered, "break_even_cuda_calls"),
        )


def _gpu_share(row: Any) -> float | None:
    busy_ms = known(row, "gpu_busy_ms")
    return None if busy_ms is None else min(1.0, float(busy_ms / row.p50_ms))


def _each(rows: list[Any], figure: Any) -> list[float]:
    return [float(value) for row in rows if (value := figure(row)) is not None]


def _loses_at(ordered: list[Any]) -> int | None:
    steps = pairwise(ordered)
    falls = (
        int(after.batch_size) for before, after in steps if compare(after, before, "throughput").verdict == "slower"
    )
    return next(falls, None)


def _break_even(rows: list[Any], column: str) -> list[BreakEven]:
    paid = [row for row in rows if known(row, "one_off_seconds") and known(row, column) is not None]
    return [BreakEven(batch_size=int(row.batch_size), calls=int(getattr(row, column))) for row in paid]


def energies(rows: Rows) -> tuple[Energy | None, Energy | None]:
    """Return the cells that take least and most energy for a sample, all that the GPU draws meanwhile counted in.

    Without the idle power a row that hardly uses the GPU would win by a difference of two nearly equal figures.
    """
    measured = [row for row in rows if known(row, "gross_energy_mj_per_sample") is not None]
    ordered = sorted(measured, key=lambda row: row.gross_energy_mj_per_sample)
    return (_energy(ordered[0]), _energy(ordered[-1])) if ordered else (None, None)


def _energy(row: Any) -> Energy:
    return Energy(
        cell=cell_of(row),
        mj_per_sample=float(row.gross_energy_mj_per_sample),
        beyond_idle_mj=known(row, "energy_mj_per_sample"),
        idle_w=known(row, "idle_w"),
    )
