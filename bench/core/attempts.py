"""How often what failed was tried: a build that failed is tried again, though nothing that it is made of changed.

DVC keeps the result of a stage for its inputs, and would give a failed build back for ever.
"""

from __future__ import annotations

from collections.abc import Iterable

from bench.core.files import write_text
from bench.core.paths import ATTEMPTS


def ensure_attempts(keys: Iterable[str]) -> None:
    """Write a count of 0 for each variant that has none."""
    ATTEMPTS.mkdir(parents=True, exist_ok=True)
    for key in keys:
        if not (ATTEMPTS / key).is_file():
            write_text(ATTEMPTS / key, "0\n")


def count_attempt(key: str) -> None:
    """Make the stages that depend on a variant's count stale."""
    path = ATTEMPTS / key
    tried = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
    write_text(path, f"{int(tried) + 1 if tried.isdecimal() else 1}\n")
