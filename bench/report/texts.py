"""results/summary_table.md with every row, fastest first, and notes/engineering_observations.md: what a run shows."""

from collections.abc import Iterator

from bench.findings.models import Assumption, Findings, Noise, Pair, Panel, PrecisionSpeedup
from bench.report import words
from bench.report.columns import grid
from bench.report.document import bullets, table_lines
from bench.report.shown import Shown
from bench.report.words import MISSING

PANELS = {"cuda": "GPU", "cpu": "CPU"}
"""What each device is called, in the order of the panels."""
SHOWN_PAIRS = 4
PADDED = {"longest": "padded to the longest sentence of the batch", "none": "without padding"}
LOAD_LEGEND = (
    "Requests arrive at random times (Poisson), each with one sentence; latency counts from the scheduled arrival. "
    "A batch is what waits when the last one ends. Requests/s: where the 99th percentile crosses the budget, a mean of "
    "what trials say; its 95% interval is for another run. Confirmed: the highest rate whose requests show with 99% "
    "confidence that at most 1% is over latency. % of closed-loop peak: of what the same process answers with all "
    "requests at once (Offline). Vs best: the ratio with its interval, for all pairs of rows together."
)
ALONE = (
    "Memory, energy, kernels, operators and cold start come from a process that runs alone, after the passes: of the "
    f"baseline and of rows that may be the fastest at a batch size; {MISSING} for the others."
)


def table_blocks(shown: Shown) -> Iterator[str]:
    """Yield what stands in results/summary_table.md."""
    yield f"# Inference latency and throughput{shown.context.stand_in()}"
    yield from _head(shown)
    for panel in shown.findings.panels:
        yield f"## {PANELS[panel.device]}: {shown.context.device(panel.device)}"
        yield from _answers(shown, panel)
        if timed := shown.timed(panel):
            yield grid("rows", timed)
        yield from _cut_short(panel)
        yield bullets(words.left_out(panel.not_timed))
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


def _answers(shown: Shown, panel: Panel) -> Iterator[str]:
    if panel.fastest:
        yield grid("fastest", shown.fastest(panel))
    if panel.picks:
        most = shown.context.settings.max_memory_gib
        yield f"For a latency budget{'' if most is None else f', memory within {most:g} GiB'}:"
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


def _legend(shown: Shown) -> str:
    baselines = {row.device: row.baseline for row in shown.summary if isinstance(row.baseline, str)}
    named = (f"`{baselines[device]}` ({title})" for device, title in PANELS.items() if device in baselines)
    return (
        "A latency is one call, host arrays in, host logits out, copies included. "
        "Rows are timed in passes: in each, every row gets a block (a few calls, on the same sentences) at each batch "
        "size, in random order. p50 and mean: geometric means over passes of the blocks' medians and means; p95: "
        f"of all calls, {MISSING} where they were too few. Their 95% intervals are for another run of the same row. "
        f"Speed-up: against {', '.join(named)} at the same batch size, of p50; its 95% intervals hold together, for "
        "all comparisons of a device and for the looks that end the timing of a row. Faster, slower and tie need the "
        f"whole interval beyond or inside a margin{margins(shown.findings)}, else the verdict is inconclusive, with "
        "the smallest difference that this run could have told. Unstable: its slowest block took ten times as long as "
        "its fastest, so it has no interval. "
        f"{ALONE} Bottleneck: the part of a call in which the GPU works, or the part of the CPU's work that is GEMMs. "
        "Significant: the whole interval of the ratio to every other row is beyond the margin. "
        "Cold start: from process start to the first result. Set-up cost: export, conversion and engine build. "
        "Padding: fixed, to the sequence length; longest, to the longest sentence of the batch, rounded up; none, "
        "sentences packed. Tokens: of a sentence, on average. "
        "Of roofline: the shortest time that this machine's measured peaks allow (a large GEMM in that "
        "precision, a large copy), as a share of p50; without padding: the same for the tokens that were given alone. "
        "mJ/sample: from the GPU's own counter, idle power included. "
        "Agreement: share of predictions whose label is the fp32 reference's. "
        "Accuracy: over the labelled sentences (at most timing.accuracy_sentences, the same for every row that ran "
        "alone; of the others those of its blocks), Wilson's interval. Loss: against the fp32 reference on the same "
        "sentences; p: McNemar's exact test. "
        "Proof: D the device, W the type of the weights, K the arithmetic of the kernels were seen and agree with the "
        "label; - not recorded. Everything else that is known about a row: `summary.csv`."
    )


def notes_blocks(shown: Shown) -> Iterator[str]:
    """Yield what stands in the notes."""
    findings, context = shown.findings, shown.context
    yield f"# What this run shows{context.stand_in()}"
    yield f"Measured: {context.model()}."
    yield bullets(context.hardware_lines())
    yield (
        "A verdict (faster, slower, tie) needs the whole 95% interval of the ratio beyond or inside a margin"
        f"{margins(findings)}; the intervals hold together, for all comparisons of a device. Otherwise it is "
        "inconclusive, with the smallest difference that this run could have told."
    )
    yield ALONE
    yield "## Common assumptions, tested on this run"
    yield bullets(map(assumption, findings.assumptions))
    for panel in findings.panels:
        yield f"## {PANELS[panel.device]}"
        yield from _panel(panel) if panel.fastest else ["Nothing was measured."]
    yield from _load(shown)
    yield "## Not in the comparison"
    lines = [f"{line}." for each in findings.panels for line in words.left_out([*each.rejected, *each.not_timed])]
    yield bullets(lines) or "Every configured row was measured."


