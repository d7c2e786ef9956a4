"""What comes home: runs into runs/, logs beside them, and which commit each run is of.

Writes by itself: bench.core.files needs packages that the environment of fleets does not have.
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from bench.core.errors import DataError
from fleet.commit import measures_the_same
from fleet.kinds import Node

RUNS = Path("runs")
LOGS = Path("artifacts/fleet")
BOOK = RUNS / "fleet.json"
"""Of each run that a fleet measured: the commit, the kind and the node's address."""
LOCK = LOGS / "fleet.lock"


def read_book() -> dict[str, dict[str, Any]]:
    """Return runs/fleet.json, empty where there is none; DataError if it cannot be read."""
    if not BOOK.exists():
        return {}
    try:
        found = json.loads(BOOK.read_text(encoding="utf-8"))
        return {name: dict(entry) for name, entry in found.items()}
    except (ValueError, AttributeError, TypeError) as problem:
        raise DataError(f"{BOOK.as_posix()} is damaged ({problem}): restore it with git, or remove it") from None


def is_current(name: str, commit: str) -> bool:
    """Tell whether runs/`name` was measured by a fleet at a commit that measures the same as this one."""
    entry = read_book().get(name)
    if entry is None or not (RUNS / name / "run.json").exists():
        return False
    return measures_the_same(str(entry["commit"]), commit)


def keep(name: str, kind: str, node: Node, commit: str, archive: bytes) -> None:
    """Put a run into runs/`name`, whole or not at all, in place of an older one; DataError if it is not that run."""
    RUNS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=RUNS, prefix=".") as folder:
        with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
            packed.extractall(folder, filter="data")
        new = Path(folder) / name
        if not (new / "run.json").exists():
            raise DataError(f"{node.address} sent no run of the name {name}")
        if (RUNS / name).exists():
            shutil.rmtree(RUNS / name)
        new.rename(RUNS / name)
    entry = {"commit": commit, "kind": kind, "node": node.address}
    write(BOOK, json.dumps({**read_book(), name: entry}, indent=2, sort_keys=True) + "\n")


def keep_log(name: str, node: Node, log: str) -> Path:
    """Write what a node's processes printed; return the file."""
    LOGS.mkdir(parents=True, exist_ok=True)
    path = LOGS / f"{name}@{node.address.replace(':', '_')}.log"
    write(path, log)
    return path


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text, encoding="utf-8", newline="\n")
    temporary.replace(path)
