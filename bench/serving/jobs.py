"""What a serving process is asked to do, and what it hands back."""

import math
from dataclasses import dataclass
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from bench.core.params import Serving
from bench.core.reports import Evidence, ServingProcess
from bench.timing.quality import Comparison
from bench.workers.protocol import Job

NOOP = "no-op"
"""Name of the no-op backend, in place of a runtime's."""
LEAST_QUERIES = 153
"""Requests of a trial: three trials at a rate, none of them late, show with 99% confidence that at most 1% is."""
BUDGETS_LONG = 10
"""A trial lasts for so many budgets: at a rate a tenth above what a row can do, requests are then a budget late."""


def queries(rate: float, seconds: float, budget_ms: float) -> int:
    """Return how many requests a trial of a rate sends, in `seconds` at least."""
    return max(LEAST_QUERIES, math.ceil(rate * max(seconds, BUDGETS_LONG * budget_ms / 1000)))


@dataclass(frozen=True, kw_only=True)
class ServeJob(Job):
    """What one serving process serves, and within which limits; `max_batch`: the largest that it prepares."""

    shortened_by: ClassVar[str] = "serving.seconds"
    serving: Serving
    budget_ms: float
    max_batch: int

    def queries(self, rate: float) -> int:
        """Return how many requests are sent in a trial of a rate."""
        return queries(rate, self.serving.seconds, 0 if self.runtime == NOOP else self.budget_ms)


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


class ServingResult(ServingProcess):
    """What one serving process says of itself at its end; its trials are put beside it by the coordinator."""

    model_config = ConfigDict(strict=False)

    evidence: Evidence = Evidence()
    checks: list[Check] = Field(default_factory=list)
