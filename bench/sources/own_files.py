"""What the user's own folder and files hold now: an edit makes `download` stale, though their paths stay the same."""

from __future__ import annotations

from pathlib import Path

from bench.core.files import file_sha256
from bench.core.params import Params
from bench.sources.local import content_hash, local_files

TAKEN = (".json", ".txt", ".safetensors", ".codes", ".model")


def own_hashes(params: Params) -> dict[str, str | None]:
    """Return the SHA-256 of what each path of params.yaml holds, None for a path that is not set.

    ParameterError if the model's folder is not there; a table that is missing is told by `download`.
    """
    found: dict[str, str | None] = {"model": None}
    if params.model.chosen_source == "local":
        folder = Path(str(params.model.path))
        found["model"] = content_hash(folder, [name for name in local_files(folder) if name.endswith(TAKEN)])
    for name in ("path", "calibration_path"):
        path = getattr(params.dataset, name) if params.dataset.chosen_source == "local" else None
        found[name] = file_sha256(Path(path)) if path is not None and Path(path).is_file() else None
    return found
