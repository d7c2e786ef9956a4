"""What a side says of itself, with its own code and environment:  python -m compare.describe FILE [ROW ...]

So parameters may have changed between two sides; only jobs, requests and answers must be common (`PROTOCOL`).
"""

import sys
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from bench.core.errors import run_stage
from bench.core.files import file_sha256
from bench.core.params import Params, Variant, load_params
from bench.core.paths import EVALUATION
from bench.core.schemas import read_environment, read_provenance
from bench.timing.coordinator import report_without_runs
from bench.workers.protocol import Job, make_job


@dataclass(frozen=True)
class DescribedRow:
    """A row of a side: its job, or why it has none; `fields`: of its variant, some of which this checkout may lack."""

    fields: dict[str, Any]
    job: Job | None
    status: str = ""
    reason: str = ""

    @cached_property
    def variant(self) -> Variant:
        return Variant.model_validate({key: self.fields[key] for key in Variant.model_fields if key in self.fields})


@dataclass(frozen=True)
class Description:
    """A side; `sentences`: the hash of what is evaluated."""

    rows: dict[str, DescribedRow]
    model: str
    is_real: bool
    sentences: str
    environment: dict[str, Any]
    packages: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> "Description":
        return TypeAdapter(cls).validate_json(path.read_bytes())


def main() -> None:
    path, *asked = sys.argv[1:]
    params, provenance = load_params(), read_provenance()
    task = provenance.get("task", "single_label")
    own = params.all_variants()
    description = Description(
        rows={key: _row(key, own[key], params, task) for key in asked if key in own},
        model=provenance["model"],
        is_real=provenance["model_is_real"],
        sentences=file_sha256(EVALUATION),
        environment=dict(read_environment()),
        packages={each.name: each.version for each in distributions() if each.name},
    )
    Path(path).write_bytes(TypeAdapter(Description).dump_json(description))


def _row(key: str, variant: Variant, params: Params, task: Any) -> DescribedRow:
    if report := report_without_runs(key, variant, params):
        cell = next(iter(report.cells.values()))
        return DescribedRow(variant.model_dump(), None, cell.status, cell.reason)
    return DescribedRow(variant.model_dump(), replace(make_job(key, variant, params), task=task, measure_accuracy=True))


if __name__ == "__main__":
    run_stage(main)
