"""What the stages before wrote, beside the reports of variants: durations and peaks."""

from __future__ import annotations

from dataclasses import dataclass

from bench.classifier.workload import Workload
from bench.core.files import read_json
from bench.core.paths import CONVERSIONS, EXPORT, PEAKS
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
        conversions = {file.stem: read_json(file, mend) for file in sorted(CONVERSIONS.glob("*.json"))}
        return cls(read_json(EXPORT, mend), conversions, read_json(PEAKS, mend))

    def workload(self) -> Workload:
        """Return the sizes of the model that was exported."""
        return Workload(**self.export["workload"])
