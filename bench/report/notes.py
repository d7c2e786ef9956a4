"""notes/engineering_observations.md: the ten findings of a run that matter most, then what stayed undecided."""

import math
from collections.abc import Callable, Iterator
from itertools import islice

from bench.findings.models import Claim, Fastest, Findings, Kind, Noise, Observation, Pair, Panel, Served, Traits
from bench.report import words
from bench.report.document import bullets, table_lines
from bench.report.shown import Shown
from bench.report.words import MISSING, PANELS, milliseconds, ratio, share

MOST = 10
"""Findings that are shown."""
UNDECIDED, LEFT_OUT = 7, 7
"""Lines of what stayed undecided, and of rejected rows."""
EXPECTED = ("skipped", "off")
"""Of rows that were not to be measured here: the table names them."""
ALIKE = 0.1
"""Up to this difference, as a share, two figures explain nothing."""
HALF = 0.5
"""A row whose GPU is busy for less of a call waits for the host."""
ADVICE: dict[Kind, tuple[str, str]] = {
    "padding": ("pad no further than the batch needs", "keep fixed shapes where padding less does not pay"),
    "runtime": ("change the runtime first: it costs no accuracy", "choose by precision and padding, not by runtime"),
    "tensorrt": ("build engines for what is served long enough", "stay with the other row: it needs no engine"),
    "options": ("keep the option on", "leave the option off where it does not pay"),
    "batch": ("let batches fill while p99 allows it", "cap `serving.max_batch` below the size that loses"),
    "served": ("samples/s may choose the row", "choose the row by requests/s under load, not by samples/s"),
}
"""What to do if the change pays, and if not."""


def notes_blocks(shown: Shown) -> Iterator[str]:
    """Yield what stands in the notes."""
    findings, context = shown.findings, shown.context
    yield f"# What this run shows{context.stand_in()}"
    yield bullets(filter(None, (f"Measured: {context.model()}", context.length_warning())))
    yield bullets(line for panel in findings.panels for line in _panel(panel, shown))
    yield "## Findings, by size of the effect and how sure it is"
    told = (observation(each, findings) for each in findings.observations[:MOST])
    numbered = [f"{number}. {what}\n   {rest}" for number, (what, rest) in enumerate(told, 1)]
    yield "\n".join(numbered) or "Nothing was measured with a sure effect."
    if lines := list(_undecided(findings)):
        yield "## Undecided"
        names = ("question", "undecided", "rows", "ratio", "95% interval", "smallest difference told", "reason")
        more = len(lines) - UNDECIDED
        yield "\n".join(table_lines(names, (names[0], names[2], names[-1]), lines[:UNDECIDED]))
        yield f"And {more} more: `results/findings.json`." if more > 0 else ""
    failed = [each for panel in findings.panels for each in (*panel.rejected, *panel.not_timed)]
    failed.sort(key=lambda each: each.status != "rejected")
    yield bullets(islice(words.left_out(each for each in failed if each.status not in EXPECTED), LEFT_OUT))


def _panel(panel: Panel, shown: Shown) -> Iterator[str]:
    """Yield a device's answer and how far its figures can be trusted."""
    if not panel.fastest:
        return
    yield f"{PANELS[panel.device]}: {shown.context.device(panel.device)}"
    yield f"Fastest: {'; '.join(map(_lowest, panel.fastest))}."
    served = panel.served
    if served and served.rows:
        yield f"{next(words.serve_with(served))} {words.deploy_with(served, shown.context.is_real)}"
    yield _control(panel.noise) if panel.noise else ""
    yield from words.warnings(panel)


def _lowest(found: Fastest) -> str:
    times = f", {ratio(found.speedup)}" if found.speedup and found.baseline else ""
    return f"batch {found.cell.batch_size} `{found.cell.variant}` ({milliseconds(found.cell.p50_ms)} ms{times})"


def _control(noise: Noise) -> str:
    if noise.control is None:
        return "A/A row: none was timed, so how much two equal rows differ here is unknown."
    size, worst = max(noise.controls.items(), key=lambda each: abs(math.log(each[1].value)))
    void = " Equal rows came out as different: every verdict is inconclusive." * noise.is_voided
    return f"A/A row: `{noise.control}` against itself, {words.factor(worst)} at worst, at batch {size}.{void}"


