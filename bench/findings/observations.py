"""Which findings of a run matter most: the size of the effect times how sure it is."""

import math
from collections.abc import Iterable, Iterator
from operator import attrgetter

from bench.core.params import Device
from bench.findings.assumptions import by_batch, traits_of
from bench.findings.models import Claim, Kind, Observation, Served
from bench.summary.comparisons import fastest
from bench.summary.table_file import Rows, known

WITHOUT_INTERVAL = 0.5
"""How sure an effect counts of which only one value is known."""


def ranked(claims: Iterable[Claim], others: Iterable[Observation]) -> list[Observation]:
    """Return what a run shows, the weightiest first; a claim of which nothing is sure is none."""
    found = list(claims)
    weighed = ((each, _weight(each, found)) for each in found)
    sure = (
        Observation(kind=each.kind, device=each.device, weight=weight, claim=each) for each, weight in weighed if weight
    )
    return sorted([*sure, *others], key=attrgetter("weight"), reverse=True)


def _weight(found: Claim, claims: Iterable[Claim]) -> float:
    """Return what is sure of a claim's effect; for runtimes also what a lower precision surely gains beside them."""
    if found.kind != "runtime":
        return found.sure
    gains = (each.sure for each in claims if (each.kind, each.device) == ("precision", found.device))
    return max(found.sure, WITHOUT_INTERVAL * max(gains, default=0.0))


def host_bound(device: Device, rows: Rows) -> Iterator[Observation]:
    """Yield the GPU row that waits most for the host among the fastest of each batch size and the baseline."""
    profiled = [row for row in rows if known(row, "bound") == "host-bound"]
    best = {fastest(group).variant for group in by_batch(rows)}
    waiting = [row for row in profiled if row.variant in best | {known(row, "baseline")}]
    if waiting:
        traits = min((traits_of(row, row.variant) for row in waiting), key=lambda each: each.gpu_share or 1.0)
        weight = WITHOUT_INTERVAL * _effect(traits.gpu_share)
        yield Observation(kind="host", device=device, weight=weight, traits=traits)


def under_load(device: Device, served: Served | None) -> Iterator[Observation]:
    """Yield what requests from text, requests over HTTP and a search for settings cost or gain."""
    if served is None:
        return

    def of(kind: Kind, weight: float) -> Observation:
        return Observation(kind=kind, device=device, weight=weight)

    if served.from_text and served.from_text.requests_per_s:
        yield of("text", WITHOUT_INTERVAL * _effect(served.from_text.of_tokens))
    shares = [load.of_text for http in served.over_http for load in http.loads if load.of_text]
    if shares:
        yield of("http", WITHOUT_INTERVAL * _effect(min(shares)))
    gains = [each.gain.interval for each in served.searched if each.gain and each.gain.verdict == "faster"]
    if known_gains := [gain.low for gain in gains if gain]:
        yield of("settings", math.log(max(known_gains)))


def _effect(share: float | None) -> float:
    return abs(math.log(share)) if share else 0.0
