"""results/summary_table.md: the answer under load, then the fastest rows at each batch size."""

from collections.abc import Iterator

from bench.findings.models import Fastest, Panel
from bench.report import words
from bench.report.columns import grid
from bench.report.document import bullets
from bench.report.shown import Shown
from bench.report.words import MISSING, PANELS
from bench.summary.table_file import known

SHOWN_ROWS = 5
"""Rows that are shown at a batch size."""
LOAD_LEGEND = (
    "One sentence per request, Poisson arrivals; latency counts from the scheduled arrival. Requests/s: where p99 "
    "crosses the budget, with the 95% interval of another run. Vs best: simultaneous intervals, all pairs of rows. "
    "% of closed-loop peak: of the same process with all requests at once (Offline). Every column: `serving.csv`."
)

ALONE = (
    "What needs a process alone (accuracy, cold start, energy, bottleneck) was taken of the baseline and of possible "
    "best rows."
)
"""Where some rows have an accuracy and others none."""


def table_blocks(shown: Shown) -> Iterator[str]:
    """Yield what stands in results/summary_table.md."""
    yield f"# Inference latency and throughput{shown.context.stand_in()}"
    yield from _head(shown)
    for panel in shown.findings.panels:
        yield f"## {PANELS[panel.device]}: {shown.context.device(panel.device)}"
        yield bullets(words.warnings(panel))
        if panel.picks:
            most = shown.context.settings.max_memory_gib
            yield f"Most samples/s for a latency budget{'' if most is None else f', memory within {most:g} GiB'}:"
            yield grid("picks", list(shown.picks(panel)))
        yield from _batches(shown, panel)
        yield bullets(words.left_out([*panel.rejected, *panel.not_timed]))
    yield _legend(shown)


def _head(shown: Shown) -> Iterator[str]:
    context = shown.context
    yield f"Model: {context.model()}."
    if not context.is_real:
        holds = f"{context.what_holds()}; predictions mean nothing and there is no accuracy."
        yield f"**The weights are random: {holds}**"
    parity = f"largest logit difference to PyTorch {context.export['parity_max_abs_diff']:.2g}"
    yield bullets([*context.hardware_lines(), f"Export: opset {context.export['opset']}, {parity}"])
    tried = [panel for panel in shown.findings.panels if panel.served]
    if tried:
        yield "## Requests per second within the latency budget"
    for panel in tried:
        yield from served_blocks(shown, panel)
    if tried:
        yield LOAD_LEGEND


def served_blocks(shown: Shown, panel: Panel) -> Iterator[str]:
    """Yield what a device's rows sustain under load, which one to serve with, and the rows that were not served."""
    served, title = panel.served, PANELS[panel.device]
    if served is None:
        return
    if served.rows:
        yield f"{title}: {words.terms(served)}"
        yield grid("served", shown.served(served))
        yield "\n".join(words.serve_with(served))
    elif served.not_served:
        yield f"{title}, not served:"
    yield bullets(words.left_out(served.not_served))


def _batches(shown: Shown, panel: Panel) -> Iterator[str]:
    """Yield the fastest rows of each batch size and how many more there are."""
    best = {each.cell.batch_size: each for each in panel.fastest}
    for size, views in shown.by_batch(panel).items():
        yield f"### Batch {size}"
        yield fastest(best[size]) if size in best else ""
        yield grid("rows", views[:SHOWN_ROWS])
        more = len(views) - SHOWN_ROWS
        if more > 0:
            yield f"{more} slower row{'s' * (more > 1)}: `summary.csv`."


def fastest(found: Fastest) -> str:
    """Say which row is the fastest at a batch size, against the baseline, and whether others may be as fast."""
    is_compared = found.speedup and found.baseline
    against = f", {words.ratio(found.speedup)} as fast as `{found.baseline}`" if is_compared else ""
    return f"`{found.cell.variant}` has the lowest p50{against}: {words.significance(found)}."


def _legend(shown: Shown) -> str:
    baselines = {row.device: row.baseline for row in shown.summary if isinstance(row.baseline, str)}
    named = (f"`{baselines[device]}` ({title})" for device, title in PANELS.items() if device in baselines)
    limits = ((panel.device, *panel.margin) for panel in shown.findings.panels if panel.margin)
    margins = ", ".join(
        f"{least:.1%}{f' to {most:.1%}' if most > least else ''} on the {PANELS[device]}"
        for device, least, most in limits
    )
    return (
        "A latency is one call: host arrays in, host logits out, copies included. Rows take turns in short blocks, in "
        "random order, on the same sentences. p50: geometric mean of the blocks' medians, with the 95% interval of "
        f"another run; p95: of all calls, {MISSING} from too few. Speed-up: over {', '.join(named)} at the same batch "
        "size, of p50, with simultaneous 95% intervals. Verdict: the whole interval beyond or inside a margin"
        f"{f' ({margins})' if margins else ''}, else inconclusive. Proof: D device, W type of the weights, K "
        "arithmetic of the kernels seen as labelled; - not recorded. Every row and column (roofline, bottleneck, "
        "energy, memory, accuracy, set-up cost): `summary.csv` and the page."
        f"{f' {note}' if (note := taken_alone(shown)) else ''}"
    )


def taken_alone(shown: Shown) -> str:
    """Say why some rows have no accuracy, where others have one; empty where there is no such difference."""
    lacking = {known(row, "accuracy") is None for row in shown.summary if row.status == "measured"}
    return ALONE if len(lacking) == 2 else ""