def observation(found: Observation, findings: Findings) -> tuple[str, str]:
    """Return what a finding is and how much, then why and what to do."""
    if found.claim:
        return claim(found.claim), f"Why: {why(found.claim)}. Do: {advice(found.claim, findings)}."
    if found.traits:
        return host(found.traits)
    [served] = [panel.served for panel in findings.panels if panel.device == found.device and panel.served]
    return WRITERS[found.kind](served)


def claim(found: Claim) -> str:
    """Say whether an assumption holds, in how many comparisons, and by how much in those that matter."""
    undecided = f", {found.undecided} inconclusive" if found.undecided else ""
    counted = f"{found.faster} of {found.tested} comparisons{undecided}"
    so_far = "holds so far" if found.faster else "is open"
    says = {"refuted": "is refuted", "upheld": "holds"}.get(found.result, so_far)
    result = f"{says} on the {PANELS[found.device]}, faster in {counted}"
    first, *others = map(words.rows, found.shown)
    names = [first, *(name if name != first else "" for name in others)]
    pairs = (f"{name} {_figure(each)}".strip() for name, each in zip(names, found.shown, strict=True))
    return f"“{found.claim}” {result}: {', '.join(pairs)}."


def _figure(found: Pair) -> str:
    batch = "" if found.first_batch is None or found.first == found.second else f" at batch {found.first_batch}"
    is_open = found.verdict in ("tie", "inconclusive")
    return f"{words.factor(found.comparison)}{batch}{f' ({found.verdict})' if is_open else ''}"


def why(found: Claim) -> str:
    """Say what work, roofline and profile show of the two rows, at each batch size that is shown."""
    parts = []
    for pair, (first, second) in zip(found.shown, found.traits, strict=True):
        causes = [*_waits(first, second, pair), *_work(found, first, second), *_reached(found, first, second)]
        if causes:
            parts.append(f"batch {pair.first_batch}: {', '.join(causes)}")
    return "; ".join(parts) or "unknown, neither row was profiled and their work is the same"


def _waits(first: Traits, second: Traits, pair: Pair) -> Iterator[str]:
    """Yield which row waits for the host, and how many kernels are launched."""
    slower = second if pair.comparison.value > 1 else first
    if slower.gpu_share is not None and slower.gpu_share < HALF:
        yield f"`{slower.variant}` waits for the host, its GPU busy {share(slower.gpu_share)} of a call"
    if first.kernels and second.kernels and first.kernels != second.kernels:
        yield f"{first.kernels} kernel launches, not {second.kernels}"


def _work(found: Claim, first: Traits, second: Traits) -> Iterator[str]:
    """Yield what is computed, and what the machine's peaks allow for it."""
    if first.tokens and second.tokens and abs(first.tokens / second.tokens - 1) > ALIKE:
        yield f"{first.tokens:.1f} tokens a sentence computed, not {second.tokens:.1f}"
    elif found.kind == "precision" and first.limit_ms and second.limit_ms:
        bound = "weight traffic" if first.limited_by == "memory" else "GEMM throughput"
        yield f"the measured peaks allow {ratio(second.limit_ms / first.limit_ms)}, {bound} is the limit"


def _reached(found: Claim, first: Traits, second: Traits) -> Iterator[str]:
    """Yield how much of its roofline each row reaches, and what the operators' time goes into."""
    if first.limit_share and second.limit_share and abs(first.limit_share / second.limit_share - 1) > ALIKE:
        yield f"{share(first.limit_share)} of its roofline reached, not {share(second.limit_share)}"
    elif first.limit_share and found.kind == "runtime":
        most = ratio(1 / max(first.limit_share, second.limit_share or 0.0))
        yield f"both are at {share(first.limit_share)} of the roofline, which leaves at most {most}"
    if first.gemm_share is not None and found.kind == "precision":
        rest = share(1 - first.gemm_share)
        yield f"GEMMs take {share(first.gemm_share)} of its time, {rest} goes into operators that gain nothing from it"


