"""Every column of every table: title, unit, how it is written, and which tables have it, in their order.

One more column is one entry in `COLUMNS`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
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
CHANCE = 0.05
"""Below this p a loss of accuracy is remarked."""
Table = Literal["rows", "page", "picks", "served"]
"""Measured cells in Markdown and on the terminal, and on the page; the pick for each budget; rows under load."""
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


def grid(table: Table, views: Sequence[View], keys: Collection[str] = ()) -> str:
    """Return a table of these lines in Markdown; `keys`: of its columns these alone."""
    columns = [column for key, column in columns_of(table, views).items() if not keys or key in keys]
    left = {column.heading for column in columns if column.is_text}
    cells = ([column.write(view) for column in columns] for view in views)
    return "\n".join(table_lines([column.heading for column in columns], left, cells))


def _lacks(view: View, *keys: str) -> bool:
    return any(is_missing(view.get(key)) for key in keys)


class _Formatter(Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        return WRITERS[format_spec](value) if format_spec in WRITERS else format(value, format_spec)


def _text(template: str) -> Callable[[View], str]:
    """Return what writes figures into a template, each as its format or one of `WRITERS` says; a dash without one."""
    keys = [key.partition(".")[0] for _, key, *_ in Formatter().parse(template) if key]
    return lambda view: MISSING if _lacks(view, *keys) else _Formatter().vformat(template, (), view)


def _remark(view: View) -> str:
    """Write why a verdict is open, what disturbed a cell that did not disturb most, and what a row loses for sure."""
    parts = [] if view["status"] == "measured" else [str(view["status"])]
    parts += [str(view[key]) for key in ("reason", "verdict_reason") if not _lacks(view, key)]
    if view.get("verdict") == "inconclusive" and _lacks(view, "verdict_reason"):
        parts.append(words.untold(view.get("smallest_difference")))
    parts += ["different sessions"] if view.get("moved") and not _lacks(view, "verdict") else []
    parts += map(words.remark, view.get("disturbances", ()))
    if not _lacks(view, "accuracy_loss_p") and view["accuracy_loss_p"] < CHANCE:
        parts.append(f"loses {accuracy_loss(view)} accuracy")
    return "; ".join(filter(None, parts)) or MISSING


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


def _latencies(at: int) -> Callable[[View], str]:
    p50, p99 = f"p50_ms_at_{at}", f"p99_ms_at_{at}"
    return lambda view: MISSING if _lacks(view, p50) else " / ".join(map(words.milliseconds, (view[p50], view[p99])))


def proof_text(view: View) -> str:
    """Return a row's proof in words."""
    seen = [text for letter, text in PROOFS.items() if not _lacks(view, "proof") and letter in view["proof"]]
    device = "GPU" if view["device"] == "cuda" else "CPU"
    return f"{device}, {view['precision']}: " + "; ".join(seen) if seen else "nothing of it was proved"


def _limits(figure: str, stem: str, write: Callable[[Any], str]) -> Callable[[View], str]:
    low, high = (stem.format(end) for end in ("low", "high"))
    return lambda view: words.with_interval(write, view.get(figure), view.get(low), view.get(high))


CELLS: tuple[Table, ...] = ("rows", "page")
_ENERGY = _limits("gross_energy_mj_per_sample", "gross_energy_{}", words.three_digits)
_NAME = _text("`{variant}`")
_ROOFLINE, _WITHOUT_PADDING = map(_text, ("{limit_share:share} ({limited_by})", "{limit_without_padding_share:share}"))
_P95 = _limits("p95_ms", "p95_{}_ms", words.milliseconds)
_RATE = _limits("requests_per_s", "requests_per_s_{}", words.per_second)
COLUMNS: dict[str, Column] = {
    "budget": Column("p95 within", ("picks",), _text("{budget}")),
    "batch_size": Column("batch", (*CELLS, "picks"), _text("{batch_size}")),
    "variant": Column("row", get_args(Table), lambda view: view.get("instead") or _NAME(view), is_text=True),
    "padding": Column("padding", ("page",), _text("{padding}"), is_text=True),
    "tokens": Column("tokens computed / given", ("page",), _text("{tokens_computed:.1f} / {tokens_given:.1f}")),
    "requests_per_s": Column("requests/s (95% interval)", ("served",), _RATE),
    "vs_best": Column("vs best", ("served",), _text("{vs_best}"), rank=5),
    "vs_best_verdict": Column("verdict", ("served",), _text("{vs_best_verdict}"), is_text=True, rank=6),
    "searched": Column("with searched settings", ("served",), _text("{searched:rate}"), "/s", rank=4),
    "peak_share": Column("% of closed-loop peak", ("served",), _text("{closed_loop_peak_share:share}"), rank=7),
    "at_90": Column("p50 / p99 at 90% load", ("served",), _latencies(90), "ms", rank=3),
    "memory_under_load": Column("memory", ("served",), _text("{memory_under_load_mib:mib}"), rank=8),
    "remarks": Column("remark", ("served",), _text("{remarks}"), is_text=True, rank=2),
    "p50": Column("p50", CELLS, _limits("p50_ms", "p50_{}_ms", words.milliseconds), "ms (95% interval)"),
    "p95": Column("p95", CELLS, _text("{p95_ms:ms}"), "ms", rank=4),
    "mean": Column("mean", ("page",), _text("{mean_ms:ms}"), "ms"),
    "samples_per_s": Column("samples/s", (*CELLS, "picks"), _text("{samples_per_s:rate}"), rank=1),
    "p95_interval": Column("p95", ("picks",), _P95, "ms (95% interval)", rank=2),
    "speedup": Column("speed-up (95% interval)", CELLS, _limits("speedup", "speedup_{}", words.ratio), rank=2),
    "verdict": Column("verdict", CELLS, _text("{verdict}"), is_text=True, rank=3),
    "memory": Column("memory", ("page", "picks"), _text("{memory_mib:mib}"), rank=3),
    "against_pick": Column("vs pick", ("picks",), _text("{against_pick}"), rank=4),
    "bottleneck": Column("bottleneck", ("page",), _bottleneck, is_text=True),
    "roofline": Column("of roofline", ("page",), _ROOFLINE),
    "roofline_without_padding": Column("of roofline without padding", ("page",), _WITHOUT_PADDING),
    "energy": Column("mJ/sample", ("page",), _ENERGY),
    "start_up": Column("cold start", ("page",), _text("{cold_start_seconds:seconds}")),
    "setup": Column("set-up cost", ("page",), _setup),
    "ties": Column("remark", ("picks",), lambda view: view.get("significant") or MISSING, is_text=True),
    "agreement": Column("agreement", ("page",), _text("{agreement:percent}")),
    "accuracy": Column("accuracy (95% interval)", ("page",), accuracy),
    "accuracy_loss": Column("loss against fp32", ("page",), accuracy_loss),
    "proof": Column("proof", CELLS, _text("{proof}"), is_text=True, rank=6),
    "remark": Column("remark", CELLS, _remark, is_text=True, rank=5),
}
