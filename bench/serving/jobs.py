"""What a serving process is asked to do, and what it hands back."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from bench.core.params import Serving
from bench.core.reports import Evidence, LoadedProcess, Offline, RatePoint, SingleStream
from bench.core.schemas import Count, ServingStatus
from bench.serving.search import HIGHEST, Grid
from bench.timing.quality import Comparison
from bench.workers.protocol import Job

NOOP = "no-op"
"""Name of the no-op backend, in place of a runtime's."""
LEAST_QUERIES = 459
"""Requests, none of them late, that show with 99% confidence that at most 1% is: 0.99^459 < 0.01 (exact binomial)."""
BUDGETS_LONG = 20
"""A rate lasts for so many budgets: one that is 5% above what a row can do is then late by the end."""


@dataclass(frozen=True, kw_only=True)
class ServeJob(Job):
    """All that one serving process does."""

    shortened_by: ClassVar[str] = "serving.max_seconds"
    serving: Serving
    budget_ms: float
    max_batch: int
    grid: Grid
    start: int = 0
    """Where on the grid its search begins."""
    highest: int = HIGHEST
    rates: list[float] = field(default_factory=list)
    """Rates to try beside those of the search."""

    def queries(self, rate: float) -> int:
        """Return how many requests are sent at a rate: enough for the time, and for a p99 of all processes."""
        seconds = max(self.serving.seconds, BUDGETS_LONG * self.budget_ms / 1000)
        return max(least_queries(self.serving), math.ceil(rate * seconds))


def least_queries(serving: Serving) -> int:
    """Return the fewest requests of a process at a rate: those of all processes are then enough for a p99."""
    return math.ceil(LEAST_QUERIES / serving.processes)


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


class ServingResult(LoadedProcess):
    """What one serving process did; `single_stream`, `offline` and `checks` are no part of the no-op backend's."""

    model_config = ConfigDict(strict=False)

    status: ServingStatus
    reason: str = ""
    process: Count = 0
    points: list[RatePoint] = Field(default_factory=list)
    single_stream: SingleStream | None = None
    offline: Offline | None = None
    late_captures: int = 0
    evidence: Evidence = Evidence()
    checks: list[Check] = Field(default_factory=list)

    def is_measured(self) -> bool:
        """Tell whether the process ran to its end."""
        return self.status == "measured"
