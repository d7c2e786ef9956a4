"""What a container or a service may use of the CPUs: Linux's control groups, versions 1 and 2.

The limits of all groups above a process hold for it; the files are described in the kernel's documentation
(admin-guide/cgroup-v2, scheduler/sched-bwc).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


def cpu_quota() -> float | None:
    """Return how many CPUs' time this process may use, None without a limit (and on other systems than Linux)."""
    limits = [limit for folder in _folders() if (limit := _limit(folder)) is not None]
    return min(limits, default=None)


def throttled_seconds() -> float:
    """Return for how long the groups of this process have been stopped so far because their quota was spent."""
    return sum(map(_throttled, _folders()))


def _folders() -> Iterator[Path]:
    """Yield the folders that may limit this process, its own group first, without repetition."""
    try:
        lines = OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield from _upwards(GROUPS, path)
        elif "cpu" in controllers.split(","):
            yield from _upwards(GROUPS / controllers if (GROUPS / controllers).is_dir() else GROUPS / "cpu", path)


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
