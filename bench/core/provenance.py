"""What a run was made on and from: what `probe` and `download` wrote down."""

from __future__ import annotations

from typing import Any

from bench.core.files import read_json
from bench.core.paths import ENVIRONMENT, MACHINE, PROVENANCE
from bench.core.schemas import Environment, Machine, Provenance


def read_environment() -> dict[str, Any]:
    """Read metrics/env.json as `probe` wrote it; DataError if it is missing or damaged."""
    return read_json(ENVIRONMENT, "`dvc repro probe` writes it anew", Environment)


def read_provenance() -> dict[str, Any]:
    """Read metrics/model.json as `download` wrote it; DataError if it is missing or damaged."""
    return read_json(PROVENANCE, "`dvc repro download` writes it anew", Provenance)


def read_machine_id() -> str:
    """Return what `probe` calls this machine; DataError if it is missing or damaged."""
    return str(read_json(MACHINE, "`dvc repro probe` writes it anew", Machine)["id"])
