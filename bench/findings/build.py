"""Compute what a run shows from its tables, once for all reports: results/findings.json."""

import math
from collections.abc import Iterable, Iterator
from operator import attrgetter
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from bench.core.errors import DataError
from bench.core.files import damaged, write_json
from bench.core.params import Device, ReportSettings
from bench.core.paths import FINDINGS
from bench.findings import timed
from bench.findings.assumptions import by_batch, claims, traits_of
from bench.findings.models import Claim, Findings, Kind, Observation, Panel, Served
from bench.findings.served import served
from bench.summary.comparisons import fastest
from bench.summary.serving import Tables
from bench.summary.table_file import Rows, is_missing, known

WITHOUT_INTERVAL = 0.5
"""How sure an effect counts of which only one value is known."""


def findings_of(tables: Tables, settings: ReportSettings) -> Findings:
    """Return what a run shows; its rows carry their levels (`bench.summary.comparisons`)."""
    summary = list(tables.summary.itertuples())
    serving = list(tables.serving.itertuples())
    panels, claimed, seen = [], [], []
    for device in reversed(get_args(Device)):
        rows, tried = ([row for row in every if row.device == device] for every in (summary, serving))
        if not rows:
            continue
        measured = [row for row in rows if row.status == "measured"]
        panels.append(_panel(device, rows, tried, settings, tables))
        claimed += list(claims(device, measured, tried))
        seen += [*_host_bound(device, measured), *_under_load(device, panels[-1].served)]
    return Findings(
        observations=_ranked(claimed, seen),
        undecided=[claim for claim in claimed if claim.undecided],
        panels=panels,
    )


def _panel(device: Device, rows: Rows, tried: Rows, settings: ReportSettings, tables: Tables) -> Panel:
    found = [row for row in rows if row.status == "measured"]
    with_times = [row for row in rows if not is_missing(row.p50_ms)]
    margins = [float(row.margin) for row in found]
    disturbed = list(timed.disturbances(with_times))
    return Panel(
        device=device,
        margin=(min(margins), max(margins)) if margins else None,
        fastest=list(timed.fastest_cells(found)),
        picks=list(timed.picks(found, settings)),
        precisions=list(timed.precision_speedups(found)),
        noise=timed.noise(found),
        disturbances=disturbed,
        widespread=list(timed.widespread(disturbed, len(with_times))),
        rejected=list(timed.left_out([row for row in with_times if row.status == "rejected"], rows)),
        not_timed=list(timed.left_out([row for row in rows if is_missing(row.p50_ms)], rows)),
        served=served(tried, rows, tables.curves, settings.price_per_hour.get(device), tables.over_http),
    )


def _ranked(claims: Iterable[Claim], others: Iterable[Observation]) -> list[Observation]:
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


def _host_bound(device: Device, rows: Rows) -> Iterator[Observation]:
    """Yield the GPU row that waits most for the host among the fastest of each batch size and the baseline."""
    profiled = [row for row in rows if known(row, "bound") == "host-bound"]
    best = {fastest(group).variant for group in by_batch(rows)}
    waiting = [row for row in profiled if row.variant in best | {known(row, "baseline")}]
    if waiting:
        traits = min((traits_of(row, row.variant) for row in waiting), key=lambda each: each.gpu_share or 1.0)
        weight = WITHOUT_INTERVAL * _effect(traits.gpu_share)
        yield Observation(kind="host", device=device, weight=weight, traits=traits)


def _under_load(device: Device, served: Served | None) -> Iterator[Observation]:
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


def write_findings(findings: Findings, path: Path = FINDINGS) -> None:
    """Write results/findings.json."""
    write_json(path, findings.model_dump(mode="json"))


def read_findings(path: Path = FINDINGS, mend: str = "`dvc repro -f summarize` writes it anew") -> Findings:
    """Read results/findings.json; DataError if it is missing, damaged or of another schema."""
    try:
        return Findings.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path.as_posix()} is missing: {mend}") from None
    except ValidationError as problem:
        fault = problem.errors()[0]
        raise damaged(path, f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}", mend) from None
