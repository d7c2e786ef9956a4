"""results/summary_table.md: the machine, rows under load, and a panel a device with every row, fastest first."""

from __future__ import annotations

from collections.abc import Iterator

from bench.findings.models import Findings, Panel
from bench.report.columns import grid
from bench.report.document import Block, Bullets, Code, Heading, Paragraph, Text, joined, text
from bench.report.figures import MISSING
from bench.report.sentences import left_out, serve_with, terms
from bench.report.shown import Shown

PANELS = {"cuda": "GPU", "cpu": "CPU"}
"""What each device is called, in the order of the panels."""
LOAD_LEGEND = (
    "Requests arrive at random times (Poisson), each with one sentence; latency counts from the scheduled arrival. "
    "A batch is what waits when the last one ends. Requests/s: where the 99th percentile crosses the budget, a mean of "
    "the processes' own; its 95% interval is for another run. Confirmed: the highest rate whose requests show with 99% "
    "confidence that at most 1% is over latency. % of closed-loop peak: of what the same processes answer with all "
    "requests at once (Offline). Vs best: the ratio with its interval, for all pairs of rows together."
)


def table_blocks(shown: Shown) -> Iterator[Block]:
    """Yield what stands in results/summary_table.md."""
    yield Heading(1, f"Inference latency and throughput{shown.context.stand_in()}")
    yield from _head(shown)
    for panel in shown.findings.panels:
        yield Heading(2, f"{PANELS[panel.device]}: {shown.context.device(panel.device)}")
        yield from _answers(shown, panel)
        if timed := shown.timed(panel):
            yield grid("rows", timed)
        yield Bullets(list(left_out(panel.not_timed)))
    yield Paragraph(_legend(shown))


def summary_blocks(shown: Shown) -> Iterator[Block]:
    """Yield the machine, rows under load, and for each device what is fastest and what fits which budget."""
    yield from _head(shown)
    for panel in shown.findings.panels:
        if panel.fastest:
            yield Paragraph(f"{PANELS[panel.device]}:")
            yield from _answers(shown, panel)


def _head(shown: Shown) -> Iterator[Block]:
    context = shown.context
    yield Paragraph(f"Model: {context.model()}.")
    if not context.is_real:
        random = f"The weights are random: {context.what_holds()}; predictions mean nothing and there is no accuracy."
        yield Paragraph(random, is_strong=True)
    parity = f"largest logit difference to PyTorch {context.export['parity_max_abs_diff']:.2g}"
    yield Bullets([*context.hardware_lines(), f"Export: opset {context.export['opset']}, {parity}"])
    tried = [panel for panel in shown.findings.panels if panel.served]
    if tried:
        yield Heading(2, "Requests per second within the latency budget")
    for panel in tried:
        yield from served_blocks(shown, panel)
    if tried:
        yield Paragraph(LOAD_LEGEND)


def served_blocks(shown: Shown, panel: Panel) -> Iterator[Block]:
    """Yield what a device's rows sustain under load, which one to serve with, and the rows that were not served."""
    served, title = panel.served, PANELS[panel.device]
    if served is None:
        return
    if served.rows:
        yield Paragraph(f"{title}: {terms(served)}")
        yield grid("served", shown.served(served))
        yield Paragraph(joined(serve_with(served), "\n"))
    elif served.not_served:
        yield Paragraph(f"{title}, not served:")
    yield Bullets(list(left_out(served.not_served)))


def _answers(shown: Shown, panel: Panel) -> Iterator[Block]:
    if panel.fastest:
        yield grid("fastest", shown.fastest(panel))
    if panel.picks:
        most = shown.context.settings.max_memory_gib
        yield Paragraph(f"For a latency budget{'' if most is None else f', memory within {most:g} GiB'}:")
        yield grid("picks", list(shown.picks(panel)))


def margins(findings: Findings) -> str:
    """Say how large a difference must be: the configured margin, or what the A/A row differs by if that is more."""
    parts = [
        f"{least:.1%}{f' to {most:.1%}' if most > least else ''} on the {PANELS[panel.device]}"
        for panel in findings.panels
        if panel.margin
        for least, most in [panel.margin]
    ]
    return f" ({', '.join(parts)})" if parts else ""


def _legend(shown: Shown) -> Text:
    baselines = {row.device: row.baseline for row in shown.summary if isinstance(row.baseline, str)}
    named = (text("{} ({})", Code(baselines[device]), title) for device, title in PANELS.items() if device in baselines)
    return text(
        "A latency is one call, host arrays in, host logits out, copies included. "
        "Speed-up: against {} at the same batch size, of p50. p50, p95 and mean: geometric means of the "
        "processes' own. Their 95% intervals are for another run of the same row; that of a speed-up holds for all "
        "pairs of rows together; faster, slower and tie need the whole interval beyond or inside a margin{}, else the "
        f"verdict is inconclusive. p95: {MISSING} where there were too few runs. "
        "Bottleneck: the part of a call in which the GPU works, or the part of the CPU's work that is GEMMs. "
        "Significant: the whole interval of the ratio to every other row is beyond the margin. "
        "Cold start: from process start to the first result. Set-up cost: export, conversion and engine build. "
        "Padding: fixed, to the sequence length; longest, to the longest sentence of the batch, rounded up; none, "
        "sentences packed. Tokens: of a sentence, on average. "
        "Of roofline: the shortest time that this machine's measured peaks allow (a large GEMM in that "
        "precision, a large copy), as a share of p50; without padding: the same for the tokens that were given alone. "
        "mJ/sample: from the GPU's own counter, idle power included. "
        "Agreement: share of predictions whose label is the fp32 reference's. "
        "Accuracy: over all labelled sentences, Wilson's interval. Loss: against the fp32 reference on the same "
        "sentences; p: McNemar's exact test. "
        "Proof: D the device, W the type of the weights, K the arithmetic of the kernels were seen and agree with the "
        "label; - not recorded. Everything else that is known about a row: {}.",
        joined(named),
        margins(shown.findings),
        Code("summary.csv"),
    )
