"""How figures and findings are written; a figure that is not known is a dash."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from bench.core.files import shortened
from bench.core.reports import rate_text
from bench.findings import models
from bench.summary.comparisons import Comparison
from bench.summary.table_file import is_missing

MISSING = "–"
PANELS = {"cuda": "GPU", "cpu": "CPU"}
"""What each device is called, in the order of the panels."""
Write = Callable[[Any], str]


def _or_missing(write: Write) -> Write:
    return lambda value: MISSING if is_missing(value) else write(value)


@_or_missing
def milliseconds(value: Any) -> str:
    """Write a latency with four significant digits, three decimals from 0.1 ms on: 0.0123, 0.456, 12.35, 345.7."""
    if 0 < value < 0.1:
        return f"{value:.{2 - math.floor(math.log10(value))}f}"
    decimals = max(0, 3 - math.floor(math.log10(value))) if value > 0 else 3
    return f"{value:.{min(decimals, 3)}f}"


per_second = _or_missing(rate_text)
"""Write a throughput in samples per second: 0.042, 38.2, 1205."""
ratio = _or_missing(lambda x: f"{x:.2g}×" if x < 0.1 else f"{x:.2f}×" if x < 100 else f"{x:,.0f}×")
"""Write a speed-up: 0.034×, 2.05×, 143×."""
percent = _or_missing(lambda share: "100%" if share == 1 else f"{min(share * 100, 99.9):.1f}%")
"""Write a share; 100% only where it is exact."""
seconds = _or_missing(lambda s: f"{s:.1f} s" if s >= 0.1 or s <= 0 else f"{s:.1g} s")
"""Write a duration in seconds: 0.03 s, 12.4 s."""
share = _or_missing(lambda share: f"{share:.0%}" if share >= 0.1 else f"{share:.1%}")
"""Write a share of a limit: 43%, 0.4%."""
three_digits = _or_missing(lambda value: f"{value:,.0f}" if value >= 100 else f"{value:.3g}")
"""Write an energy in mJ: 4.21, 38.2, 512, 48,600."""
mebibytes = _or_missing(lambda mib: f"{mib:.0f} MiB" if mib < 1024 else f"{mib / 1024:.1f} GiB")
"""Write a size of memory: 512 MiB, 3.2 GiB."""


def between(write: Write, low: Any, high: Any) -> str:
    """Write the limits of an interval: 0.451 – 0.462."""
    return MISSING if is_missing(low) or is_missing(high) else f"{write(low)} – {write(high)}"


def with_interval(write: Write, value: Any, low: Any, high: Any) -> str:
    """Write a figure with the limits of its interval where they are known: 0.456 (0.451 – 0.462)."""
    limits = between(write, low, high)
    return write(value) + ("" if limits == MISSING else f" ({limits})")


NEAREST = 3
"""How many of the cells that cannot be told apart from the best one are named, the nearest first."""
MORE = {"faster": "more", "slower": "fewer", "tie": "as many", "inconclusive": "inconclusive"}
"""What a verdict on two rates is called."""
REMARKS: dict[str, Callable[[Any], str]] = {
    "generator-bound": lambda rate: f"generator-bound: the no-op backend sustains {per_second(rate)}/s here",
    "saturates": lambda _: "saturates: overloaded at the next rate",
    "lower bound": lambda _: "lower bound: the SLO was met at every rate that was tried",
    "late captures": lambda shapes: f"{shapes:.0f} shapes captured while serving",
    "queue": lambda times: f"SingleStream takes {ratio(times)} the batch-1 row's p50",
    "cut short": str,
    "unstable": lambda how: f"unstable: {how}",
    "remark": str,
    "throttled": lambda reason: f"throttled ({reason})",
    "quota": lambda stopped: f"stopped by the CPU quota for {seconds(stopped)}",
    "gpu shared": lambda processes: f"beside {processes:.0f} other busy GPU process(es)",
    "cores busy": lambda cores: f"other processes kept {cores:.1f} cores busy",
    "unfinished": lambda how: f"accuracy or profile not finished: {how}",
    "clock unstable": lambda times: f"clock unstable ({ratio(times)})",
    "lengths": lambda times: f"its sentences have {times:.0%} of the data's mean length",
}
"""What remarks on rates and disturbances of cells are called, by kind."""

TRY = {
    "clock unstable": "a host of your own, a fixed CPU clock, or a longer `timing.minutes`",
    "cores busy": "end other programs, or wait for a quiet hour",
    "gpu shared": "end the other GPU processes, or choose a free GPU (`timing.gpu_index`)",
    "throttled": "better cooling, or a lower power limit",
    "quota": "a larger CPU quota, or a smaller `timing.cpu_threads`",
    "lengths": "more sentences, or a shorter `sequence_length`",
    "unfinished": "a lower `timing.accuracy_sentences`, or a higher `timing.accuracy_seconds`",
    "unstable": "a quiet machine, or a longer `timing.minutes`",
}
"""What to do about what disturbed most cells."""

READINGS = {
    "ids": "numbers of the model's id2label",
    "names": "names of the model's labels",
    "metadata": "numbers that the data itself names, as the model names its labels",
    "params": "dataset.labels in params.yaml says",
}
"""What the readings of a label column are called (`bench.sources.labels`)."""
LISTED = 6
QUOTED = 60


def listed(meanings: Mapping[str, str]) -> str:
    """Write what the first labels mean: 0 = bad, 1 = good."""
    shown = [f"{label} = {meaning}" for label, meaning in meanings.items()]
    return ", ".join(shown[:LISTED]) + (f" and {len(shown) - LISTED} more" if len(shown) > LISTED else "")


def example(found: Mapping[str, str]) -> str:
    """Write a sentence with its label: “a dull film” has 0, bad."""
    return f"“{shortened(' '.join(found['text'].split()), QUOTED)}” has {found['label']}, {found['meaning']}"


def comparison(found: Comparison, words: Any = None) -> str:
    """Write `1.23× (1.10× – 1.38×), faster`; `words`: what verdicts are called."""
    return f"{factor(found)}, {verdict(found, words)}"


def factor(found: Comparison) -> str:
    """Write `1.23× (1.10× – 1.38×)`."""
    limits = found.interval and between(ratio, found.interval.low, found.interval.high)
    return ratio(found.value) + (f" ({limits})" if limits else "")


def rows(found: models.Pair) -> str:
    """Name what is compared: two rows, or one at two batch sizes."""
    if found.first == found.second:
        return f"`{found.first}` from batch {found.second_batch} to {found.first_batch}"
    return f"`{found.first}` against `{found.second}`"


def verdict(found: Comparison, words: Any = None) -> str:
    """Return the verdict, with why it is inconclusive, or that the two were timed in different sessions."""
    apart = ", different sessions" if found.is_apart and not found.reason else ""
    noise = " within the noise floor" if found.is_within_noise else ""
    reason = found.reason or (untold(found.smallest) if found.verdict == "inconclusive" else "")
    return f"{(words or {}).get(found.verdict, found.verdict)}{noise}{apart}{f': {reason}' if reason else ''}"


def untold(smallest: Any) -> str:
    """Say which differences a run could not have told; empty where that is not known."""
    return "" if is_missing(smallest) else f"differences below {ratio(smallest)} cannot be told"


def nearest(cells: Sequence[models.Cell]) -> str:
    """Name the nearest of some cells with their p50, and count the others: `a` (0.210 ms) and 4 more."""
    named = ", ".join(f"`{cell.variant}` ({milliseconds(cell.p50_ms)} ms)" for cell in cells[:NEAREST])
    return named + (f" and {len(cells) - NEAREST} more" if len(cells) > NEAREST else "")


def significance(found: models.Fastest) -> str:
    """Say whether the fastest cell is significantly faster than each other one, or than which ones it is not."""
    if not found.ties:
        return "the only row" if found.is_only else "yes, against every other row"
    least = untold(found.smallest)
    return f"not significantly faster than {nearest(found.ties)}{f': {least}' if least else ''}"


def no_pick(pick: models.Pick) -> str:
    """Say why no cell is picked for a budget."""
    unknown = ", ".join(dict.fromkeys(f"`{cell.variant}`" for cell in pick.unknown))
    return f"unknown: p95 or memory of {unknown} was not measured" if unknown else "no row stays within it"


def doubts(pick: models.Pick) -> str:
    """Say whether another choice could be as good, and whether p95 surely stays within the budget."""
    found = []
    if pick.ties:
        more = len(pick.ties) - NEAREST
        found.append(f"tied with the rows below{f' and {more} more' if more > 0 else ''}")
    if pick.p95_high_ms is None:
        found.append("p95 from few runs")
    elif pick.p95_high_ms > pick.budget_ms:
        found.append(f"p95 may be {milliseconds(pick.p95_high_ms)} ms")
    if pick.unknown:
        at = ", ".join(f"`{cell.variant}` at batch {cell.batch_size}" for cell in pick.unknown)
        found.append(f"p95 or memory of {at} was not measured")
    return "; ".join(found)


def left_out(found: Iterable[models.LeftOut]) -> Iterator[str]:
    """Yield a line for each status and reason, with the variants that it concerns."""
    for each in found:
        at = {name: f" at batch {', '.join(map(str, sizes))}" if sizes else "" for name, sizes in each.variants.items()}
        named = ", ".join(f"`{name}`{sizes}" for name, sizes in at.items())
        status = "misses the SLO" if each.status == "over_budget" else each.status.replace("_", " ")
        yield f"{status}{f' ({each.reason})' if each.reason else ''}: {named}"


def remark(found: models.Remark | models.Disturbance) -> str:
    """Say what a reader must know of a row's rate, or what disturbed a cell."""
    return REMARKS[found.kind](found.value)


