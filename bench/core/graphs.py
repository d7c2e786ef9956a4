"""Graphs that were not made: what lies in their place says why, and their rows repeat it.

A graph that no row of this machine uses is not made; one that a converter cannot make rejects its rows alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bench.core.files import write_if_other, write_text
from bench.core.paths import WANTED

MARK = b"not made: "
UNUSED = "no row that can run on this machine uses it"


def write_wanted(names: Iterable[str], wanted: Iterable[str]) -> None:
    """Write for each graph whether a row uses it, as `onnx/NAME.onnx`; conversions depend on these files."""
    for name in names:
        write_if_other(WANTED / name, "yes\n" if f"onnx/{name}.onnx" in wanted else "no\n")


def is_wanted(name: str) -> bool:
    """Tell whether a row uses the graph."""
    path = WANTED / name
    return not path.is_file() or path.read_text(encoding="utf-8").strip() == "yes"


def write_not_made(path: Path, reason: str) -> None:
    """Write the reason in the graph's place."""
    write_text(path, MARK.decode() + " ".join(reason.split()) + "\n")


def reason_not_made(path: Path) -> str:
    """Return for a row why there is no graph in this file; empty if there is one."""
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        if stream.read(len(MARK)) != MARK:
            return ""
        return f"its graph cannot be made: {stream.read().decode('utf-8', errors='replace').strip()}"
