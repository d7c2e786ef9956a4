"""A model in a folder of the user's: what is taken of it, and the hash that tells one content from another."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from bench.core.errors import ModelError, ParameterError
from bench.core.files import file_sha256
from bench.sources.kinds import check_kind, read_config
from bench.sources.model_files import CONFIG, first_files, weight_files


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
