"""What the stages before wrote, beside the reports of variants: durations and peaks."""

from __future__ import annotations

from dataclasses import dataclass

from bench.classifier.workload import Workload
from bench.core.files import read_json
from bench.core.paths import CONVERSIONS, EXPORT, PEAKS
from bench.core.provenance import read_machine_id
from bench.core.schemas import Export, Peaks, Seconds
from bench.summary.table_file import Row


@dataclass(frozen=True)
class Recorded:
    """What the stages before wrote, beside the samples."""

    export: Row
    conversions: dict[str, Row]
    peaks: Row
    machine: str

    @classmethod
    def read(cls) -> Recorded:
        """Read metrics/export.json, convert/ and peaks.json; DataError if one is missing.

        Seconds that another machine took (the graphs came with git or `dvc pull`) are not this one's: left out.
        """
        mend, here = "`dvc repro` writes it anew", read_machine_id()
        conversions = {file.stem: read_json(file, mend, Seconds) for file in sorted(CONVERSIONS.glob("*.json"))}
        own = {name: of_this_machine(found, here) for name, found in conversions.items()}
        return cls(of_this_machine(read_json(EXPORT, mend, Export), here), own, read_json(PEAKS, mend, Peaks), here)

    def workload(self) -> Workload | None:
        """Return the sizes of the model that was exported; None where its operations are not known."""
        sizes = self.export["workload"]
        return Workload(**sizes) if sizes else None


def of_this_machine(found: Row, here: str) -> Row:
    """Return a record without the seconds of another machine."""
    is_own = found.get("machine", here) == here
    return found if is_own else {name: value for name, value in found.items() if "seconds" not in name}
