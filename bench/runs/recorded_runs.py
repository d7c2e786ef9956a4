"""The runs that were kept in runs/, and which of them may be compared."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml.error import YAMLError

from bench.core.files import checked, damaged, read_json, read_yaml
from bench.core.params import ReportSettings
from bench.core.paths import ENVIRONMENT, EXPORT, LENGTHS, PARAMS, PROVENANCE, RUNS, SERVING_CSV, SUMMARY_CSV
from bench.core.provenance import Environment, Provenance
from bench.core.reports import TimingSession
from bench.core.schemas import Export, Lengths, RecordedParams
from bench.report.context import Context, read_pins
from bench.runs.manifest import check_manifest
from bench.runs.packed import unpack_samples
from bench.summary.panels import Sessions, with_levels
from bench.summary.serving import read_serving
from bench.summary.table_file import read_summary

MEND = "restore it with git, or record the run again with --replace"


@dataclass(frozen=True)
class RecordedRun:
    """One kept run: its machine, its model, its parameters and its table."""

    name: str
    environment: dict[str, Any]
    provenance: dict[str, Any]
    params: dict[str, Any]
    table: pd.DataFrame
    export: dict[str, Any] = field(default_factory=dict)
    lengths: dict[str, Any] = field(default_factory=dict)
    """Empty where a version kept the run that knew fixed padding alone."""
    serving: pd.DataFrame | None = None
    """None where a version kept the run that served no row."""
    machine: str = ""
    """The id of the machine that measured; empty where an older version kept the run, without hashes."""

    @classmethod
    def read(cls, folder: Path) -> RecordedRun:
        """Read runs/NAME; DataError if a file is missing, damaged, or not of that run."""
        manifest = check_manifest(folder, MEND)
        return cls(
            folder.name,
            read_json(folder / ENVIRONMENT.name, MEND, Environment),
            read_json(folder / PROVENANCE.name, MEND, Provenance),
            _read_params(folder / PARAMS.name),
            with_levels(read_summary(folder / SUMMARY_CSV.name, MEND), Sessions.of(_sessions(folder))),
            read_json(folder / EXPORT.name, MEND, Export),
            read_json(folder / LENGTHS.name, MEND, Lengths) if (folder / LENGTHS.name).exists() else {},
            serving=read_serving(folder / SERVING_CSV.name, MEND) if (folder / SERVING_CSV.name).exists() else None,
            machine=str(manifest["machine"]) if manifest else "",
        )

    def context(self) -> Context:
        """Return what the run's reports say of its machine, model and settings."""
        settings = checked(self.params["report"], ReportSettings, RUNS / self.name / PARAMS.name, MEND)
        return Context(self.environment, self.provenance, self.export, settings, self.lengths, read_pins())

    def workload(self) -> tuple[str, int]:
        """Return what was run: the sizes of runs of another model or sequence length cannot be compared."""
        model = (
            self.provenance["model"] if not self.is_synthetic() else f"synthetic {self.params['model']['synthetic']}"
        )
        return str(model), int(self.params["sequence_length"])

    def is_synthetic(self) -> bool:
        """Tell whether the weights were random."""
        return not self.provenance["model_is_real"]

    def hardware(self, device: str) -> str:
        """Name the GPU or the CPU."""
        if device == "cuda":
            return str(self.environment["cuda"]["gpu"]) if self.environment["cuda"] else "none"
        cpu = self.environment["cpu"]
        return f"{cpu['model']}, {cpu['cores']} cores"

    def measured(self, device: str) -> pd.DataFrame:
        """Return the measured rows of a device."""
        return self.table[(self.table["device"] == device) & (self.table["status"] == "measured")]


def _sessions(folder: Path) -> list[TimingSession]:
    reports = [content["report"] for content in (unpack_samples(folder, MEND) or {}).values()]
    return [TimingSession.model_validate(report["session"]) for report in reports if report.get("session")]


def _read_params(path: Path) -> dict[str, Any]:
    try:
        params = read_yaml(path)
    except (OSError, ValueError, YAMLError) as problem:
        raise damaged(path, str(problem), MEND) from None
    checked(params, RecordedParams, path, MEND)
    found: dict[str, Any] = params
    return found


def read_runs(folder: Path = RUNS) -> list[RecordedRun]:
    """Return all kept runs by name."""
    return [RecordedRun.read(path) for path in sorted(folder.iterdir()) if path.is_dir()] if folder.exists() else []


def comparable(runs: list[RecordedRun]) -> tuple[list[RecordedRun], dict[str, str]]:
    """Split runs into those of the most frequent workload and, by name, why each of the others cannot be compared."""
    if not runs:
        return [], {}
    common = Counter(run.workload() for run in runs).most_common(1)[0][0]
    others = {run.name: _difference(run, common) for run in runs if run.workload() != common}
    return [run for run in runs if run.workload() == common], others


def _difference(run: RecordedRun, common: tuple[str, int]) -> str:
    model, length = run.workload()
    parts = []
    if model != common[0]:
        parts.append(f"another model: {model}, the others: {common[0]}")
    if length != common[1]:
        parts.append(f"sequence length {length}, the others: {common[1]}")
    return "; ".join(parts)
