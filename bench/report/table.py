"""The results table in Markdown: a panel a device, fastest first within each batch size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd

from bench.core.params import ReportSettings
from bench.report.context import Context
from bench.report.fastest import (
    bottleneck_text,
    fastest_lines,
    padding_of,
    roofline_text,
    roofline_without_padding_text,
)
from bench.report.figures import (
    MISSING,
    between,
    milliseconds,
    per_second,
    percent,
    ratio,
    seconds,
    three_digits,
)
from bench.report.markdown import table_lines
from bench.report.picks import pick_lines
from bench.report.serving import serving_lines
from bench.summary.table_file import is_missing

PANELS = {"cuda": "GPU", "cpu": "CPU"}
LEFT_ALIGNED = ("variant", "padding", "verdict, 95% interval", "bottleneck", "proof", "status")


def render_table(table: pd.DataFrame, context: Context, serving: pd.DataFrame | None = None) -> str:
    """Return results/summary_table.md: the machine, what rows hold under load, and a panel a device with every row."""
    lines = [f"# Inference latency and throughput{context.stand_in()}", "", *_head(context), *_under_load(serving)]
    for device, title in PANELS.items():
        lines += _panel(table[table["device"] == device], title, context.device(device), context.settings)
    return "\n".join(lines + _legend(table)) + "\n"


def render_summary(table: pd.DataFrame, context: Context, serving: pd.DataFrame | None = None) -> str:
    """Return the machine, what rows hold under load, and for each device what is fastest and what fits which budget."""
    lines = [*_head(context), *(line.replace("## ", "### ") for line in _under_load(serving))]
    for device, title in PANELS.items():
        found = list(_summary(table[table["device"] == device], context.settings))
        lines += [f"{title}:", "", *found] if found else []
    return "\n".join(lines)


def _under_load(serving: pd.DataFrame | None) -> Iterator[str]:
    yield from [] if serving is None else serving_lines(serving, PANELS)


def _head(context: Context) -> Iterator[str]:
    yield from (f"Model: {context.model()}.", "")
    if not context.is_real:
        yield f"**The weights are random: {context.what_holds()}; predictions mean nothing and there is no accuracy.**"
        yield ""
    yield from (f"- {line}" for line in context.hardware_lines())
    parity = context.export["parity_max_abs_diff"]
    yield from (f"- Export: opset {context.export['opset']}, largest logit difference to PyTorch {parity:.2g}", "")


def _panel(rows: pd.DataFrame, title: str, hardware: str, settings: ReportSettings) -> Iterator[str]:
    yield from (f"## {title}: {hardware}", "")
    yield from _summary(rows, settings)
    timed = rows[rows["p50_ms"].notna()]
    if len(timed):
        names = shown_columns(timed)
        texts = ([COLUMNS[name](row) for name in names] for row in in_order(timed))
        yield from [*table_lines(names, LEFT_ALIGNED, texts), ""]
    yield from (f"- {line}" for line in not_timed(rows))
    yield ""


def _summary(rows: pd.DataFrame, settings: ReportSettings) -> Iterator[str]:
    """Yield the fastest row of each batch size, then the pick for each latency budget."""
    measured = rows[rows["status"] == "measured"]
    for lines in (fastest_lines(measured), pick_lines(measured, settings)):
        found = list(lines)
        yield from [*found, ""] if found else []


def in_order(timed: pd.DataFrame) -> Iterator[Any]:
    """Yield rows by batch size; measured before rejected, fastest first."""
    ordered = timed.assign(last=timed["status"] != "measured").sort_values(["batch_size", "last", "p50_ms"])
    yield from ordered.itertuples()


def shown_columns(timed: pd.DataFrame) -> list[str]:
    """Return the columns in which at least one row has something to say."""
    rows = list(timed.itertuples())
    return [name for name, write in COLUMNS.items() if any(write(row) != MISSING for row in rows)]


def speedup_text(row: Any) -> str:
    """Return the verdict against the baseline with the interval behind it."""
    if is_missing(row.verdict):
        return MISSING
    limits = between(ratio, row.speedup_low, row.speedup_high)
    reason = getattr(row, "verdict_reason", None)
    why = "" if is_missing(reason) else f": {reason}"
    apart = ", timed apart" if getattr(row, "moved", 0.0) else ""
    return f"{row.verdict}{why}{apart}" + ("" if limits == MISSING else f", {limits}")


def status_text(row: Any) -> str:
    """Return the status with its reason, or with what disturbed the measurement of this cell."""
    if not is_missing(row.reason):
        return f"{row.status}: {row.reason}"
    return ", ".join([str(row.status), *disturbances(row)])


def accuracy_text(row: Any) -> str:
    """Return the accuracy over all labelled sentences with its interval."""
    value: Any = getattr(row, "accuracy", None)
    if is_missing(value) or is_missing(getattr(row, "accuracy_low", None)):
        return MISSING
    return f"{value:.2%} ({row.accuracy_low:.1%} – {row.accuracy_high:.1%})"


def tokens_text(row: Any) -> str:
    """Return how many tokens a sentence were computed, and how many were given."""
    given: Any = getattr(row, "tokens_given", None)
    return MISSING if is_missing(given) else f"{row.tokens_computed:.1f} / {given:.1f}"


SIGNIFICANT = 0.05


def loss_text(row: Any) -> str:
    """Return what a row loses of fp32's accuracy on the same sentences, and whether that may be chance."""
    loss: Any = getattr(row, "accuracy_loss", None)
    if is_missing(loss):
        return MISSING
    return f"{loss:+.2%} (p = {row.accuracy_loss_p:.2g})" if loss else f"{loss:.2%}"


