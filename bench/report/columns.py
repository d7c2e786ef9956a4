"""Every column of every table: title, unit, how it is written, and which tables have it, in their order.

One more column is one entry in `COLUMNS`: it then stands in Markdown, on the page and on the terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from bench.report.document import table_lines
from bench.report.words import (
    MISSING,
    between,
    formatted,
    mebibytes,
    milliseconds,
    per_second,
    percent,
    ratio,
    seconds,
    share,
    three_digits,
    with_interval,
)
from bench.summary.serving import SHARES
from bench.summary.table_file import is_missing

PROOFS = {"D": "ran on the device", "W": "weights of the type", "K": "kernels computed in the precision"}
"""What the letters of the column `proof` stand for."""
Table = Literal["rows", "fastest", "picks", "served", "load", "variants"]
"""All measured cells; the fastest one at each batch size; the pick for each budget; rows under load; the same in the
notes; and in the notes a line a variant."""
View = Mapping[str, Any]
"""A line of a table: the figures of its row, and what the findings say of it."""


@dataclass(frozen=True)
class Column:
    """A column; `rank`: a terminal too narrow for all leaves the highest out first, and never 0."""

    title: str
    tables: tuple[Table, ...]
    write: Callable[[View], str]
    unit: str = ""
    is_text: bool = False
    rank: int = 0

    @property
    def heading(self) -> str:
        """The title with the unit."""
        return f"{self.title} {self.unit}".rstrip()


def columns_of(table: Table, views: Sequence[View]) -> dict[str, Column]:
    """Return the columns of a table in which at least one line has something to say, by their keys."""
    own = {key: column for key, column in COLUMNS.items() if table in column.tables}
    return {key: column for key, column in own.items() if any(column.write(view) != MISSING for view in views)}


def grid(table: Table, views: Sequence[View]) -> str:
    """Return a table of these lines in Markdown."""
    columns = columns_of(table, views).values()
    left = {column.heading for column in columns if column.is_text}
    cells = ([column.write(view) for column in columns] for view in views)
    return "\n".join(table_lines([column.heading for column in columns], left, cells))


def _lacks(view: View, *keys: str) -> bool:
    return any(is_missing(view.get(key)) for key in keys)


_AS_IT_IS = formatted("{}")


def _figure(key: str, write: Callable[[Any], str] = _AS_IT_IS) -> Callable[[View], str]:
    return lambda view: write(view.get(key))


def _limits(low: str, high: str, write: Callable[[Any], str]) -> Callable[[View], str]:
    return lambda view: between(write, view.get(low), view.get(high))


def _variant(view: View) -> str:
    return view.get("instead") or f"`{view['variant']}`"


def _tokens(view: View) -> str:
    if _lacks(view, "tokens_given"):
        return MISSING
    return f"{view['tokens_computed']:.1f} / {view['tokens_given']:.1f}"


def _verdict(view: View) -> str:
    if _lacks(view, "verdict"):
        return MISSING
    limits = between(ratio, view.get("speedup_low"), view.get("speedup_high"))
    reason = "" if _lacks(view, "verdict_reason") else f": {view['verdict_reason']}"
    apart = ", different sessions" if view.get("moved") else ""
    return f"{view['verdict']}{reason}{apart}" + ("" if limits == MISSING else f", {limits}")


def _bottleneck(view: View) -> str:
    if not _lacks(view, "bound"):
        return f"{view['bound']}, GPU busy {share(min(view['gpu_busy_ms'] / view['p50_ms'], 1.0))}"
    return MISSING if _lacks(view, "matrix_share") else f"{share(view['matrix_share'])} in GEMMs"


def _reached(key: str) -> Callable[[View], str]:
    return lambda view: share(view.get(key)) if _lacks(view, key) or view[key] <= 1 else "beyond the measured peak"


def _roofline(view: View) -> str:
    return MISSING if _lacks(view, "limit_share") else f"{_reached('limit_share')(view)} ({view['limited_by']})"


def _start_up(view: View) -> str:
    warm = "" if _lacks(view, "warm_start_seconds") else f", warm {seconds(view['warm_start_seconds'])}"
    return f"{seconds(view.get('cold_start_seconds'))}{warm}"


def _setup(view: View) -> str:
    once = view.get("one_off_seconds")
    return "unknown: made on another machine" if is_missing(once) else seconds(once) if once else "nothing"


def accuracy(view: View) -> str:
    """Write the accuracy over all labelled sentences with its interval."""
    if _lacks(view, "accuracy", "accuracy_low"):
        return MISSING
    return f"{view['accuracy']:.2%} ({view['accuracy_low']:.1%} – {view['accuracy_high']:.1%})"


def accuracy_loss(view: View) -> str:
    """Write what a row loses of fp32's accuracy on the same sentences, and whether that may be chance."""
    if _lacks(view, "accuracy_loss"):
        return MISSING
    loss = view["accuracy_loss"]
    return f"{loss:+.2%} (p = {view['accuracy_loss_p']:.2g})" if loss else f"{loss:.2%}"


