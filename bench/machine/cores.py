"""How many cores the processes of this project may use: affinity, the cores' topology, and a container's quota.

Linux's control groups, versions 1 and 2, hold the quota (kernel documentation: admin-guide/cgroup-v2,
scheduler/sched-bwc); the limits of all groups above a process hold for it.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from bench.core.errors import ParameterError
from bench.core.params import Device, Params

TOPOLOGY = Path("/sys/devices/system/cpu")
GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


def usable_cpus() -> list[int]:
    """Return the numbers of the CPUs (hardware threads) that this process may use."""
    try:
        return list(psutil.Process().cpu_affinity())
    except AttributeError:  # macOS has no affinity
        return list(range(psutil.cpu_count() or 1))


def physical_cores() -> int:
    """Return how many threads can run at once without sharing a core, at least 1: also of a quota of 1.5 CPUs."""
    cpus, quota = usable_cpus(), cpu_quota()
    cores = _distinct_cores(cpus) or min(psutil.cpu_count(logical=False) or len(cpus), len(cpus))
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
    quota, cpus = cpu_quota(), len(usable_cpus())
    return cpus if quota is None else max(1, min(cpus, int(quota)))


def thread_count(setting: int | str) -> int:
    """Return the threads that `timing.cpu_threads` stands for; ParameterError if they are more than can run at once."""
    if setting == "physical":
        return physical_cores()
    if int(setting) > most_threads():
        raise ParameterError(
            f"params.yaml: timing.cpu_threads: got {setting}, allowed: physical, or at most {most_threads()}, which is "
            "what this process may use of the CPUs (affinity and a container's quota)"
        )
    return int(setting)


def tokenizer_threads(params: Params, device: Device) -> int:
    """Return how many threads make tokens of text: `serving.tokenizer_threads`, or the cores that a row leaves.

    A row of a GPU takes one core.  ParameterError if it is more than can run at once.
    """
    threads, most = params.serving.tokenizer_threads, most_threads()
    if threads > most:
        raise ParameterError(
            f"params.yaml: serving.tokenizer_threads: got {threads}, allowed: 0 (the cores that the row leaves, at "
            f"least one), or at most {most}, which is what this process may use of the CPUs"
        )
    taken = thread_count(params.timing.cpu_threads) if device == "cpu" else 1
    return threads or max(1, physical_cores() - taken)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used so far; 0.0 once it has ended."""
    with suppress(psutil.Error):
        return float(sum(psutil.Process(pid).cpu_times()[:2]))
    return 0.0


def cpu_quota() -> float | None:
    """Return how many CPUs' time this process may use, None without a limit (and on other systems than Linux)."""
    limits = [limit for folder in own_groups() if (limit := _limit(folder)) is not None]
    return min(limits, default=None)


def throttled_seconds() -> float:
    """Return for how long the groups of this process have been stopped so far because their quota was spent."""
    return sum(map(_throttled, own_groups()))


def own_groups(controller: str = "cpu") -> Iterator[Path]:
    """Yield the folders of the control groups that may limit this process, its own first, without repetition."""
    try:
        lines = OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield from _upwards(GROUPS, path)
        elif controller in controllers.split(","):
            yield from _upwards(GROUPS / controllers if (GROUPS / controllers).is_dir() else GROUPS / controller, path)


def _upwards(root: Path, path: str) -> Iterator[Path]:
    """Yield a group's folder and those above it; in a container the path may be the host's, and only the root there."""
    folder = root / path.strip("/")
    while folder != root:
        yield folder
        folder = folder.parent
    yield root


def _limit(folder: Path) -> float | None:
    """Return the CPUs that a group may use, None where it does not limit them."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()
            return None if quota == "max" else int(quota) / int(period)
        quota_us = int((folder / "cpu.cfs_quota_us").read_text())
        return quota_us / int((folder / "cpu.cfs_period_us").read_text()) if quota_us > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _throttled(folder: Path) -> float:
    try:
        lines = [line.split() for line in (folder / "cpu.stat").read_text().splitlines()]
        found = {name: int(value) for name, value in lines}
    except (OSError, ValueError):
        return 0.0
    return found.get("throttled_usec", 0) / 1e6 + found.get("throttled_time", 0) / 1e9