BUSY_CORES = 0.5
"""From this many cores on, what other processes did while a cell was timed is said."""
STOPPED_SECONDS = 0.05
"""From so long on, that the CPU quota stopped a cell is said."""
UNSTEADY = 1.5
"""From this ratio of the fixed loop's slowest to its fastest time on, a cell's CPU counts as unsteady."""


def disturbances(row: Any) -> Iterator[str]:
    """Yield what disturbed a cell: a pass cut short, throttling, other work on GPU or CPU, a CPU of changing speed."""
    batches: Any = getattr(row, "pass_batches", None)
    if not is_missing(batches) and padding_of(row) != "fixed" and row.runs % batches:
        yield "a pass cut short by max_seconds: not all sentences equally often"
    if not is_missing(row.throttling):
        yield f"throttled ({row.throttling})"
    stopped: Any = getattr(row, "quota_throttled_seconds", None)
    if not is_missing(stopped) and stopped >= STOPPED_SECONDS:
        yield f"stopped by the CPU quota for {seconds(stopped)}"
    if not is_missing(row.other_gpu_processes) and row.other_gpu_processes > 0:
        count = int(row.other_gpu_processes)
        yield "beside another busy GPU process" if count == 1 else f"beside {count} other busy GPU processes"
    if not is_missing(row.other_load_cores) and row.other_load_cores >= BUSY_CORES:
        yield f"other processes kept {row.other_load_cores:.1f} cores busy"
    if not is_missing(row.host_loop_min_ms) and row.host_loop_max_ms >= UNSTEADY * row.host_loop_min_ms:
        yield f"CPU unsteady ({ratio(row.host_loop_max_ms / row.host_loop_min_ms)})"


