"""A user's own model and tables: what is taken of a folder, and hashes, so that an edit makes `download` stale though
the paths stay the same.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from bench.core.errors import ModelError, ParameterError
from bench.core.files import file_sha256
from bench.core.params import Params
from bench.sources.kinds import check_kind, read_config
from bench.sources.model_files import CONFIG, first_files, weight_files

TAKEN = (".json", ".txt", ".safetensors", ".codes", ".model")


def copy_model(source: Path, folder: Path) -> str:
    """Copy the model's files to `folder` and return their hash.

    ModelError if they are no model's, or one is a link to a file outside.
    """
    names = local_files(source)
    where = f"model.path {source.as_posix()}"
    chosen = first_files(names, where)
    check_kind(read_config(_inside(source, CONFIG)))  # before gigabytes are copied
    chosen += weight_files(source, names, where)
    for name in chosen:
        shutil.copyfile(_inside(source, name), folder / name)
    return content_hash(folder, chosen)


def local_files(source: Path) -> list[str]:
    """Return the names of the files in a model's folder; ParameterError if it is none."""
    if not source.is_dir():
        what = "a file" if source.is_file() else "no such folder"
        raise ParameterError(
            f"params.yaml: model.path: got {source.as_posix()!r} ({what}), allowed: a folder that `save_pretrained` "
            f"wrote"
        )
    return sorted(path.name for path in source.iterdir() if path.is_file())


def _inside(source: Path, name: str) -> Path:
    """Return the file, which may be a link within its folder, or from a snapshot of the hub's cache to that cache's
    blobs."""
    path = (source / name).resolve()
    home = source.resolve()
    allowed = [home, *([home.parent.parent / "blobs"] if home.parent.name == "snapshots" else [])]
    if not any(path.is_relative_to(place) for place in allowed):
        raise ModelError(
            f"model.path {source.as_posix()}: {name} is a link to a file outside of the folder: copy it there"
        )
    return path


def content_hash(folder: Path, names: list[str]) -> str:
    """Return the SHA-256 of these files' names and contents, as 64 hexadecimal digits."""
    total = hashlib.sha256()
    for name in sorted(names):
        total.update(f"{name} {file_sha256(folder / name)}\n".encode())
    return total.hexdigest()


def user_input_hashes(params: Params) -> dict[str, str | None]:
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