def warnings(panel: models.Panel) -> Iterator[str]:
    """Yield what disturbed most of a device's cells, once, with what to try."""
    for each in panel.widespread:
        if each.kind == "cut short":
            yield f"The timing was {each.most}: what is undecided might have been decided."
        else:
            at_worst, tip = REMARKS[each.kind](each.most), TRY.get(each.kind, "run it again")
            yield f"Warning, {each.cells} of {each.of} cells: {at_worst} at worst. Try: {tip}."


def terms(served: models.Served) -> str:
    """Say within which budget, and in which batches, rows were served."""
    delay = f" that wait up to {served.max_delay_ms:g} ms for more" if served.max_delay_ms else ""
    flight = f", {served.in_flight} in flight" if served.in_flight > 1 else ""
    sessions = f", {served.instances} sessions side by side" if served.instances > 1 else ""
    batches = f"batches of at most {served.max_batch} requests{delay}{flight}{sessions}"
    return f"p99 within {served.budget_ms:g} ms, {batches}"


def most_requests(rates: Sequence[tuple[str, float]], ties: Iterable[str], budget_ms: float) -> str:
    """Say which row to serve with, and which may be as good; `rates`: rows and requests/s, most first."""
    if not rates:
        return f"No row sustains a rate within {budget_ms:g} ms."
    known = dict(rates)
    named = ", ".join(f"`{name}` ({per_second(known[name])}/s)" for name in ties)
    end = f"; not significantly fewer: {named}." if named else ", significantly more than any other row."
    return f"Most requests: `{rates[0][0]}`, {per_second(rates[0][1])}/s{end}"