COLUMNS: dict[str, Callable[[Any], str]] = {
    "batch": lambda row: str(row.batch_size),
    "variant": lambda row: str(row.variant),
    "padding": padding_of,
    "tokens computed / given": tokens_text,
    "p50 ms": lambda row: milliseconds(row.p50_ms),
    "95% interval": lambda row: between(milliseconds, row.p50_low_ms, row.p50_high_ms),
    "p95 ms": lambda row: milliseconds(row.p95_ms),
    "mean ms": lambda row: milliseconds(row.mean_ms),
    "samples/s": lambda row: per_second(row.samples_per_s),
    "speed-up": lambda row: ratio(row.speedup),
    "verdict, 95% interval": speedup_text,
    "bottleneck": bottleneck_text,
    "of roofline": roofline_text,
    "of roofline without padding": roofline_without_padding_text,
    "mJ/sample": lambda row: three_digits(row.gross_energy_mj_per_sample),
    "agreement": lambda row: percent(row.agreement),
    "accuracy, 95% interval": accuracy_text,
    "loss against fp32": loss_text,
    "proof": lambda row: MISSING if is_missing(row.proof) else str(row.proof),
    "status": status_text,
}
"""How each column of the table is written."""


def not_timed(rows: pd.DataFrame) -> Iterator[str]:
    """Yield one line for each status and reason for which there are no times, with the variants it concerns."""
    untimed = rows[rows["p50_ms"].isna()]
    keys = [untimed["status"], untimed["reason"].fillna("")]
    for (status, reason), group in untimed.groupby(keys, sort=False):
        names = []
        for variant, cells in group.groupby("variant", sort=False):
            sizes = ", ".join(map(str, cells["batch_size"]))
            all_of_it = len(cells) == len(rows[rows["variant"] == variant])
            names.append(f"`{variant}`" if all_of_it else f"`{variant}` at batch {sizes}")
        yield f"{status}{f' ({reason})' if reason else ''}: {', '.join(names)}"


def _legend(table: pd.DataFrame) -> list[str]:
    baselines = dict(zip(table["device"], table["baseline"], strict=True))
    against = ", ".join(
        f"`{baselines[device]}` ({title})" for device, title in PANELS.items() if not is_missing(baselines.get(device))
    )
    return [
        "A latency is one call, host arrays in, host logits out, copies included. "
        f"Speed-up: against {against} at the same batch size, of p50. p50, p95 and mean: geometric means of the "
        f"processes' own. Their 95% intervals are for another run of the same row; that of a speed-up holds for all "
        f"pairs of rows together; faster, slower and tie are said where the whole interval "
        f"is beyond or inside a margin{margins_text(table)}, else inconclusive. "
        f"p95: {MISSING} where there were too few runs. "
        "Bottleneck: the part of a call in which the GPU works, or the part of the CPU's work that is matrix products. "
        "Significant: the whole interval of the ratio to every other row is beyond the margin. "
        "Cold start: from process start to the first result. One-off: export, conversion and engine build. "
        "Padding: fixed, to the sequence length; longest, to the longest sentence of the batch, rounded up; none, "
        "sentences laid end to end. Tokens: of a sentence, on average. "
        "Of roofline: the shortest time that this machine's measured peaks allow (a large matrix product in that "
        "precision, a large copy), as a share of p50; without padding: the same for the tokens that were given alone. "
        "mJ/sample: from the GPU's own counter, idle power included. "
        "Agreement: share of predictions whose label is the fp32 reference's. "
        "Accuracy: over all labelled sentences, Wilson's interval. Loss: against the fp32 reference on the same "
        "sentences; p: "
        "McNemar's exact test. "
        "Proof: D the device, W the type of the weights, K the arithmetic of the kernels were seen and agree with the "
        "label; - not recorded. "
        "Everything else that is known about a row: `summary.csv`."
    ]


def margins_text(table: pd.DataFrame) -> str:
    """Say how large a difference must be: the configured margin, or what the A/A row differs by if that is more."""
    parts = []
    for device, title in PANELS.items():
        rows = table[(table["device"] == device) & (table["status"] == "measured")]
        if len(rows):
            least, most = rows["margin"].min(), rows["margin"].max()
            parts.append(f"{least:.1%}{f' to {most:.1%}' if most > least else ''} on the {title}")
    return f" ({', '.join(parts)})" if parts else ""