def _status(view: View) -> str:
    if not _lacks(view, "reason"):
        return f"{view['status']}: {view['reason']}"
    return ", ".join([str(view["status"]), *view.get("disturbances", ())])


def _latencies(at: int) -> Callable[[View], str]:
    p50, p99 = f"p50_ms_at_{at}", f"p99_ms_at_{at}"
    return lambda view: MISSING if _lacks(view, p50) else f"{milliseconds(view[p50])} / {milliseconds(view[p99])}"


def _each(key: str, write: Callable[[Any], str]) -> Callable[[View], str]:
    return lambda view: " → ".join(map(write, view[key])) or MISSING


def _most(view: View) -> str:
    return f"{per_second(view['best'].samples_per_s)} at batch {view['best'].batch_size}"


def _cuda_graphs(view: View) -> str:
    memory = "" if view["warm_up_gpu_mib"] is None else f" ({mebibytes(view['warm_up_gpu_mib'])})"
    return MISSING if view["cuda_graphs"] is None else f"{view['cuda_graphs']}{memory}"


def _with_limits(figure: str, low: str, high: str, write: Callable[[Any], str]) -> Callable[[View], str]:
    return lambda view: with_interval(write, view.get(figure), view.get(low), view.get(high))


def _calls(key: str) -> Callable[[View], str]:
    return lambda view: ", ".join(f"{most:,} (batch {size})" for size, most in view[key].items()) or MISSING


def proof_text(view: View) -> str:
    """Return a row's proof in words."""
    letters = "" if is_missing(view["proof"]) else str(view["proof"])
    seen = [text for letter, text in PROOFS.items() if letter in letters]
    device = "GPU" if view["device"] == "cuda" else "CPU"
    return f"{device}, {view['precision']}: " + "; ".join(seen) if seen else "nothing of it was proved"


def _batches(view: View) -> str:
    return ", ".join(f"{view[f'mean_batch_at_{at}']:.1f}" for at in SHARES)


def _over(figure: str, reference: str) -> Callable[[View], str]:

    return lambda view: MISSING if _lacks(view, figure, reference) else ratio(view[figure] / view[reference])


