"""What a run was made on and from: what `probe` and `download` wrote down."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from bench.core.files import read_json
from bench.core.model_inputs import Task
from bench.core.paths import ENVIRONMENT, MACHINE, PROVENANCE
from bench.core.schemas import Name

Versions = dict[str, str | None]


class Cpu(TypedDict):
    """The CPU that `probe` found."""

    model: str
    cores: int


class Cuda(TypedDict):
    """The GPU that `probe` found."""

    gpu: str
    count: int
    memory_mib: int | None
    compute_capability: str | None
    driver: str | None
    cuda: str | None
    cudnn: str | None
    pytorch_code: NotRequired[str | None]


class Environment(TypedDict):
    """metrics/env.json."""

    cpu: Cpu
    cuda: Cuda | None
    os: str
    python: str
    versions: Versions
    runtimes: dict[str, Versions]
    variables: NotRequired[dict[str, str]]


class Machine(TypedDict):
    """artifacts/machine.json."""

    id: Name


class Provenance(TypedDict):
    """metrics/model.json."""

    model: Name
    model_is_real: bool
    sentences: Name
    stands_for: NotRequired[str]
    model_type: NotRequired[str]
    task: NotRequired[Task]
    labels: NotRequired[Annotated[int, Field(ge=1)]]


def read_environment() -> dict[str, Any]:
    """Read metrics/env.json as `probe` wrote it; DataError if it is missing or damaged."""
    return read_json(ENVIRONMENT, "`dvc repro probe` writes it anew", Environment)


def read_provenance() -> dict[str, Any]:
    """Read metrics/model.json as `download` wrote it; DataError if it is missing or damaged."""
    return read_json(PROVENANCE, "`dvc repro download` writes it anew", Provenance)


def read_machine_id() -> str:
    """Return what `probe` calls this machine; DataError if it is missing or damaged."""
    return str(read_json(MACHINE, "`dvc repro probe` writes it anew", Machine)["id"])