def serve_with(served: models.Served) -> Iterator[str]:
    """Yield which row to serve with, what better settings would give, and what it sustains from text, over HTTP."""
    rates = [(row.variant, row.requests_per_s) for row in served.rows]
    ties = [row.variant for row in served.rows if row.vs_best and row.vs_best.verdict != "slower"]
    yield most_requests(rates, ties, served.budget_ms)
    yield from (searched(each) for each in served.searched if _is_faster(each))
    yield from with_text(served)


def with_text(served: models.Served) -> Iterator[str]:
    """Yield what is sustained where requests bring text, in the measuring process and over HTTP."""
    if served.from_text:
        yield from_text(served.from_text)
    for each in served.over_http:
        yield from over_http(each)


def _is_faster(found: models.Searched) -> bool:
    return found.gain is not None and found.gain.verdict == "faster"


def searched(found: models.Searched) -> str:
    """Say what a search for better settings of a row gave, and why it ended early."""
    ended = f" ({found.ended})" if found.ended else ""
    if found.ended and not found.tried:
        return f"`{found.variant}`: {found.ended}."
    if found.settings is None:
        return f"`{found.variant}`: no better settings found{ended}."
    with_them = f"`{found.variant}` with {found.settings}"
    if found.requests_per_s is None:
        return f"{with_them}: no rate{f' ({found.reason})' if found.reason else ''}{ended}."
    gain = comparison(found.gain, MORE) if found.gain else "inconclusive: too few trials"
    return f"{with_them}: {per_second(found.requests_per_s)}/s, {gain}{ended}."


