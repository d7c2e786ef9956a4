"""notes/engineering_observations.md: what a run shows, in sentences and tables that its findings decide."""

from __future__ import annotations

from collections.abc import Iterator

from bench.findings.models import Assumption, Energy, Noise, Pair, Panel, PrecisionSpeedup, TensorRT
from bench.report.columns import grid
from bench.report.document import Block, Bullets, Code, Grid, Heading, Paragraph, Text, joined, text
from bench.report.figures import MISSING, milliseconds, per_second, percent, ratio, three_digits
from bench.report.sentences import comparison, left_out, nearest, pair, verdict
from bench.report.shown import Shown
from bench.report.table import PANELS, margins

SHOWN_PAIRS = 4
PADDED = {"longest": "padded to the longest sentence of the batch", "none": "without padding"}


def notes_blocks(shown: Shown) -> Iterator[Block]:
    """Yield what stands in the notes."""
    findings, context = shown.findings, shown.context
    yield Heading(1, f"What this run shows{context.stand_in()}")
    yield Paragraph(f"Measured: {context.model()}.")
    yield Bullets(context.hardware_lines())
    yield Paragraph(
        "A verdict (faster, slower, tie) needs the whole 95% interval of the ratio beyond or inside a margin"
        f"{margins(findings)}; the interval holds for all pairs of rows together. Otherwise it is inconclusive: "
        "this run cannot say."
    )
    yield Heading(2, "Common assumptions, tested on this run")
    yield Bullets([assumption(each) for each in findings.assumptions])
    for panel in findings.panels:
        yield Heading(2, PANELS[panel.device])
        yield from _panel(panel) if panel.fastest else [Paragraph("Nothing was measured.")]
    yield from _load(shown)
    yield Heading(2, "Not in the comparison")
    lines = [text("{}.", line) for each in findings.panels for line in left_out([*each.rejected, *each.not_timed])]
    yield Bullets(lines) if lines else Paragraph("Every configured row was measured.")


def assumption(found: Assumption) -> Text:
    """Write an assumption with its result and the comparisons that decide it."""
    claim = f"“{found.claim}”"
    if found.result == "not tested":
        return f"{claim}: not tested here."
    if found.factors:
        parts = (
            f"{each.device} batch {each.batch_size} {ratio(each.precision.value)} against {ratio(each.runtime.value)}"
            for each in found.factors
        )
        of = "largest factor between precisions against between runtimes"
        return f"{claim}: {found.result} here; {of}: {', '.join(parts)}."
    more = len(found.deciding) - SHOWN_PAIRS
    shown = [*map(pair, found.deciding[:SHOWN_PAIRS]), *([f"and {more} more"] if more > 0 else [])]
    return text("{}: {} here {}: {}.", claim, found.result, _counted(found), joined(shown, "; "))


def _counted(found: Assumption) -> str:
    if found.tested == 1:
        return "by the one comparison"
    if found.result == "upheld":
        return f"in all {found.tested} comparisons{', the weakest' if len(found.deciding) == 1 else ''}"
    return f"by {len(found.deciding)} of {found.tested} comparisons"


def _panel(panel: Panel) -> Iterator[Block]:
    padded = [padding(way, pairs) for way, pairs in panel.paddings.items()]
    yield Bullets([*_fastest(panel), *padded, *map(_tensorrt, panel.tensorrt)])
    if panel.precisions:
        yield _precisions(panel.precisions)
    yield grid("variants", [{**dict(each), "one_off_seconds": each.setup_seconds} for each in panel.variants])
    if panel.noise:
        yield Bullets([*([_energy(panel.least_energy)] if panel.least_energy else []), *_noise(panel.noise)])


def _fastest(panel: Panel) -> Iterator[Text]:
    for each in panel.fastest:
        cell, speedup = each.cell, each.speedup
        against = text(", {} as fast as {}", ratio(speedup), Code(each.baseline)) if speedup and each.baseline else ""
        ties = text("; no significant difference to {}", nearest(each.ties)) if each.ties else ""
        lowest = text("{} has the lowest p50, {} ms", Code(cell.variant), milliseconds(cell.p50_ms))
        yield text("Batch {}: {}{}{}.", cell.batch_size, lowest, against, ties)


