"""How much memory is free: the host's, within the limits of a container, and a GPU's."""

from contextlib import suppress
from pathlib import Path

import psutil

from bench.machine.cores import own_groups

LIMITS = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
"""Of control groups, versions 2 and 1 (kernel documentation: admin-guide/cgroup-v2)."""


def free_host_mib() -> float:
    """Return the memory that processes can still take without swapping, in MiB."""
    free = float(psutil.virtual_memory().available)
    left = [rest for folder in own_groups("memory") if (rest := _left(folder)) is not None]
    return min([free, *left]) / 2**20


def oom_kills() -> int:
    """Return how many processes of its control group, else of the system, Linux has ended for want of memory."""
    for path in (*(folder / "memory.events" for folder in own_groups("memory")), Path("/proc/vmstat")):
        with suppress(OSError, ValueError):
            counters = dict(line.split() for line in path.read_text().splitlines())
            if "oom_kill" in counters:
                return int(counters["oom_kill"])
    return 0


def _left(folder: Path) -> float | None:
    """Return what a group may still take, None where it has no limit."""
    for limit, used in LIMITS:
        try:
            return float((folder / limit).read_text()) - float((folder / used).read_text())
        except (OSError, ValueError):  # another version, or `max`
            continue
    return None
