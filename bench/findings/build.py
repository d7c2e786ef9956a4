"""Compute what a run shows from its tables, once for all reports: results/findings.json."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from bench.core.errors import DataError
from bench.core.files import damaged, write_json
from bench.core.params import Device, ReportSettings
from bench.core.paths import FINDINGS
from bench.findings.assumptions import assumptions
from bench.findings.left_out import left_out, rejected
from bench.findings.models import Findings, Panel, Served
from bench.findings.noise import disturbances, noise
from bench.findings.picks import fastest_cells, picks
from bench.findings.served import served
from bench.findings.variants import by_variant, energies, padded_shares, paddings, precision_speedups, tensorrt
from bench.summary.budgets import Tables
from bench.summary.table_file import Rows, is_missing


def findings_of(tables: Tables, settings: ReportSettings) -> Findings:
    """Return what a run shows; its rows carry their levels (`bench.summary.panels`)."""
    summary = list(tables.summary.itertuples())
    serving = list(tables.serving.itertuples())
    return Findings(
        assumptions=list(assumptions(measured(summary), serving)),
        panels=[
            _panel(device, rows, settings, _under_load(device, rows, serving, tables, settings))
            for device in reversed(get_args(Device))
            if (rows := [row for row in summary if row.device == device])
        ],
    )


def measured(rows: Rows) -> Rows:
    """Return the rows that comparisons are made of."""
    return [row for row in rows if row.status == "measured"]


def _under_load(device: Device, rows: Rows, serving: Rows, tables: Tables, settings: ReportSettings) -> Served | None:
    tried = [row for row in serving if row.device == device]
    return served(tried, rows, tables.curves, settings.price_per_hour.get(device))


def _panel(device: Device, rows: Rows, settings: ReportSettings, under_load: Served | None) -> Panel:
    found = measured(rows)
    margins = [float(row.margin) for row in found]
    least_energy, most_energy = energies(found)
    return Panel(
        device=device,
        margin=(min(margins), max(margins)) if margins else None,
        fastest=list(fastest_cells(found)),
        picks=list(picks(found, settings)),
        precisions=list(precision_speedups(found)),
        paddings=list(paddings(found)),
        padded_shares=list(padded_shares(found)),
        tensorrt=list(tensorrt(found)),
        variants=list(by_variant(found)),
        least_energy=least_energy,
        most_energy=most_energy,
        noise=noise(found),
        disturbances=list(disturbances([row for row in rows if not is_missing(row.p50_ms)])),
        rejected=list(rejected(rows)),
        not_timed=list(left_out([row for row in rows if is_missing(row.p50_ms)], rows)),
        served=under_load,
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
