"""Every column of every table: title, unit, how it is written, and which tables have it, in their order.

One more column is one entry in `COLUMNS`: it then stands in Markdown, on the page and on the terminal.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any, Literal, get_args

from bench.report import words
from bench.report.document import table_lines
from bench.report.words import MISSING
from bench.summary.table_file import is_missing

PROOFS = {"D": "ran on the device", "W": "weights of the type", "K": "kernels computed in the precision"}
"""What the letters of the column `proof` stand for."""
WRITERS = {
    **{"ms": words.milliseconds, "rate": words.per_second, "ratio": words.ratio, "percent": words.percent},
    **{"share": words.share, "seconds": words.seconds, "digits": words.three_digits, "mib": words.mebibytes},
}
"""What writes a figure, by the name that the template of a column gives it."""
Table = Literal["rows", "fastest", "picks", "served", "search", "variants"]
"""All measured cells; the fastest one at each batch size; the pick for each budget; rows under load; and in the notes
the settings that a search tried of them, and a line a variant."""
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


class _Formatter(Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        write = WRITERS.get(format_spec)
        return write(value) if write else format(value, format_spec)


def _text(template: str) -> Callable[[View], str]:
    """Return what writes figures into a template, each as its format or one of `WRITERS` says; a dash without one."""
    keys = [key.partition(".")[0] for _, key, *_ in Formatter().parse(template) if key]
    return lambda view: MISSING if _lacks(view, *keys) else _Formatter().vformat(template, (), view)


def _verdict(view: View) -> str:
    if _lacks(view, "verdict"):
        return MISSING
    limits = words.between(words.ratio, view.get("speedup_low"), view.get("speedup_high"))
    apart = ", different sessions" if view.get("moved") else ""
    reason = words.untold(view.get("smallest_difference")) if view["verdict"] == "inconclusive" else ""
    reason = reason if _lacks(view, "verdict_reason") else view["verdict_reason"]
    parts = [f"{view['verdict']}{apart}{f': {reason}' if reason else ''}", *([] if limits == MISSING else [limits])]
    return ", ".join(parts)


def _p50_interval(view: View) -> str:
    if not _lacks(view, "unstable"):
        return "unstable"
    return words.between(words.milliseconds, view.get("p50_low_ms"), view.get("p50_high_ms"))


def _bottleneck(view: View) -> str:
    if not _lacks(view, "bound"):
        return f"{view['bound']}, GPU busy {words.share(min(view['gpu_busy_ms'] / view['p50_ms'], 1.0))}"
    return MISSING if _lacks(view, "matrix_share") else f"{words.share(view['matrix_share'])} in GEMMs"


def _setup(view: View) -> str:
    once = view.get("one_off_seconds")
    return "unknown: made on another machine" if is_missing(once) else words.seconds(once) if once else "nothing"


accuracy = _text("{accuracy:.2%} ({accuracy_low:.1%} – {accuracy_high:.1%})")
"""Write the accuracy over all labelled sentences with its interval."""


def accuracy_loss(view: View) -> str:
    """Write what a row loses of fp32's accuracy on the same sentences, and whether that may be chance."""
    if _lacks(view, "accuracy_loss"):
        return MISSING
    loss = view["accuracy_loss"]
    return f"{loss:+.2%} (p = {view['accuracy_loss_p']:.2g})" if loss else f"{loss:.2%}"


def _status(view: View) -> str:
    if not _lacks(view, "reason"):
        return f"{view['status']}: {view['reason']}"
    return ", ".join([str(view["status"]), *map(words.remark, view.get("disturbances", ()))])


def _latencies(at: int) -> Callable[[View], str]:
    p50, p99 = f"p50_ms_at_{at}", f"p99_ms_at_{at}"
    return lambda view: MISSING if _lacks(view, p50) else " / ".join(map(words.milliseconds, (view[p50], view[p99])))


def _each(key: str, write: Callable[[Any], str]) -> Callable[[View], str]:
    return lambda view: " → ".join(map(write, view[key])) or MISSING


def _cuda_graphs(view: View) -> str:
    memory = "" if view["warm_up_gpu_mib"] is None else f" ({words.mebibytes(view['warm_up_gpu_mib'])})"
    return MISSING if view["cuda_graphs"] is None else f"{view['cuda_graphs']}{memory}"


def _with_limits(figure: str, low: str, high: str, write: Callable[[Any], str]) -> Callable[[View], str]:
    return lambda view: words.with_interval(write, view.get(figure), view.get(low), view.get(high))


def _calls(key: str) -> Callable[[View], str]:
    return lambda view: ", ".join(f"{most:,} (batch {size})" for size, most in view[key].items()) or MISSING


def proof_text(view: View) -> str:
    """Return a row's proof in words."""
    letters = "" if is_missing(view["proof"]) else str(view["proof"])
    seen = [text for letter, text in PROOFS.items() if letter in letters]
    device = "GPU" if view["device"] == "cuda" else "CPU"
    return f"{device}, {view['precision']}: " + "; ".join(seen) if seen else "nothing of it was proved"


