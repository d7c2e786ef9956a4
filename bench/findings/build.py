"""Compute what a run shows from its tables, once for all reports: results/findings.json."""

from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from bench.core.errors import DataError
from bench.core.files import damaged, write_json
from bench.core.params import Device, ReportSettings
from bench.core.paths import FINDINGS
from bench.findings import timed
from bench.findings.assumptions import claims
from bench.findings.models import Findings, Panel
from bench.findings.observations import host_bound, ranked, under_load
from bench.findings.served import served
from bench.summary.serving import Tables
from bench.summary.table_file import Rows, is_missing


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
        seen += [*host_bound(device, measured), *under_load(device, panels[-1].served)]
    return Findings(
        observations=ranked(claimed, seen),
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
