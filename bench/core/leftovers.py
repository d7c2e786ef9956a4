"""What rows that are no longer configured left behind: it would be committed as a part of a run that it is not of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench.core.files import remove
from bench.core.params import Params
from bench.core.paths import ENGINES, ROUNDS, SAMPLES, SERVED, SERVED_PARTS

REPORT_FILES = (".csv", ".json")


def remove_leftovers(params: Params) -> list[str]:
    """Remove samples, parts and engines of rows that are not configured; return what was removed."""
    timed, served = set(params.all_variants()), set(params.serving.variants)
    found = [path for path in _of_rows() if path.stem not in timed]
    found += [path for path in _of_served_rows() if path.stem not in served]
    for path in found:
        remove(path)
    return [path.as_posix() for path in found]


def _of_rows() -> Iterator[Path]:
    """Yield the files and folders that this project writes for a row, and no other."""
    found = (*SAMPLES.glob("*"), *ROUNDS.glob("*/*"))
    yield from (path for path in found if path.suffix in REPORT_FILES and path.parent != SERVED_PARTS)
    yield from (path for path in ENGINES.glob("*/") if (path / "build.json").is_file())


def _of_served_rows() -> Iterator[Path]:
    yield from SERVED.glob("*.json")
    yield from SERVED_PARTS.glob("*.json")
