"""What a serving process hands to the one that started it."""

from __future__ import annotations

from pydantic import BaseModel

from bench.core.reports import Evidence, NoopProcess, Offline, RatePoint, ServingProcess, SingleStream
from bench.core.schemas import ServingStatus
from bench.timing.quality import Comparison


class Replay(BaseModel):
    """Batches that were run again as they were; `fault`: one gave other logits then."""

    batches: int
    max_abs_diff: float
    fault: str = ""


class Check(BaseModel):
    """Whether the answers of one load were right; `unanswered`: what is wrong with their number."""

    comparison: Comparison
    unanswered: str
    replayed: Replay


class ServingResult(BaseModel):
    """What one serving process did; `single_stream`, `offline` and `checks` are no part of the no-op backend's."""

    status: ServingStatus
    reason: str = ""
    process: int = 0
    points: list[RatePoint] = []
    single_stream: SingleStream | None = None
    offline: Offline | None = None
    shapes: int = 0
    late_captures: int = 0
    peak_host_mib: float | None = None
    gpu_mib: float | None = None
    turn_unix_ns: list[int] = []
    evidence: Evidence = Evidence()
    checks: list[Check] = []

    def is_measured(self) -> bool:
        """Tell whether the process ran to its end."""
        return self.status == "measured"

    def as_process(self) -> ServingProcess:
        """Return what is kept of a measured process."""
        return ServingProcess.model_validate(self.model_dump())

    def as_noop(self, first_rate: float) -> NoopProcess:
        """Return what is kept of the no-op backend; `first_rate`: where its search began."""
        return NoopProcess(status=self.status, reason=self.reason, points=self.points, first_rate=first_rate)
