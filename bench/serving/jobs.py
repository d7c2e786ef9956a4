"""What a serving process is asked to do, and what it hands back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel

from bench.core.model_inputs import Task
from bench.core.params import Params, Serving, Variant
from bench.core.reports import Evidence, Offline, RatePoint, SingleStream
from bench.core.schemas import ServingStatus
from bench.serving.search import HIGHEST, Grid
from bench.timing.quality import Comparison
from bench.workers.protocol import Job, make_job

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
    budget_ms: float
    max_batch: int
    max_delay_ms: float
    instances: int
    seed: int
    points: int
    search_seconds: float
    end_seconds: float
    """How long requests are sent one after another, and all at once."""
    least_queries: int
    least_seconds: float
    first_rate: float
    start: int
    highest: int
    rates: list[float]
    """Rates to try beside those of the search."""

    def queries(self, rate: float) -> int:
        """Return how many requests are sent at a rate: enough for the time, and for a p99 of all processes."""
        return max(self.least_queries, math.ceil(rate * self.least_seconds))


def least_queries(serving: Serving) -> int:
    """Return the fewest requests of a process at a rate: those of all processes are then enough for a p99."""
    return math.ceil(LEAST_QUERIES / serving.processes)


def make_serve_job(
    key: str,
    variant: Variant,
    params: Params,
    *,
    process: int,
    grid: Grid,
    start: int,
    task: Task,
    engine: Path | None = None,
) -> ServeJob:
    """Return the job of one serving process; `start`: where on the grid its search begins."""
    serving, device = params.serving, variant.device
    job = make_job(key, variant, params, process=process, measure_accuracy=False, task=task, engine=engine)
    return ServeJob(
        **vars(job),
        budget_ms=serving.p99_ms[device],
        max_batch=serving.max_batch[device],
        max_delay_ms=serving.max_delay_ms,
        instances=serving.instances,
        seed=serving.seed + process,
        points=serving.points,
        search_seconds=serving.max_seconds,
        end_seconds=serving.seconds,
        least_queries=least_queries(serving),
        least_seconds=max(serving.seconds, BUDGETS_LONG * serving.p99_ms[device] / 1000),
        first_rate=grid.first,
        start=start,
        highest=HIGHEST,
        rates=[],
    )


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
