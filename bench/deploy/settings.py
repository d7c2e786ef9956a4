"""settings.json of a folder that serves a row: what is served, as it was measured, and within which limits."""

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from bench.core.errors import DataError
from bench.core.files import file_sha256, read_model
from bench.core.model_inputs import Padding, Task
from bench.core.params import Device, Precision, Variant
from bench.core.reports import Stored
from bench.core.schemas import Amount, Latency
from bench.runtimes.base.session import SessionSpec

SETTINGS = "settings.json"
MADE_ANEW = "make the folder anew with `python run.py deploy`"
IN_FOLDER = ("engine", "calibration")
"""Fields that name a file or a folder, where the row has one."""
Positive = Annotated[int, Field(ge=1)]


class Tokens(Stored):
    """What the tokens of a text are laid out with; `filler_id`: a token that stands for any in the warm-up."""

    pad_id: int
    pad_type: int
    filler_id: int
    is_left_padded: bool
    has_types: bool


class Limits(Stored):
    """What a request may ask for; `waiting_texts`: of all requests, before more are turned away."""

    texts: Positive
    characters: Positive
    bytes: Positive
    waiting_texts: Positive
    seconds: Latency


class Figures(Stored):
    """What was measured of the row; rates a second, whose p99 meets `budget_ms`.

    `mean_ms`: of a call in the closed loop, by batch size; `text_per_s`: from text, where it was served so.
    """

    budget_ms: Latency | None = None
    tokens_per_s: Latency | None = None
    text_per_s: Latency | None = None
    mean_ms: dict[str, Latency]
    relative_error: Amount | None = None
    proof: str = ""


class Machine(Stored):
    """Where the row was measured, and what it needs there."""

    os: str
    python: str
    cpu: str
    instructions: str = ""
    gpu: str = ""
    versions: dict[str, str]


class Settings(Stored):
    """settings.json; `digest`: of all that the row's report was measured with, `files`: SHA-256 by path."""

    row: str
    runtime: str
    device: Device
    precision: Precision
    padding: Padding
    options: dict[str, str | bool | int]
    graph: str
    engine: str = ""
    engine_options: dict[str, Any]
    calibration: str = ""
    calibration_sentences: Positive = 1
    batch_sizes: list[Positive]
    sequence_length: Positive
    multiple_of: Positive
    cpu_threads: Positive
    tokenizer_threads: Positive
    in_flight: Positive
    instances: Positive
    max_batch: Positive
    max_delay_ms: Amount
    variables: dict[str, str]
    model: str
    warning: str = ""
    task: Task
    labels: Annotated[list[str], Field(min_length=1)]
    takes_pairs: bool
    tokens: Tokens
    limits: Limits
    figures: Figures
    machine: Machine
    commit: str
    digest: str
    files: dict[str, str]

    @classmethod
    def read(cls, folder: Path) -> "Settings":
        """Read a folder's settings; DataError if they are missing or damaged."""
        return read_model(folder / SETTINGS, MADE_ANEW, cls)

    def variant(self) -> Variant:
        """Return the row as params.yaml names it."""
        kept = self.model_dump(include={"runtime", "device", "precision", "padding", "options"})
        return Variant(**kept, graph="model")

    def spec(self, folder: Path) -> SessionSpec:
        """Return what the runtime loads of the folder."""
        names = {field.name for field in fields(SessionSpec)} - {"graph", *IN_FOLDER}
        places = {name: folder / place for name in IN_FOLDER if (place := getattr(self, name))}
        return SessionSpec(**self.model_dump(include=names), **places, graph=folder / self.graph)

    def check_files(self, folder: Path) -> None:
        """Raise DataError for the first file that is missing or another than was deployed, and for an added engine."""
        for name, digest in self.files.items():
            if not (folder / name).is_file():
                raise DataError(f"{name} is missing in {folder}: {MADE_ANEW}")
            if file_sha256(folder / name) != digest:
                raise DataError(f"{name} is another file than was deployed (its SHA-256 differs): {MADE_ANEW}")
        if self.engine:
            found = (path for path in (folder / self.engine).rglob("*") if path.is_file() and is_kept(path))
            for name in sorted({path.relative_to(folder).as_posix() for path in found} - set(self.files)):
                raise DataError(f"{name} was not deployed: {MADE_ANEW}")


def is_kept(path: Path) -> bool:
    """Tell whether a file stays as it was deployed: all but TensorRT's timing cache, which may grow."""
    return path.suffix != ".timing"
