"""What each JSON, CSV and Parquet file between the stages holds at least; checked as it is read."""

from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from bench.core.errors import DataError
from bench.core.files import checked, damaged, read_json
from bench.core.model_inputs import Padding, Task
from bench.core.paths import ENVIRONMENT, MACHINE, PROVENANCE

Number = Annotated[float, Field(allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Latency = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=10**12)]
Name = Annotated[str, Field(min_length=1)]
Numbers = Annotated[str, Field(pattern=r"^\d[\d.e+-]*( \d[\d.e+-]*)*$")]
"""Several numbers, with spaces between."""
Versions = dict[str, str | None]


class Cpu(TypedDict):
    model: str
    cores: int


class Cuda(TypedDict):
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
    gpu_fault: NotRequired[str]
    os: str
    python: str
    versions: Versions
    runtimes: dict[str, Versions]
    variables: NotRequired[dict[str, str]]


class Machine(TypedDict):
    """artifacts/machine.json."""

    id: Name


class LabelExample(TypedDict):
    """A sentence with its label as it stands in the data, and the name of the model's label that it is read as."""

    text: str
    label: str
    meaning: str


class LabelsRead(TypedDict):
    """How labels were read, the meaning of each text, and how many of the sentences have none."""

    reading: Literal["ids", "names", "metadata", "params", "none"]
    meanings: dict[str, str]
    unlabelled: Count
    examples: list[LabelExample]
    remarks: list[str]


class Provenance(TypedDict):
    """metrics/model.json."""

    model: Name
    model_is_real: bool
    sentences: Name
    stands_for: NotRequired[str]
    model_type: NotRequired[str]
    task: NotRequired[Task]
    labels: NotRequired[Annotated[int, Field(ge=1)]]
    evaluation_sentences: NotRequired[Count]
    labels_read: NotRequired[LabelsRead]


class WorkloadSizes(TypedDict):
    """The sizes that operations and bytes of a call are made of."""

    layers: int
    width: int
    feed_forward_width: int
    labels: int
    sequence_length: int


class Export(TypedDict):
    """metrics/export.json."""

    opset: int
    seconds: Amount
    machine: NotRequired[str]
    workload: WorkloadSizes | None
    parity_max_abs_diff: Amount


class Seconds(TypedDict):
    """metrics/convert/NAME.json; `machine`: which one took them; `not_made`: why there is no graph."""

    seconds: NotRequired[Amount]
    not_made: NotRequired[str]
    machine: NotRequired[str]


class DevicePeaks(TypedDict):
    """What a device reached at most."""

    operations_per_s: dict[str, Latency]
    bytes_per_s: NotRequired[Latency]


class Peaks(TypedDict):
    """metrics/peaks.json."""

    cpu: DevicePeaks | None
    cuda: DevicePeaks | None


Status = Literal["measured", "off", "skipped", "out_of_memory", "rejected", "failed"]


class Lengths(TypedDict):
    """metrics/lengths.json."""

    sentences: Annotated[int, Field(ge=1)]
    mean_tokens: Latency
    median_tokens: Latency
    p95_tokens: Latency
    longest_tokens: Annotated[int, Field(ge=1)]
    at_limit: Count
    padding_share: Amount
    drawn_sentences: NotRequired[Annotated[int, Field(ge=1)]]
    drawn_mean_tokens: NotRequired[Latency]


class TokenCount(TypedDict):
    """A row of artifacts/inputs/token_counts.csv."""

    tokens: Annotated[int, Field(ge=1)]
    sentences: Annotated[int, Field(ge=1)]


ServingStatus = Literal["measured", "over_budget", "off", "skipped", "out_of_memory", "rejected", "failed"]


SingleRun: Any = TypedDict(
    "SingleRun",
    {"pass": Count, "process": Count, "batch": Annotated[int, Field(ge=1)], "call": Count, "latency_ms": Latency},
)
"""A row of artifacts/samples/KEY.csv."""


