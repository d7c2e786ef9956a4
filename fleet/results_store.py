"""The commit that every node measures, and the runs that are kept of it, with the index of which commit each is of."""

import io
import lzma
import subprocess
import tarfile
import tempfile
from pathlib import Path

from typing_extensions import TypedDict

from bench.core.errors import BenchError, DataError, ParameterError
from bench.core.files import read_json, replacing_folder, shortened, write_json, write_text
from bench.core.paths import ARTIFACTS, RUNS
from fleet import node
from fleet.schedule import Result, Work

LOGS = ARTIFACTS / "fleet"
INDEX = RUNS / "fleet.json"
LOCK = LOGS / "fleet.lock"
NOT_MEASURED = ("bench/deploy", "bench/findings", "bench/report", "bench/runs", "bench/summary")
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


class Entry(TypedDict):
    """What the index tells of a run."""

    commit: str
    machine_type: str
    node: str


def read_index() -> dict[str, Entry]:
    """Return runs/fleet.json by run, empty where there is none; DataError if it cannot be read."""
    return read_json(INDEX, "restore it with git, or remove it", dict[str, Entry]) if INDEX.exists() else {}


def is_current(name: str, commit: str) -> bool:
    """Tell whether runs/`name` was measured by a fleet at a commit that measures the same as this one."""
    entry = read_index().get(name)
    return bool(entry and (RUNS / name / "run.json").exists() and measures_the_same(entry["commit"], commit))


def keep(commit: str, work: Work, result: Result) -> str:
    """Keep the log that a node sent, and its run, whole or not at all; return why that failed, empty if it did not."""
    try:
        if result.get("log"):
            write_text(LOGS / f"{work.name}@{work.node.address.replace(':', '_')}.log", result["log"])
        if "archive" in result:
            with replacing_folder(RUNS / work.name) as run:
                with tarfile.open(fileobj=io.BytesIO(result["archive"]), mode="r:xz") as archive:
                    archive.extractall(run, filter="data")
                if not (run / "run.json").exists():
                    raise DataError("no run.json")
            entry = Entry(commit=commit, machine_type=work.machine_type, node=work.node.address)
            write_json(INDEX, dict(sorted({**read_index(), work.name: entry}.items())))
    except (OSError, DataError, tarfile.TarError, lzma.LZMAError) as problem:
        return f"what it sent could not be kept: {problem}"
    return ""


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
