"""What the stages before wrote, beside the samples: durations, peaks, controls."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bench.core.files import read_json
from bench.core.paths import CONTROL, CONVERSIONS, EXPORT, PEAKS

Row = dict[str, Any]


@dataclass(frozen=True)
class Recorded:
    """What the stages before wrote, beside the samples."""

    export: Row
    conversions: dict[str, Row]
    peaks: Row
    controls: dict[str, Row]

    @classmethod
    def read(cls, devices: Iterable[str]) -> Recorded:
        """Read metrics/export.json, convert/, peaks.json and artifacts/control/; DataError if one is missing."""
        mend = "`dvc repro` writes it anew"
        conversions = {file.stem: read_json(file, mend) for file in sorted(CONVERSIONS.glob("*.json"))}
        controls = {device: read_json(CONTROL / f"{device}.json", mend) for device in devices}
        return cls(read_json(EXPORT, mend), conversions, read_json(PEAKS, mend), controls)
