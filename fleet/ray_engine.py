"""The schedule's engine on Ray: a task holds all CPUs and GPUs of its node, and is never tried again by Ray itself.

Ray's resources are bookkeeping, not isolation: a node is alone with a task only where other jobs ask for resources too.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from bench.core.errors import BenchError
from bench.core.files import first_line, shortened
from fleet import node as on_the_node
from fleet.machine_types import Node
from fleet.schedule import Log, Result, Work

POLL_SECONDS = 60.0
GRACE_SECONDS = 600.0
"""A node that gives no answer so long after its limit counts as hung."""


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connect to a cluster, or start one of this machine alone; BenchError says why that fails."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # else it reports its use to its maker
    import ray

    own = {} if address else {"include_dashboard": False}
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level="error", **own)
    except (ConnectionError, RuntimeError, ValueError) as problem:
        where = f"--address {address}" if address else "a Ray of this machine"
        why = shortened(" ".join(str(problem).split()))
        raise BenchError(
            f"fleet: {where}: {why} (wanted: HOST:PORT of a cluster that this machine is a node of, with the "
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
        Node(each["NodeID"], each["NodeManagerAddress"], *(each["Resources"].get(name, 0.0) for name in ("CPU", "GPU")))
        for each in ray.nodes()
        if each["Alive"]
    ]


class RayEngine:
    """Work as Ray tasks."""

    def __init__(self, spec: on_the_node.TaskSpec, bundle: bytes, log: Log) -> None:
        import ray

        ray.cloudpickle.register_pickle_by_value(on_the_node)
        self._spec = spec
        self._bundle = ray.put(bundle)
        self._log = log
        self._running: dict[Any, tuple[Work, float]] = {}

    def start(self, work: Work) -> None:
        """Start a task on the work's node; see schedule.Engine."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        is_measured = work.what == "measure"
        task = ray.remote(on_the_node.measure if is_measured else on_the_node.probe).options(
            num_cpus=work.node.cpus if is_measured else 0,
            num_gpus=work.node.gpus if is_measured else 0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(work.node.id, soft=False),
            max_retries=0,
        )
        spec = replace(self._spec, name=work.name)
        self._running[task.remote(spec, self._bundle)] = (work, time.monotonic())

    def next_ended(self) -> tuple[Work, Result]:
        """Wait for a task; see schedule.Engine."""
        import ray

        while True:
            ended, _ = ray.wait(list(self._running), timeout=POLL_SECONDS)
            if ended:
                work, _began = self._running.pop(ended[0])
                try:
                    return work, ray.get(ended[0])
                except ray.exceptions.RayError as problem:
                    return work, {"error": f"{type(problem).__name__}: {first_line(problem)}"}
            now = time.monotonic()
            task, (work, began) = min(self._running.items(), key=lambda item: item[1][1])
            if now - began > self._spec.limit_seconds + GRACE_SECONDS:
                del self._running[task]
                ray.cancel(task, force=True)
                return work, {"error": "gave no answer within its limit"}
            waiting = sorted((at.node.address, at.name, (now - since) / 60) for at, since in self._running.values())
            times = (f"{address} ({name}, {minutes:.0f} min)" for address, name, minutes in waiting)
            self._log(f"waiting for {', '.join(times)}")