def assumption(found: Assumption) -> str:
    """Write an assumption with its result and the comparisons that decide it."""
    claim = f"“{found.claim}”"
    if found.result == "not tested":
        return f"{claim}: not tested here."
    more = len(found.deciding) - SHOWN_PAIRS
    shown = [*map(words.pair, found.deciding[:SHOWN_PAIRS]), *([f"and {more} more"] if more > 0 else [])]
    return f"{claim}: {found.result} here {_counted(found)}: {'; '.join(shown)}."


def _counted(found: Assumption) -> str:
    if found.tested == 1:
        return "by the one comparison"
    if found.result == "upheld":
        return f"in all {found.tested} comparisons, the weakest"
    return f"by {len(found.deciding)} of {found.tested} comparisons"


def _panel(panel: Panel) -> Iterator[str]:
    padded = [padding(way, pairs) for way, pairs in panel.paddings.items()]
    yield from _cut_short(panel)
    engines = (f"TensorRT against CUDA: {words.pair(each)}." for each in panel.tensorrt)
    yield bullets([*_fastest(panel), *padded, *engines])
    if panel.precisions:
        yield _precisions(panel.precisions)
    yield grid("variants", [{**dict(each), "one_off_seconds": each.setup_seconds} for each in panel.variants])
    lines = []
    if least := panel.least_energy:
        where = f"`{least.cell.variant}` at batch {least.cell.batch_size}"
        lines.append(f"Least energy a sample: {where}, {words.three_digits(least.mj_per_sample)} mJ.")
    if found := panel.noise:
        cores = f"{found.other_load_cores:.2f} cores busy, on average over a cell's passes"
        lines += [_control(found), f"Other processes kept at most {cores}."]
    yield bullets(lines)


def _cut_short(panel: Panel) -> Iterator[str]:
    """Yield why rows got fewer passes than timing.minutes allows, once a reason."""
    found = dict.fromkeys(each.value for each in panel.disturbances if each.kind == "cut short")
    yield from (f"The timing was {reason}: what is undecided might have been decided." for reason in found)


def _fastest(panel: Panel) -> Iterator[str]:
    for each in panel.fastest:
        cell, speedup = each.cell, each.speedup
        against = f", {words.ratio(speedup)} as fast as `{each.baseline}`" if speedup and each.baseline else ""
        tied = f"; no significant difference to {words.ties(each)}" if each.ties else ""
        lowest = f"`{cell.variant}` has the lowest p50, {words.milliseconds(cell.p50_ms)} ms"
        yield f"Batch {cell.batch_size}: {lowest}{against}{tied}."


def padding(way: str, found: list[Pair]) -> str:
    """Say at which batch sizes a way to pad less wins, and where it does not."""
    wins = [each.first_batch for each in found if each.verdict == "faster"]
    others = [f"{each.verdict} at batch {each.first_batch}" for each in found if each.verdict != "faster"]
    where = f"at batch {', '.join(map(str, wins))}" if wins else "nowhere"
    won = f"{where}; {', '.join(others)}" if others else "at every batch size"
    pairs = "; ".join(map(words.pair, found))
    return f"Rows {PADDED[way]} win {won}. The fastest against the fastest of fixed length: {pairs}."


def _precisions(found: list[PrecisionSpeedup]) -> str:
    sizes = sorted({size for each in found for size in each.by_batch})
    titles = ["runtime", "padding", "precision", *(f"speed-up over fp32, batch {size}" for size in sizes)]
    rows = []
    for each in found:
        at = {size: f"{words.ratio(one.value)} ({words.verdict(one)})" for size, one in each.by_batch.items()}
        rows.append([each.runtime, each.padding, each.precision, *(at.get(size, MISSING) for size in sizes)])
    return "\n".join(table_lines(titles, titles[:3], rows))


def _control(noise: Noise) -> str:
    if noise.control is None:
        return "A/A row: none was timed, so nothing shows how much two equal rows differ here."
    parts = [f"{words.comparison(found)}, at batch {size}" for size, found in noise.controls.items()]
    void = " Equal rows came out as different, so every verdict of this panel is inconclusive." * noise.is_voided
    return f"A/A row: `{noise.control}` against itself, in the same passes: {'; '.join(parts)}.{void}"


def _load(shown: Shown) -> Iterator[str]:
    tried = [panel.served for panel in shown.findings.panels if panel.served]
    if tried:
        yield "## Under load"
    for served in tried:
        lines = [*words.serve_with(served), words.deploy_with(served, shown.context.is_real)] if served.rows else []
        if served.no_op_per_s is not None:
            most = words.per_second(served.no_op_per_s)
            lines.append(f"Generator ceiling: the no-op backend sustains {most} requests/s.")
        yield bullets([*lines, *(f"{line}." for line in words.left_out(served.not_served))])
        if settings := [{**dict(each), "variant": row.variant} for row in served.searched for each in row.tried]:
            yield "Settings that were searched, a trial a rate:"
            yield grid("search", settings)
        yield bullets(line for line in map(words.searched, served.searched) if line not in lines)
