"""How a validation script tells what it found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.core.files import write_json


def tell(found: dict[str, Any], target: Path | None) -> None:
    """Print what was found, and write it to `target` as well if there is one."""
    print(json.dumps(found, indent=2))
    if target:
        write_json(target, found)
