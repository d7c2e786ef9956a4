"""What all rows of a device are timed with, or all rows served with, but graphs and engines: it makes them stale."""

from pathlib import Path
from typing import Any

from bench.core.files import file_sha256, files_sha256, read_yaml
from bench.core.params import load_params
from bench.core.paths import CLONE, INPUTS, PIPELINE
from bench.core.schemas import read_environment, read_provenance


def shared_by_rows(name: str) -> dict[str, Any]:
    """Return the content of artifacts/barriers/NAME.json, NAME being cpu, cuda or serving."""
    params, environment = load_params(), read_environment()
    if name == "serving":  # without what makes tokens of text where requests bring tokens
        from_text = params.serving.input == "text"
        unread = {} if from_text else {"tokenizer_threads": 0}
        libraries = ("mlcommons_loadgen", *(["tokenizers"] * from_text))
        return {
            "serving": params.serving.model_dump(exclude={"variants"}) | unread,
            "versions": {library: environment["versions"].get(library) for library in libraries},
            "code": code_of("serving_barrier"),
        }
    return {
        "sequence_length": params.sequence_length,
        "timing": params.timing.model_dump(),
        "machine": {part: environment.get(part) for part in ("cpu", name, "os", "python", "variables")},
        "model": {part: value for part, value in read_provenance().items() if part != "made_with"},
        "clone": CLONE.read_text(encoding="utf-8").strip() if CLONE.is_file() else "",
        "inputs": {path.name: file_sha256(path) for path in sorted(INPUTS.iterdir())},
        "code": code_of("barrier"),
    }


def code_of(stage: str) -> dict[str, str]:
    """Return the SHA-256 of the rows' script and of each package that a barrier's stage lists in dvc.yaml."""
    definition = read_yaml(PIPELINE)["stages"][stage]
    definition = definition.get("do", definition)
    own = definition["cmd"].split()[1]
    names = [name for name in definition["deps"] if name.startswith(("bench/", "stages/")) and name != own]
    files = {name: [name] if name.endswith(".py") else Path(name).rglob("*.py") for name in names}
    return {name: files_sha256(Path(each).as_posix() for each in found) for name, found in files.items()}
