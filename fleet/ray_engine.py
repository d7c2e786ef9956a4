"""The schedule's engine on Ray: a task holds all CPUs and GPUs of its node, and is never tried again by Ray itself.

Ray's resources are bookkeeping, not isolation: a node is alone with a task only where other jobs ask for resources too.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from bench.core.errors import BenchError
from fleet import node as on_the_node
from fleet.kinds import Node
from fleet.schedule import Result, Say, Work

USAGE = "RAY_USAGE_STATS_ENABLED"
"""Ray reports its use to its maker unless this is 0."""
LOCAL = "local"
POLL_SECONDS = 60.0
GRACE_SECONDS = 600.0
"""A node that gives no answer so long after its limit counts as hung."""


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connect to a cluster, or start one of this machine alone; BenchError says why that fails."""
    os.environ[USAGE] = "0"
    import ray

    try:
        ray.init(
            address=address or LOCAL,
            log_to_driver=False,
            logging_level="error",
            **({} if address else {"include_dashboard": False}),
        )
    except (ConnectionError, RuntimeError, ValueError) as problem:
        where = f"--address {address}" if address else "a Ray of this machine"
        first = " ".join(str(problem).split())
        raise BenchError(
            f"fleet: {where}: {first[:300]} (wanted: HOST:PORT of a cluster that this machine is a node of, with the "
            "Ray of fleet/requirements.txt and the same minor version of Python)"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def nodes() -> list[Node]:
    """Return the nodes that are alive."""
    import ray

    return [
        Node(
            each["NodeID"],
            each["NodeManagerAddress"],
            each["Resources"].get("CPU", 0.0),
            each["Resources"].get("GPU", 0.0),
        )
        for each in ray.nodes()
        if each["Alive"]
    ]


class RayEngine:
    """Work as Ray tasks."""

    def __init__(self, order: on_the_node.Order, bundle: bytes, say: Say) -> None:
        import ray

        ray.cloudpickle.register_pickle_by_value(on_the_node)
        self._order = order
        self._bundle = ray.put(bundle)
        self._say = say
        self._running: dict[Any, tuple[Work, float]] = {}

    def start(self, work: Work) -> None:
        """Start a task on the work's node; see schedule.Engine."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        is_measured = work.what == "measure"
        task = ray.remote(on_the_node.measure if is_measured else on_the_node.look).options(
            num_cpus=work.node.cpus if is_measured else 0,
            num_gpus=work.node.gpus if is_measured else 0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(work.node.id, soft=False),
            max_retries=0,
        )
        order = replace(self._order, name=work.name)
        self._running[task.remote(order, self._bundle)] = (work, time.monotonic())

    def next_ended(self) -> tuple[Work, Result]:
        """Wait for a task; see schedule.Engine."""
        import ray

        while True:
            ended, _ = ray.wait(list(self._running), num_returns=1, timeout=POLL_SECONDS)
            if ended:
                work, _began = self._running.pop(ended[0])
                return work, _result(ended[0])
            overdue = self._overdue()
            if overdue is not None:
                work, _began = self._running.pop(overdue)
                ray.cancel(overdue, force=True)
                return work, {"fault": "gave no answer within its limit"}
            self._say(f"waiting for {', '.join(sorted(map(_waited_for, self._running.values())))}")

    def _overdue(self) -> Any | None:
        limit = self._order.limit_seconds + GRACE_SECONDS
        now = time.monotonic()
        return next((task for task, (_work, began) in self._running.items() if now - began > limit), None)


def _waited_for(started: tuple[Work, float]) -> str:
    work, began = started
    return f"{work.node.address} ({work.name}, {(time.monotonic() - began) / 60:.0f} min)"


def _result(task: Any) -> Result:
    import ray

    try:
        found: Result = ray.get(task)
        return found
    except ray.exceptions.RayError as problem:
        lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
        return {"fault": f"{type(problem).__name__}: {lines[0] if lines else 'no reason given'}"}
