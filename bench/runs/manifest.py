"""What belongs to a kept run: run.json names every part with its hash, and the model and graphs that were measured."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from bench.core.errors import DataError
from bench.core.files import damaged, read_json, read_yaml, write_json
from bench.core.paths import SERVING_CSV, SUMMARY_CSV
from bench.core.schemas import Name

MANIFEST, MEASURED_WITH, PACKED, README = "run.json", "measured_with.json", "samples.json.xz", "README.md"
PARTS = (MEASURED_WITH, PACKED, SERVING_CSV.name, SUMMARY_CSV.name)
"""What a kept run is made of; README.md is drawn from them."""
MEND = "restore it with git, or record the run again with --replace"
LOCK = Path("dvc.lock")
MADE_OF = ("artifacts/model", "artifacts/sentences", "artifacts/inputs", "artifacts/onnx", "artifacts/engines")


class Manifest(TypedDict):
    """run.json of a kept run."""

    id: Name
    machine: Name
    made_of: dict[str, str]
    parts: dict[str, str]


def write_manifest(folder: Path, machine: str) -> None:
    """Write run.json for the parts that lie in `folder`; `machine`: the id of the one that measured."""
    content = {"machine": machine, "made_of": made_of(), "parts": {name: _sha256(folder / name) for name in PARTS}}
    write_json(folder / MANIFEST, {"id": manifest_id(content), **content})


def check_manifest(folder: Path) -> dict[str, Any]:
    """Return run.json; DataError if a part is not the one that was kept, or a file is there that is none."""
    path = folder / MANIFEST
    manifest = read_json(path, MEND, Manifest)
    for name in PARTS:
        if not (folder / name).is_file():
            raise DataError(f"{(folder / name).as_posix()} is missing: {MEND}")
        if manifest["parts"].get(name) != _sha256(folder / name):
            raise damaged(folder / name, f"not the part that {path.as_posix()} names", MEND)
    for found in sorted(folder.iterdir()):
        if found.name not in (*PARTS, MANIFEST, README):
            raise damaged(found, f"not a part that {path.as_posix()} names", MEND)
    if manifest["id"] != manifest_id(manifest):
        raise damaged(path, "its id is not of its content", MEND)
    return manifest


def made_of() -> dict[str, str]:
    """Return DVC's hash of the model, the inputs, and every graph and engine that was measured."""
    stages = read_yaml(LOCK)["stages"]
    outs = (out for stage in stages.values() for out in stage.get("outs", []))
    return {out["path"]: out["md5"] for out in outs if out["path"].startswith(MADE_OF)}


def _sha256(path: Path) -> str:
    """Return the SHA-256 of a part; line ends of text do not count."""
    content = path.read_bytes()
    return hashlib.sha256(content if path.suffix == ".xz" else content.replace(b"\r\n", b"\n")).hexdigest()


def manifest_id(content: dict[str, Any]) -> str:
    """Return the hash of what a manifest names: machine, model and graphs, parts."""
    named = [item for kind in ("made_of", "parts") for item in sorted(content[kind].items())]
    parts = [content["machine"], *(f"{name} {value}" for name, value in named)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
