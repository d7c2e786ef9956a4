"""How many cores the processes of this project may use: affinity, the cores' topology, and a container's quota."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import psutil

from bench.core.errors import ParameterError
from bench.machine.quota import cpu_quota

TOPOLOGY = Path("/sys/devices/system/cpu")


def usable_cpus() -> list[int]:
    """Return the numbers of the CPUs (hardware threads) that this process may use."""
    try:
        return list(psutil.Process().cpu_affinity())
    except AttributeError:  # macOS has no affinity
        return list(range(psutil.cpu_count() or 1))


def physical_cores() -> int:
    """Return how many threads can run at once without sharing a core, at least 1.

    Two CPUs of one core count once, and a quota of 1.5 CPUs gives one thread: two would be stopped in turns.
    """
    cpus = usable_cpus()
    cores = _distinct_cores(cpus) or min(psutil.cpu_count(logical=False) or len(cpus), len(cpus))
    quota = cpu_quota()
    return max(1, cores if quota is None else min(cores, int(quota)))


def _distinct_cores(cpus: Iterable[int]) -> int:
    """Return the number of cores that these CPUs belong to, 0 where Linux does not tell."""
    found = set()
    for cpu in cpus:
        folder = TOPOLOGY / f"cpu{cpu}" / "topology"
        try:
            found.add(tuple((folder / name).read_text().strip() for name in ("physical_package_id", "core_id")))
        except OSError:
            return 0
    return len(found)


def numa_nodes() -> int:
    """Return how many memory nodes the usable CPUs belong to, 0 where Linux does not tell."""
    nodes = (list((TOPOLOGY / f"cpu{cpu}").glob("node[0-9]*")) for cpu in usable_cpus())
    return len({node.name for found in nodes for node in found})


def most_threads() -> int:
    """Return how many threads can run at once at most: the usable CPUs, or a container's quota where it is less."""
    quota = cpu_quota()
    cpus = len(usable_cpus())
    return cpus if quota is None else max(1, min(cpus, int(quota)))


def thread_count(setting: int | str) -> int:
    """Return the number of threads that `timing.cpu_threads` stands for: itself, or the physical cores.

    ParameterError if it is more than can run at once: threads that take turns are no measure of anything.
    """
    if setting == "physical":
        return physical_cores()
    if int(setting) > most_threads():
        raise ParameterError(
            f"params.yaml: timing.cpu_threads: got {setting}, allowed: physical, or at most {most_threads()}, which is "
            "what this process may use of the CPUs (affinity and a container's quota)"
        )
    return int(setting)
