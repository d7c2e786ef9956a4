"""What a measuring process hands to the one that started it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from bench.core.reports import Evidence, GpuReading, Labels, Process, Profile, Work
from bench.core.schemas import Count, Status
from bench.timing.quality import Comparison


class CellResult(BaseModel):
    """One process's runs at one batch size; without them, with the reason, where memory ran out."""

    status: Status
    reason: str = ""
    latencies_ns: list[int] = []
    work: Work | None = None
    comparison: Comparison | None = None
    other_load_cores: float = 0.0
    quota_throttled_seconds: float = 0.0
    host_loop_ms: list[float] = []
    gpu: GpuReading | None = None
    gpu_mib: float | None = None
    profile: Profile | None = None
    operators: dict[str, float] = {}


class ProcessResult(Process):
    """One process of a variant; `cells` by batch size, none of them where it was not `measured`."""

    model_config = ConfigDict(strict=False)

    round: Count = 0
    status: Status
    reason: str = ""
    process: int = 0
    cells: dict[int, CellResult] = Field(default_factory=dict)
    evidence: Evidence = Evidence()
    accuracy: Labels | None = None

    def is_measured(self) -> bool:
        """Tell whether the process ran to its end."""
        return self.status == "measured"