def deploy_with(served: models.Served, is_real: bool) -> str:
    """Say how the row with the most requests, by its own settings or better ones, is taken home."""
    searched = ((each.requests_per_s or 0.0, each.variant) for each in served.searched if _is_faster(each))
    _, best = max([*((row.requests_per_s, row.variant) for row in served.rows), *searched])
    command = f"python run.py deploy FOLDER --row {best}{'' if is_real else ' --stand-in'}"
    return f"`{command}` writes a folder that serves it over HTTP."


def from_text(found: models.FromText) -> str:
    """Say what the best row sustains where requests bring text, and whether the tokenizer is the bottleneck."""
    if found.requests_per_s is None:
        return f"From text `{found.variant}` was not served: {found.reason or 'no rate met the SLO'}."
    rate, of_tokens = per_second(found.requests_per_s), share(found.of_tokens or 0.0)
    least = "at least " if found.is_lower_bound else ""
    line = f"From text `{found.variant}` sustains {least}{rate}/s, {of_tokens} of its rate from tokens."
    if found.tokenizer_per_s is None:
        return line
    if found.shares:
        first, last = map(share, found.shares)
        line = f"{line} Tokenizing takes {first} of a call in the smallest batch, {last} in the largest."
    threads = f"{found.threads} thread{'s' * (found.threads > 1)}"
    makes = f"{per_second(found.tokenizer_per_s)} texts/s on {threads}"
    if found.is_bottleneck:
        return f"{line} The tokenizer is the bottleneck, {makes}; from {found.tokenizer_cores} cores on it is not."
    return f"{line} The tokenizer by itself is no bottleneck: {makes}."


def over_http(found: models.OverHttp) -> Iterator[str]:
    """Yield what a deployed row sustains over HTTP beside the same in the measuring process, and where it goes."""
    known = {"from text": found.text_per_s, "from tokens": found.tokens_per_s}
    beside = ", ".join(f"{per_second(rate)}/s {name}" for name, rate in known.items() if rate)
    yield from (_at_load(found.variant, load, beside) for load in found.loads)
    if found.labelled:
        yield f"Right over HTTP: {found.right} of {found.labelled} labels; the fp32 reference: {found.reference_right}."


def _at_load(variant: str, load: models.OverHttpLoad, beside: str) -> str:
    what = f"Over HTTP, {load.texts} text{'s' * (load.texts > 1)} a request, `{variant}` sustains"
    if load.requests_per_s is None:
        return f"{what} no rate: {load.reason}."
    texts = f" ({per_second(load.texts * load.requests_per_s)} texts/s)" if load.texts > 1 else ""
    of_text = f", {share(load.of_text)} of its rate from text" if load.of_text else ""
    line = f"{what} {per_second(load.requests_per_s)}/s{texts}{of_text}; in the measuring process {beside}."
    if load.busy_share is not None:
        cores = f"the server takes {load.server_cores:.1f} cores, load generator and client {load.client_cores:.1f}"
        line = f"{line} Sessions are busy {share(load.busy_share)} of the time; {cores}."
    if load.control_per_s is None:
        return line
    bound = " Above 80% of it the client may be the limit: client-bound." if load.is_client_bound else ""
    return f"{line} A server that computes nothing sustains {per_second(load.control_per_s)}/s.{bound}"