def padding(way: str, found: list[Pair]) -> Text:
    """Say at which batch sizes a way to pad less wins, and where it does not."""
    wins = [each.first_batch for each in found if each.verdict == "faster"]
    others = [f"{each.verdict} at batch {each.first_batch}" for each in found if each.verdict != "faster"]
    where = f"at batch {', '.join(map(str, wins))}" if wins else "nowhere"
    won = f"{where}; {', '.join(others)}" if others else "at every batch size"
    pairs = joined(map(pair, found), "; ")
    return text("Rows {} win {}. The fastest against the fastest of fixed length: {}.", PADDED[way], won, pairs)


def _precisions(found: list[PrecisionSpeedup]) -> Grid:
    sizes = sorted({size for each in found for size in each.by_batch})
    titles = ["runtime", "padding", "precision", *(f"speed-up over fp32, batch {size}" for size in sizes)]
    rows = []
    for each in found:
        at = {size: f"{ratio(one.value)} ({verdict(one)})" for size, one in each.by_batch.items()}
        rows.append([each.runtime, each.padding, each.precision, *(at.get(size, MISSING) for size in sizes)])
    return Grid(titles, frozenset((0, 1, 2)), rows)


def _tensorrt(found: TensorRT) -> Text:
    line = text("TensorRT against CUDA: {}.", pair(found.pair))
    if not found.first_parts or not found.second_parts:
        return line
    calls = [
        f"{each.kernels} kernels, {milliseconds(each.gpu_ms)} ms on the GPU and {milliseconds(each.host_ms)} ms on host"
        for each in (found.first_parts, found.second_parts)
    ]
    decides = {
        None: "",
        "both": " Neither part alone would turn it.",
        "gpu": " With the other's time on the GPU the slower one would not be slower.",
        "host": " With the other's time on the host the slower one would not be slower.",
    }
    return text("{} {}.{}", line, " against ".join(calls), decides[found.decides])


def _energy(least: Energy) -> Text:
    idle = ""
    if least.beyond_idle_mj is not None and least.idle_w is not None:
        idle = f" ({three_digits(least.beyond_idle_mj)} mJ of it beyond the idle power of {least.idle_w:.0f} W)"
    cell, energy = least.cell, three_digits(least.mj_per_sample)
    return text("Least energy a sample: {} at batch {}, {} mJ{}.", Code(cell.variant), cell.batch_size, energy, idle)


def _noise(noise: Noise) -> Iterator[Text]:
    yield _control(noise)
    if noise.spread and noise.widest:
        yield text(
            "Between the processes of a cell, the slowest median is {} above the fastest (median over cells); "
            "at most {}, at {} batch {}.",
            percent(noise.spread[0]),
            percent(noise.spread[1]),
            Code(noise.widest.variant),
            noise.widest.batch_size,
        )
    else:
        yield "Each row was timed in one process, so nothing shows how much another process would differ."
    if noise.loop:
        middle, most = map(ratio, noise.loop)
        yield (
            "The calibration loop on the CPU, timed before and after each cell in each process: its slowest time of a "
            f"cell is {middle} its fastest (median over cells), at most {most}."
        )
    yield f"Other processes kept at most {noise.other_load_cores:.2f} cores busy while a variant was timed."


def _control(noise: Noise) -> Text:
    if noise.control is None:
        return "A/A row: the baseline was not timed twice, so nothing shows how much two equal rows differ here."
    parts = [f"{comparison(found)}, at batch {size}" for size, found in noise.controls.items()]
    line = text("A/A row: {} against itself, timed in the same rounds: {}.", Code(noise.control), "; ".join(parts))
    void = " Equal rows came out as different, so every verdict of this panel is inconclusive."
    return text("{}{}", line, void if noise.is_voided else "")


def _load(shown: Shown) -> Iterator[Block]:
    tried = [panel.served for panel in shown.findings.panels if panel.served]
    if tried:
        yield Heading(2, "Under load")
    for served in tried:
        lines = [text("{}.", line) for line in left_out(served.not_served)]
        if served.rows:
            yield grid("load", shown.served(served))
        if served.no_op_per_s is not None:
            rate = f"the no-op backend sustains {per_second(served.no_op_per_s)} requests/s here or more"
            takes = "its p99 at a row's rate is what generator and queue take of the row's"
            lines = [f"Generator ceiling: {rate}; {takes}.", *lines]
        yield Bullets(lines)
