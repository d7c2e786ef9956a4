"""What two runs are compared by, and how a validation script tells what it found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.core.files import write_json


def turned_round(before: Mapping[Any, str], after: Mapping[Any, str]) -> int:
    """Return how many pairs one run calls faster and the other slower; pairs of one run alone do not count."""
    return sum({verdict, after.get(pair)} == {"faster", "slower"} for pair, verdict in before.items())


def tell(found: dict[str, Any], target: Path | None) -> None:
    """Print what was found, and write it to `target` as well if there is one."""
    print(json.dumps(found, indent=2))
    if target:
        write_json(target, found)