CELLS: tuple[Table, ...] = ("rows", "fastest", "picks")
_P95 = _with_limits("p95_ms", "p95_low_ms", "p95_high_ms", words.milliseconds)
_ENERGY = _with_limits("gross_energy_mj_per_sample", "gross_energy_low", "gross_energy_high", words.three_digits)
_NAME = _text("`{variant}`")
_RATE_LIMITS = _text("{requests_per_s_low:rate} – {requests_per_s_high:rate}")
_ROOFLINE, _WITHOUT_PADDING = map(_text, ("{limit_share:share} ({limited_by})", "{limit_without_padding_share:share}"))
COLUMNS: dict[str, Column] = {
    "budget": Column("p95 within", ("picks",), _text("{budget}")),
    "batch_size": Column("batch", CELLS, _text("{batch_size}")),
    "variant": Column("variant", get_args(Table), lambda view: view.get("instead") or _NAME(view), is_text=True),
    "padding": Column("padding", (*CELLS, "served"), _text("{padding}"), is_text=True, rank=4),
    "tokens": Column("tokens computed / given", ("rows",), _text("{tokens_computed:.1f} / {tokens_given:.1f}"), rank=5),
    "requests_per_s": Column("requests/s", ("served",), _text("{requests_per_s:rate}")),
    "requests_interval": Column("95% interval", ("served",), _RATE_LIMITS, rank=1),
    "confirmed": Column("confirmed (99%)", ("served",), _text("{confirmed_per_s:rate}"), rank=5),
    "vs_best": Column("vs best", ("served",), _text("{vs_best}"), is_text=True, rank=6),
    "searched": Column("with searched settings", ("served",), _text("{searched}"), is_text=True, rank=6),
    "from_text": Column("from text/s", ("served",), _text("{text_per_s:rate}"), rank=6),
    "settings": Column("settings", ("search",), _text("{settings}"), is_text=True),
    "met": Column("met the SLO at", ("search",), _text("{met_per_s:rate}"), "/s"),
    "missed": Column("missed it at", ("search",), _text("{missed_per_s:rate}"), "/s"),
    "not_tried": Column("not tried", ("search",), _text("{reason}"), is_text=True),
    "peak_share": Column("% of closed-loop peak", ("served",), _text("{closed_loop_peak_share:share}"), rank=2),
    "at_50": Column("p50 / p99 at 50% load", ("served",), _latencies(50), "ms", rank=3),
    "at_90": Column("p50 / p99 at 90% load", ("served",), _latencies(90), "ms", rank=7),
    "mean_batch": Column("mean batch", ("served",), _text("{mean_batch:.1f}"), rank=4),
    "tokens_per_request": Column("tokens computed", ("served",), _text("{tokens_per_request:.1f}"), rank=11),
    "gpu_load": Column("GPU busy", ("served",), _text("{gpu_busy_percent:.0f}%"), rank=10),
    "mj_per_request": Column("mJ/request", ("served",), _text("{energy_mj_per_request:digits}"), rank=12),
    "memory_under_load": Column("memory", ("served",), _text("{memory_under_load_mib:mib}"), rank=9),
    "cost": Column("cost per million requests", ("served",), _text("{cost_per_million_requests:digits}"), rank=8),
    "remarks": Column("remarks", ("served",), _text("{remarks}"), is_text=True),
    "p50": Column("p50", ("rows", "fastest"), _text("{p50_ms:ms}"), "ms"),
    "p50_interval": Column("95% interval", ("rows", "fastest"), _p50_interval, rank=3),
    "p95": Column("p95", ("rows",), _text("{p95_ms:ms}"), "ms", rank=11),
    "mean": Column("mean", ("rows",), _text("{mean_ms:ms}"), "ms", rank=12),
    "samples_per_s": Column("samples/s", ("rows", "picks"), _text("{samples_per_s:rate}"), rank=1),
    "p95_interval": Column("p95, 95% interval", ("picks",), _P95, "ms", rank=2),
    "speedup": Column("speed-up", ("rows",), _text("{speedup:ratio}")),
    "verdict": Column("verdict, 95% interval", ("rows",), _verdict, is_text=True, rank=2),
    "memory": Column("memory", ("fastest", "picks"), _text("{memory_mib:mib}"), rank=3),
    "bottleneck": Column("bottleneck", ("rows", "fastest"), _bottleneck, is_text=True, rank=6),
    "roofline": Column("of roofline", ("rows", "fastest", "variants"), _ROOFLINE, rank=7),
    "roofline_without_padding": Column("of roofline without padding", ("rows", "fastest"), _WITHOUT_PADDING, rank=8),
    "energy": Column("mJ/sample", CELLS, _ENERGY, rank=9),
    "most": Column("most samples/s", ("variants",), _text("{best.samples_per_s:rate} at batch {best.batch_size}")),
    "gemms": Column("GEMMs", ("variants",), _each("gemm_share", words.share)),
    "gpu_share": Column("GPU busy", ("variants",), _each("gpu_share", words.share)),
    "kernels": Column("kernels", ("variants",), _each("kernels", str)),
    "start_up": Column("cold start", ("fastest", "variants"), _text("{cold_start_seconds:seconds}")),
    "cuda_graphs": Column("CUDA graphs", ("variants",), _cuda_graphs),
    "setup": Column("set-up cost", ("fastest", "variants"), _setup),
    "break_even": Column("pays after calls", ("variants",), _calls("break_even"), is_text=True),
    "break_even_cuda": Column("pays against CUDA after calls", ("variants",), _calls("break_even_cuda"), is_text=True),
    "ties": Column("significant?", ("fastest", "picks"), _text("{significant}"), is_text=True),
    "agreement": Column("agreement", ("rows",), _text("{agreement:percent}"), rank=10),
    "accuracy": Column("accuracy, 95% interval", ("rows",), accuracy),
    "accuracy_loss": Column("loss against fp32", ("rows",), accuracy_loss),
    "proof": Column("proof", ("rows",), _text("{proof}"), is_text=True, rank=13),
    "status": Column("status", ("rows",), _status, is_text=True),
}
