"""Where the runs and logs of nodes are kept, and the index of which commit each run is of."""

from __future__ import annotations

import io
import lzma
import tarfile

from typing_extensions import TypedDict

from bench.core.errors import DataError
from bench.core.files import read_json, replacing_folder, write_json, write_text
from bench.core.paths import ARTIFACTS, RUNS
from fleet.commit import measures_the_same
from fleet.schedule import Result, Work

LOGS = ARTIFACTS / "fleet"
INDEX = RUNS / "fleet.json"
LOCK = LOGS / "fleet.lock"


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
