"""The runs that were kept in runs/, and which of them may be compared."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import Field
from typing_extensions import TypedDict

from bench.core.files import checked, read_json
from bench.core.params import ReportSettings
from bench.core.paths import RUNS, SERVING_CSV, SUMMARY_CSV
from bench.core.provenance import Environment, Provenance
from bench.core.schemas import Export, Lengths, Peaks, Seconds
from bench.report.context import Context, read_pins
from bench.report.markdown import to_markdown
from bench.report.shown import Shown, shown_of
from bench.report.table import table_blocks
from bench.runs.manifest import MEASURED_WITH, MEND, check_manifest
from bench.runs.packed import curves_in, sessions_in, unpack_samples
from bench.summary.budgets import Curves, Tables
from bench.summary.panels import with_levels
from bench.summary.serving import read_serving
from bench.summary.table_file import read_summary


class RecordedParams(TypedDict):
    """What is read of the parameters of a kept run."""

    model: dict[str, Any]
    sequence_length: Annotated[int, Field(ge=1)]
    report: dict[str, Any]


class MeasuredWith(TypedDict):
    """measured_with.json of a kept run: what `probe` and the stages before the timing wrote, and params.yaml."""

    environment: Environment
    peaks: Peaks
    model: Provenance
    lengths: Lengths | None
    export: Export
    conversions: dict[str, Seconds]
    params: RecordedParams


@dataclass(frozen=True)
class RecordedRun:
    """One kept run: its machine, its model, its parameters and its tables."""

    name: str
    machine: str
    """The id of the machine that measured."""
    environment: dict[str, Any]
    provenance: dict[str, Any]
    params: dict[str, Any]
    export: dict[str, Any]
    lengths: dict[str, Any]
    """Empty for a run of fixed padding alone, whose lengths were not counted."""
    table: pd.DataFrame
    serving: pd.DataFrame
    curves: Curves = field(default_factory=dict)
    """The rates that were tried of each row under load."""

    @classmethod
    def read(cls, folder: Path) -> RecordedRun:
        """Read runs/NAME; DataError if a file is missing, damaged, or not of that run."""
        manifest = check_manifest(folder)
        found = read_json(folder / MEASURED_WITH, MEND, MeasuredWith)
        content = unpack_samples(folder)
        return cls(
            folder.name,
            manifest["machine"],
            found["environment"],
            found["model"],
            found["params"],
            found["export"],
            found["lengths"] or {},
            with_levels(read_summary(folder / SUMMARY_CSV.name, MEND), sessions_in(content)),
            read_serving(folder / SERVING_CSV.name, MEND),
            curves_in(content),
        )

    def context(self) -> Context:
        """Return what the run's reports say of its machine, model and settings."""
        settings = checked(self.params["report"], ReportSettings, RUNS / self.name / MEASURED_WITH, MEND)
        return Context(self.environment, self.provenance, self.export, settings, self.lengths, read_pins())

    def readme(self) -> str:
        """Return the run's README.md: its tables."""
        return to_markdown(table_blocks(self.shown()))

    def shown(self) -> Shown:
        """Return the run as reports read it; its findings are computed anew."""
        return shown_of(Tables(self.table, self.serving, self.curves), self.context())

    def workload(self) -> tuple[str, int]:
        """Return what was run: the sizes of runs of another model or sequence length cannot be compared."""
        real = self.provenance["model_is_real"]
        model = self.provenance["model"] if real else f"synthetic {self.params['model']['synthetic']}"
        return str(model), int(self.params["sequence_length"])

    def hardware(self, device: str) -> str:
        """Name the GPU or the CPU."""
        if device == "cuda":
            return str(self.environment["cuda"]["gpu"]) if self.environment["cuda"] else "none"
        cpu = self.environment["cpu"]
        return f"{cpu['model']}, {cpu['cores']} cores"

    def measured(self, device: str) -> pd.DataFrame:
        """Return the measured rows of a device."""
        return self.table[(self.table["device"] == device) & (self.table["status"] == "measured")]


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
