"""The commit that every node measures, and whether a kept run is of it."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from bench.core.errors import BenchError, ParameterError
from bench.core.files import shortened
from fleet import node

NOT_MEASURED = ("bench/findings", "bench/report", "bench/runs", "bench/statistics", "bench/summary")
"""Code that makes reports of what was measured: a change of it makes no run out of date."""
MEASURED = (
    "params.yaml",
    "requirements.lock",
    "dvc.yaml",
    "run.py",
    "bench",
    "stages",
    *(f":(exclude){path}" for path in NOT_MEASURED),
)


def clean_commit() -> str:
    """Return the commit that is checked out; ParameterError if files that nodes would run differ or cannot be sent."""
    changed = git("status", "--porcelain", "--", *MEASURED).splitlines()
    if changed:
        files = shortened(", ".join(line[3:] for line in changed))
        raise ParameterError(
            f"fleet: nodes measure a commit, and these files are changed or not in git: {files}; commit or stash them"
        )
    if git("rev-parse", "--is-shallow-repository").strip() == "true":
        raise ParameterError("fleet: this clone has no history to send to nodes: `git fetch --unshallow`, then again")
    return git("rev-parse", "HEAD").strip()


def bundle_of(commit: str) -> bytes:
    """Return the history up to a commit as a git bundle: one file that a node clones from."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "commit.bundle"
        git("bundle", "create", "--quiet", str(path), "HEAD")
        if git("rev-parse", "HEAD").strip() != commit:
            raise BenchError("fleet: another commit was checked out meanwhile: start again")
        return path.read_bytes()


def measures_the_same(older: str, newer: str) -> bool:
    """Tell whether two commits measure the same: equal in parameters, versions and code that a run depends on."""
    try:
        git("diff", "--quiet", older, newer, "--", *MEASURED)
    except BenchError:  # they differ, or the older one is not known here
        return False
    return True


def git(*arguments: str) -> str:
    """Run git in the project's folder and return what it prints; BenchError with its words if it fails."""
    try:
        return node.git(".", *arguments)
    except (node.NodeError, OSError, subprocess.SubprocessError) as problem:
        raise BenchError(f"fleet: {problem}") from None