def advice(found: Claim, findings: Findings) -> str:
    """Say what to do about a claim that holds, or that does not."""
    gains = (
        pair.comparison.value
        for each in findings.observations
        if each.claim and found.kind == "runtime" and (each.kind, each.device) == ("precision", found.device)
        for pair in each.claim.shown
    )
    gain = max(gains, default=0.0)
    pays = found.result != "refuted" and found.faster > 0 and max(pair.comparison.value for pair in found.shown) > gain
    first, (new, old) = found.traits[-1][0], found.change
    if found.kind != "precision":
        text = ADVICE[found.kind][not pays]
    else:
        text = f"serve in {new}; {_accuracy(first, findings)}" if pays else f"keep {old} where {new} gains nothing"
    if gain:
        text += f"; within one runtime a lower precision gains up to {ratio(gain)}"
    if pays and first.pays_after:
        text += f"; its set-up cost is repaid after {first.pays_after:,} calls"
    return text


def _accuracy(first: Traits, findings: Findings) -> str:
    if first.accuracy_loss is None:
        shown = (row for each in findings.observations if each.claim for pair in each.claim.traits for row in pair)
        if any(row.accuracy_loss is not None for row in shown):
            return "check its accuracy first: it was taken of the baseline and of possible best rows only"
        return "check its accuracy on labelled sentences (`dataset.path`) first"
    return f"it loses {first.accuracy_loss:.2%} accuracy (p = {first.accuracy_loss_p:.2g})"


def host(found: Traits) -> tuple[str, str]:
    """Say how long a GPU waits for the host, and what to do about it."""
    what = f"The host limits `{found.variant}`: its GPU is busy {share(found.gpu_share or 0.0)} of a call."
    kernels = f"{found.kernels} kernels, each launched by the host" if found.kernels else "its kernels are short"
    do = "capture a CUDA graph, compile, or batch"
    return what, f"Why: {kernels}; a lower precision shortens only the busy part. Do: {do}."


def _text(served: Served) -> tuple[str, str]:
    found = served.from_text
    assert found is not None
    what, _, rest = words.from_text(found).partition(". ")
    do = "give the tokenizer more cores" if found.is_bottleneck else "send text: no client needs a tokenizer"
    return f"{what.rstrip('.')}.", f"Why: {rest or 'the tokenizer was not timed.'} Do: {do}."


def _http(served: Served) -> tuple[str, str]:
    lines = [line.partition(". ") for each in served.over_http for line in words.over_http(each)]
    why = next((rest for _, _, rest in lines if rest), "how busy sessions were is unknown.")
    do = "send several texts a request, or deploy more processes where sessions idle"
    return " ".join(f"{what.rstrip('.')}." for what, _, _ in lines), f"Why: {why} Do: {do}."


def _settings(served: Served) -> tuple[str, str]:
    found = max((each for each in served.searched if each.gain), key=lambda each: each.gain.value if each.gain else 0.0)
    batching = f"the run's own are {words.terms(served).partition(', ')[2]}"
    return words.searched(found), f"Why: {batching}. Do: deploy writes these settings into the folder."


WRITERS: dict[Kind, Callable[[Served], tuple[str, str]]] = {"text": _text, "http": _http, "settings": _settings}
"""What writes a finding under load."""


def _undecided(findings: Findings) -> Iterator[list[str]]:
    """Yield a line for each question that the run leaves open, with the smallest difference that it could have told."""
    for panel in findings.panels:
        for each in (each for each in panel.fastest if each.ties):
            asked = f"fastest at batch {each.cell.batch_size} ({PANELS[panel.device]})"
            rows = f"`{each.cell.variant}` against {words.nearest(each.ties)}"
            yield [asked, str(len(each.ties)), rows, MISSING, MISSING, ratio(each.smallest), MISSING]
    for found in findings.undecided:
        if found.widest:
            seen = found.widest.comparison
            limits = seen.interval and words.between(ratio, seen.interval.low, seen.interval.high)
            is_two = found.widest.first_batch and found.widest.first != found.widest.second
            rows = f"{words.rows(found.widest)}{f', batch {found.widest.first_batch}' if is_two else ''}"
            figures = [ratio(seen.value), limits or MISSING, ratio(seen.smallest), seen.reason or MISSING]
            counted = f"{found.undecided} of {found.tested}"
            yield [f"{found.claim} ({PANELS[found.device]})", counted, rows, *figures]
