"""Where the model and the sentences of a run came from."""

from __future__ import annotations

from typing import Any

from bench.files import read_json
from bench.paths import PROVENANCE


def read_provenance() -> dict[str, Any]:
    """Read metrics/model.json as `download` wrote it; DataError if it is missing or damaged."""
    return read_json(PROVENANCE, mend="`dvc repro download` writes it anew")