class VariantRow(TypedDict):
    """What a row of results/summary.csv and serving.csv says of its variant."""

    variant: Name
    runtime: Name
    device: Literal["cpu", "cuda"]
    precision: Name


class ServingRow(VariantRow):
    """A row of results/serving.csv, with the columns that nothing can be told without."""

    status: ServingStatus
    requests_per_s: NotRequired[Latency]
    requests_per_s_low: NotRequired[Latency]
    requests_per_s_high: NotRequired[Latency]
    searched_per_s: NotRequired[Latency]
    process_per_s: NotRequired[Numbers]
    budget_ms: NotRequired[Latency]
    requests: NotRequired[Amount]
    cut_short: NotRequired[str]


def _columns(names: str, kind: Any) -> dict[str, Any]:
    return dict.fromkeys(names.split(), NotRequired[kind])


SummaryRow: Any = TypedDict(
    "SummaryRow",
    {
        **VariantRow.__annotations__,  # type: ignore[misc]  # no literal, so a row is Any to mypy
        "batch_size": Annotated[int, Field(ge=1)],
        "status": Status,
        **_columns("p50_ms p95_ms mean_ms p50_low_ms p50_high_ms limit_ms samples_per_s", Latency),
        **_columns("tokens_given tokens_computed", Latency),
        **_columns("runs processes passes", Count),
        **_columns("accuracy accuracy_low accuracy_high accuracy_loss_p margin", Amount),
        **_columns("peak_host_mib peak_gpu_mib cold_start_seconds one_off_seconds", Amount),
        **_columns("gross_energy_mj_per_sample", Amount),
        **_columns("accuracy_loss agreement", Number),
        **_columns("padding", Padding),
        **_columns("cut_short unstable remark", str),
    },
)
"""A row of results/summary.csv, with the columns that nothing can be told without, and some that figures are of."""


class Labelled(NamedTuple):
    """A sentence, the number of its label, the second sentence of a pair, and the file and line that it stands in."""

    sentence: str
    label: Count | None
    pair: str | None = None
    place: str = ""


def write_sentences(path: Path, labelled: list[Labelled]) -> None:
    """Write Parquet, which holds any text as it is; null where there is no label, or no second sentence."""
    import pyarrow
    from pyarrow import parquet

    text = pyarrow.large_string()
    kinds = {"sentence": text, "label": pyarrow.int64(), "pair": text, "place": text}
    table = pyarrow.Table.from_pylist([row._asdict() for row in labelled], pyarrow.schema(kinds))
    parquet.write_table(table, path)


def read_sentences(path: Path) -> list[Labelled]:
    """Read what `write_sentences` wrote; DataError if it is missing, damaged or empty."""
    import pyarrow
    from pyarrow import parquet

    hint = "`dvc repro -f download` renews it"
    try:
        cells = parquet.ParquetFile(path).read().to_pylist()
    except FileNotFoundError:
        raise DataError(f"{path.as_posix()} is missing: {hint}") from None
    except (OSError, ValueError, pyarrow.ArrowException) as problem:
        raise damaged(path, str(problem), hint) from None
    if not cells:
        raise damaged(path, "no sentences", hint)
    found: list[Labelled] = checked(cells, list[Labelled], path, hint, is_strict=True)
    return found


def read_environment() -> dict[str, Any]:
    """Read metrics/env.json as `probe` wrote it; DataError if it is missing or damaged."""
    return read_json(ENVIRONMENT, "`dvc repro probe` writes it anew", Environment)


def read_provenance() -> dict[str, Any]:
    """Read metrics/model.json as `download` wrote it; DataError if it is missing or damaged."""
    return read_json(PROVENANCE, "`dvc repro download` writes it anew", Provenance)


def read_machine_id() -> str:
    """Return what `probe` calls this machine; DataError if it is missing or damaged."""
    return str(read_json(MACHINE, "`dvc repro probe` writes it anew", Machine)["id"])