CELLS: tuple[Table, ...] = ("rows", "fastest", "picks")
_ONE_DECIMAL = formatted("{:.1f}")
_P95 = _with_limits("p95_ms", "p95_low_ms", "p95_high_ms", milliseconds)
_ENERGY = _with_limits("gross_energy_mj_per_sample", "gross_energy_low", "gross_energy_high", three_digits)
_P50_LIMITS = _limits("p50_low_ms", "p50_high_ms", milliseconds)
_RATE_LIMITS = _limits("requests_per_s_low", "requests_per_s_high", per_second)
_COST = _figure("cost_per_million_requests", three_digits)
_WITHOUT_PADDING = _reached("limit_without_padding_share")
COLUMNS: dict[str, Column] = {
    "budget": Column("p95 within", ("picks",), _figure("budget", str)),
    "batch_size": Column("batch", CELLS, _figure("batch_size")),
    "variant": Column("variant", get_args(Table), _variant, is_text=True),
    "padding": Column("padding", (*CELLS, "served"), _figure("padding"), is_text=True, rank=4),
    "tokens": Column("tokens computed / given", ("rows",), _tokens, rank=5),
    "requests_per_s": Column("requests/s", ("served", "load"), _figure("requests_per_s", per_second)),
    "requests_interval": Column("95% interval", ("served",), _RATE_LIMITS, rank=1),
    "confirmed": Column("confirmed (99%)", ("served",), _figure("confirmed_per_s", per_second), rank=5),
    "vs_best": Column("vs best", ("served",), _figure("vs_best"), is_text=True, rank=6),
    "offline": Column("Offline", ("load",), _figure("offline_per_s", per_second), "/s"),
    "peak_share": Column("% of closed-loop peak", ("served",), _figure("closed_loop_peak_share", share), rank=2),
    "at_50": Column("p50 / p99 at 50% load", ("served",), _latencies(50), "ms", rank=3),
    "at_90": Column("p50 / p99 at 90% load", ("served",), _latencies(90), "ms", rank=7),
    "mean_batch": Column("mean batch", ("served",), _figure("mean_batch", _ONE_DECIMAL), rank=4),
    "mean_batches": Column(f"mean batch at {', '.join(map(str, SHARES))}% load", ("load",), _batches),
    "tokens_per_request": Column("tokens computed", ("served",), _figure("tokens_per_request", _ONE_DECIMAL), rank=11),
    "gpu_load": Column("GPU busy", ("served",), _figure("gpu_busy_percent", formatted("{:.0f}%")), rank=10),
    "mj_per_request": Column("mJ/request", ("served",), _figure("energy_mj_per_request", three_digits), rank=12),
    "memory_under_load": Column("memory", ("served",), _figure("memory_under_load_mib", mebibytes), rank=9),
    "cost": Column("cost per million requests", ("served",), _COST, rank=8),
    "doubled": Column("with twice the budget", ("load",), _over("doubled_budget_per_s", "requests_per_s")),
    "single_stream": Column("SingleStream p50", ("load",), _figure("single_stream_p50_ms", milliseconds), "ms"),
    "queue": Column("vs batch 1", ("load",), _over("single_stream_p50_ms", "batch_1_p50_ms")),
    "no_op_p99": Column("no-op p99 at its rate", ("load",), _figure("null_p99_ms", milliseconds), "ms"),
    "remarks": Column("remarks", ("served",), _figure("remarks"), is_text=True),
    "p50": Column("p50", ("rows", "fastest"), _figure("p50_ms", milliseconds), "ms"),
    "p50_interval": Column("95% interval", ("rows", "fastest"), _P50_LIMITS, rank=3),
    "p95": Column("p95", ("rows",), _figure("p95_ms", milliseconds), "ms", rank=11),
    "mean": Column("mean", ("rows",), _figure("mean_ms", milliseconds), "ms", rank=12),
    "samples_per_s": Column("samples/s", ("rows", "picks"), _figure("samples_per_s", per_second), rank=1),
    "p95_interval": Column("p95, 95% interval", ("picks",), _P95, "ms", rank=2),
    "speedup": Column("speed-up", ("rows",), _figure("speedup", ratio)),
    "verdict": Column("verdict, 95% interval", ("rows",), _verdict, is_text=True, rank=2),
    "memory": Column("memory", ("fastest", "picks"), _figure("memory_mib", mebibytes), rank=3),
    "bottleneck": Column("bottleneck", ("rows", "fastest"), _bottleneck, is_text=True, rank=6),
    "roofline": Column("of roofline", ("rows", "fastest", "variants"), _roofline, rank=7),
    "roofline_without_padding": Column("of roofline without padding", ("rows", "fastest"), _WITHOUT_PADDING, rank=8),
    "energy": Column("mJ/sample", CELLS, _ENERGY, rank=9),
    "most": Column("most samples/s", ("variants",), _most),
    "gain": Column("vs smallest batch", ("variants",), _figure("gain", ratio)),
    "loses": Column("loses throughput at batch", ("variants",), _figure("loses_at")),
    "gemms": Column("GEMMs", ("variants",), _each("gemm_share", share)),
    "gpu_share": Column("GPU busy", ("variants",), _each("gpu_share", share)),
    "kernels": Column("kernels", ("variants",), _each("kernels", str)),
    "start_up": Column("cold start", ("fastest", "variants"), _start_up),
    "cuda_graphs": Column("CUDA graphs", ("variants",), _cuda_graphs),
    "setup": Column("set-up cost", ("fastest", "variants"), _setup),
    "break_even": Column("pays after calls", ("variants",), _calls("break_even"), is_text=True),
    "break_even_cuda": Column("pays against CUDA after calls", ("variants",), _calls("break_even_cuda"), is_text=True),
    "ties": Column("significant?", ("fastest", "picks"), _figure("significant"), is_text=True),
    "agreement": Column("agreement", ("rows",), _figure("agreement", percent), rank=10),
    "accuracy": Column("accuracy, 95% interval", ("rows",), accuracy),
    "accuracy_loss": Column("loss against fp32", ("rows",), accuracy_loss),
    "proof": Column("proof", ("rows",), _figure("proof"), is_text=True, rank=13),
    "status": Column("status", ("rows",), _status, is_text=True),
}
