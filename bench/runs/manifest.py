"""What belongs to a kept run: run.json names every part with its hash, and the model and graphs that were measured."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from bench.core.errors import DataError
from bench.core.files import damaged, read_json, read_yaml, write_json
from bench.core.schemas import Manifest

MANIFEST = "run.json"
LOCK = Path("dvc.lock")
MADE_OF = ("artifacts/model", "artifacts/sentences", "artifacts/inputs", "artifacts/onnx", "artifacts/engines")


def write_manifest(folder: Path, machine: str) -> None:
    """Write run.json for the files that lie in `folder`; `machine`: the id of the one that measured."""
    content = {"machine": machine, "made_of": made_of(), "parts": hashes(folder)}
    write_json(folder / MANIFEST, {"id": _id(content), **content})


def check_manifest(folder: Path, mend: str) -> dict[str, Any] | None:
    """Return run.json; None where an older version kept the run.  DataError if a part is not the one that was kept."""
    path = folder / MANIFEST
    if not path.exists():
        return None
    manifest = read_json(path, mend, Manifest)
    found = hashes(folder)
    for name in sorted({*manifest["parts"], *found}):
        if name not in found:
            raise DataError(f"{(folder / name).as_posix()} is missing: {mend}")
        if manifest["parts"].get(name) != found[name]:
            raise damaged(folder / name, f"not the part that {path.as_posix()} names", mend)
    if manifest["id"] != _id({name: manifest[name] for name in ("machine", "made_of", "parts")}):
        raise damaged(path, "its id is not of its content", mend)
    return manifest


def hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a kept run, without the manifest; line ends do not count."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in files}


def made_of() -> dict[str, str]:
    """Return DVC's hash of the model, the inputs, and every graph and engine that was measured."""
    stages = read_yaml(LOCK)["stages"]
    outs = (out for stage in stages.values() for out in stage.get("outs", []))
    return {out["path"]: out["md5"] for out in outs if out["path"].startswith(MADE_OF)}


def _sha256(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha256(content if path.suffix == ".xz" else content.replace(b"\r\n", b"\n")).hexdigest()


def _id(content: dict[str, Any]) -> str:
    named = [item for kind in ("made_of", "parts") for item in sorted(content[kind].items())]
    parts = [content["machine"], *(f"{name} {value}" for name, value in named)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
