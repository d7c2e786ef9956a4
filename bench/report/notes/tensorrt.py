"""TensorRT against ONNX Runtime's CUDA provider: which is faster, what a call of each is made of, and what decides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from bench.report.comparison_text import comparison_text
from bench.report.figures import milliseconds
from bench.summary.comparisons import compare, fastest
from bench.summary.table_file import is_missing


def tensorrt_lines(rows: pd.DataFrame) -> Iterator[str]:
    """Yield, for each batch size, the fastest row of each of the two providers with the time on GPU and host of both.

    `rows` are the measured rows of the GPU.
    """
    for size, group in rows.groupby("batch_size"):
        ours, theirs = (
            fastest(group[group["runtime"] == runtime].itertuples()) for runtime in ("tensorrt", "onnxruntime")
        )
        if ours is None or theirs is None:
            continue
        found = compare(ours, theirs)
        pair = f"`{ours.variant}` against `{theirs.variant}`"
        line = f"- Batch {size}, TensorRT against CUDA: {pair}: {comparison_text(found)}."
        if is_missing(ours.gpu_busy_ms) or is_missing(theirs.gpu_busy_ms):
            yield line
            continue
        yield f"{line} {_parts(ours)} against {_parts(theirs)}.{_what_decides(ours, theirs, found.verdict)}"


def _parts(row: Any) -> str:
    return (
        f"{row.kernel_launches:.0f} kernels, {milliseconds(row.gpu_busy_ms)} ms on the GPU and "
        f"{milliseconds(row.host_ms)} ms on the host"
    )


def _what_decides(ours: Any, theirs: Any, verdict: str) -> str:
    """Say where the slower row loses its time, and what alone would turn the outcome."""
    if verdict not in ("faster", "slower"):
        return ""
    winner, loser = (ours, theirs) if verdict == "faster" else (theirs, ours)
    on_gpu, on_host = loser.gpu_busy_ms - winner.gpu_busy_ms, loser.host_ms - winner.host_ms
    where = f" `{loser.variant}` takes {_more(on_gpu)} on the GPU and {_more(on_host)} on the host"
    if on_gpu <= 0:
        return f"{where}: with the other's time on the host it would not be slower."
    if on_host <= 0:
        return f"{where}: with the other's time on the GPU it would not be slower."
    return f"{where}: neither part alone would turn it."


def _more(difference_ms: float) -> str:
    return f"{milliseconds(abs(difference_ms))} ms {'longer' if difference_ms > 0 else 'less'}"
