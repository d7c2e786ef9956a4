"""What the stages before wrote, beside the reports of variants: durations and peaks."""

from __future__ import annotations

from dataclasses import dataclass

from bench.classifier.workload import Workload
from bench.core.files import read_json
from bench.core.paths import CONVERSIONS, EXPORT, PEAKS
from bench.core.schemas import Export, Peaks, Seconds
from bench.summary.table_file import Row


@dataclass(frozen=True)
class Recorded:
    """What the stages before wrote, beside the samples."""

    export: Row
    conversions: dict[str, Row]
    peaks: Row

    @classmethod
    def read(cls) -> Recorded:
        """Read metrics/export.json, convert/ and peaks.json; DataError if one is missing."""
        mend = "`dvc repro` writes it anew"
        conversions = {file.stem: read_json(file, mend, Seconds) for file in sorted(CONVERSIONS.glob("*.json"))}
        return cls(read_json(EXPORT, mend, Export), conversions, read_json(PEAKS, mend, Peaks))

    def workload(self) -> Workload:
        """Return the sizes of the model that was exported."""
        return Workload(**self.export["workload"])
