"""What each JSON and CSV file between the stages holds; checked as it is read.

A file may hold more than is named here.  Numbers are finite.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import AfterValidator, Field
from typing_extensions import TypedDict

from bench.core.model_inputs import Padding, Task

Number = Annotated[float, Field(allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Latency = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=10**12)]
Name = Annotated[str, Field(min_length=1)]
Numbers = Annotated[str, Field(pattern=r"^\d[\d.e+-]*( \d[\d.e+-]*)*$")]
"""Several numbers, with spaces between."""
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
    idle_w: NotRequired[Amount | None]


class Peaks(TypedDict):
    """metrics/peaks.json."""

    cpu: DevicePeaks | None
    cuda: DevicePeaks | None


class EngineRecord(TypedDict):
    """artifacts/engines/KEY/build.json."""

    status: Literal["built", "skipped", "rejected", "failed"]
    reason: NotRequired[str]
    folder: NotRequired[str]
    build_seconds: NotRequired[Amount]
    machine: NotRequired[str]
    tensorrt: NotRequired[str]
    gpu: NotRequired[str]


Status = Literal["measured", "off", "skipped", "out_of_memory", "rejected", "failed"]


class Work(TypedDict):
    """What a cell works on, batch by batch of a pass."""

    given_tokens: list[Count]
    given_pairs: list[Count]
    computed_tokens: list[Count]
    computed_pairs: list[Count]


class Lengths(TypedDict):
    """metrics/lengths.json."""

    sentences: Annotated[int, Field(ge=1)]
    mean_tokens: Latency
    median_tokens: Latency
    p95_tokens: Latency
    longest_tokens: Annotated[int, Field(ge=1)]
    at_limit: Count
    padding_share: Amount


class TokenCount(TypedDict):
    """A row of artifacts/inputs/token_counts.csv."""

    tokens: Annotated[int, Field(ge=1)]
    sentences: Annotated[int, Field(ge=1)]


class Cell(TypedDict):
    """A variant at one batch size, as its report holds it."""

    status: Status
    reason: NotRequired[str]
    p50_ms: NotRequired[Latency]
    p95_ms: NotRequired[Latency]
    mean_ms: NotRequired[Latency]
    accuracy: NotRequired[Amount]
    accuracy_low: NotRequired[Amount]
    accuracy_high: NotRequired[Amount]
    accuracy_loss: NotRequired[Number]
    accuracy_loss_p: NotRequired[Amount]
    samples_per_s: NotRequired[Latency]
    work: NotRequired[Work]
    rounds: NotRequired[list[int]]
    process_p50_ms: NotRequired[list[Latency]]
    process_p95_ms: NotRequired[list[Latency]]
    process_mean_ms: NotRequired[list[Latency]]
    process_runs: NotRequired[list[int]]
    runs: NotRequired[int]
    host_loop_ms: NotRequired[list[Latency]]
    gpu: NotRequired[list[dict[str, Any]]]


FIGURES: tuple[Literal["p50_ms", "mean_ms", "samples_per_s", "runs", "rounds", "work"], ...] = (
    "p50_ms",
    "mean_ms",
    "samples_per_s",
    "runs",
    "rounds",
    "work",
)
OF_PROCESSES: tuple[Literal["process_p50_ms", "process_mean_ms", "process_runs"], ...] = (
    "process_p50_ms",
    "process_mean_ms",
    "process_runs",
)


def whole(cell: Cell) -> Cell:
    """Return a cell; ValueError if it is measured without its figures, or has them for other processes than it had."""
    if cell["status"] != "measured":
        return cell
    lacking = [name for name in (*FIGURES, *OF_PROCESSES) if name not in cell]
    if lacking:
        raise ValueError(f"measured, without {', '.join(lacking)}")
    unlike = [name for name in OF_PROCESSES if len(cell[name]) != len(cell["rounds"])]
    if unlike:
        raise ValueError(f"{len(cell['rounds'])} rounds, {', '.join(unlike)} of another number")
    if sum(cell["process_runs"]) != cell["runs"]:
        raise ValueError(f"runs = {cell['runs']}, process_runs add up to {sum(cell['process_runs'])}")
    return cell


class TimedCell(TypedDict):
    """A row that others are compared through, at one batch size."""

    rounds: list[int]
    p50_ms: Latency
    process_p50_ms: list[Latency]
    process_mean_ms: list[Latency]


class Session(TypedDict):
    """The rounds that a report is of."""

    id: str
    seed: int
    order: list[list[str]]
    twin: dict[str, TimedCell]
    anchors: dict[str, dict[str, TimedCell]]


class Labels(TypedDict):
    """What a row and the fp32 reference get right of all labelled sentences."""

    labelled: Annotated[int, Field(ge=1)]
    right: Count
    reference_right: Count
    only_reference: Count
    only_row: Count


class Report(TypedDict):
    """artifacts/samples/DEVICE/KEY.json."""

    cells: dict[str, Annotated[Cell, AfterValidator(whole)]]
    processes: list[dict[str, Any]]
    evidence: NotRequired[dict[str, Any]]
    accuracy: NotRequired[Labels | None]
    session: NotRequired[Session]
    fingerprint: NotRequired[str]
    failure: NotRequired[str]


ServingStatus = Literal["measured", "over_budget", "off", "skipped", "out_of_memory", "rejected", "failed"]


class RatePoint(TypedDict):
    """What a serving process did at one rate; `keeps`: its p99 was within the budget.

    `rate` was asked for, `sent_per_s` came of it: requests at random times, not all of them.
    """

    rate: Latency
    sent_per_s: Latency
    keeps: bool
    is_overloaded: bool
    queries: Annotated[int, Field(ge=1)]
    late: Count
    p50_ms: Latency
    p95_ms: Latency
    p99_ms: Latency
    mean_batch: Amount
    tokens_computed: NotRequired[Amount]
    busy_share: Amount
    gpu: NotRequired[dict[str, Any]]


class ServingProcess(TypedDict):
    """What one serving process did."""

    process: Count
    points: Annotated[list[RatePoint], Field(min_length=1)]
    single_stream: dict[str, Any]
    offline: dict[str, Any]
    late_captures: NotRequired[int]
    peak_host_mib: NotRequired[Amount]
    gpu_mib: NotRequired[Number]


class Served(TypedDict):
    """artifacts/served/KEY.json."""

    status: ServingStatus
    reason: NotRequired[str]
    processes: list[ServingProcess]
    budget_ms: Latency
    max_batch: Annotated[int, Field(ge=1)]
    closed_loop_per_s: NotRequired[Latency]
    expected_per_s: NotRequired[Latency]
    session: NotRequired[dict[str, Any]]
    fingerprint: NotRequired[str]
    failure: NotRequired[str]


class Labelled(TypedDict):
    """A row of artifacts/sentences/evaluation.csv and calibration.csv."""

    sentence: str
    pair: NotRequired[str]
    label: NotRequired[Count]


class SingleRun(TypedDict):
    """A row of artifacts/samples/DEVICE/KEY.csv."""

    process: Count
    batch: Annotated[int, Field(ge=1)]
    run: Count
    latency_ms: Latency


class SummaryRow(TypedDict):
    """A row of results/summary.csv, with the columns that nothing can be told without, and some that figures are of."""

    variant: Name
    runtime: Name
    device: Literal["cpu", "cuda"]
    precision: Name
    batch_size: Annotated[int, Field(ge=1)]
    status: Status
    runs: NotRequired[Count]
    p50_ms: NotRequired[Latency]
    p95_ms: NotRequired[Latency]
    mean_ms: NotRequired[Latency]
    accuracy: NotRequired[Amount]
    accuracy_low: NotRequired[Amount]
    accuracy_high: NotRequired[Amount]
    accuracy_loss: NotRequired[Number]
    accuracy_loss_p: NotRequired[Amount]
    samples_per_s: NotRequired[Latency]
    p50_low_ms: NotRequired[Latency]
    p50_high_ms: NotRequired[Latency]
    agreement: NotRequired[Number]
    margin: NotRequired[Amount]
    processes: NotRequired[Count]
    process_p50_ms: NotRequired[Numbers]
    process_mean_ms: NotRequired[Numbers]
    process_p95_ms: NotRequired[Numbers]
    rounds: NotRequired[Numbers]
    peak_host_mib: NotRequired[Amount]
    peak_gpu_mib: NotRequired[Amount]
    cold_start_seconds: NotRequired[Amount]
    one_off_seconds: NotRequired[Amount]
    limit_ms: NotRequired[Latency]
    padding: NotRequired[Padding]
    tokens_given: NotRequired[Latency]
    tokens_computed: NotRequired[Latency]
    gross_energy_mj_per_sample: NotRequired[Amount]


class ServingRow(TypedDict):
    """A row of results/serving.csv, with the columns that nothing can be told without."""

    variant: Name
    runtime: Name
    device: Literal["cpu", "cuda"]
    precision: Name
    status: ServingStatus
    requests_per_s: NotRequired[Latency]
    requests_per_s_low: NotRequired[Latency]
    requests_per_s_high: NotRequired[Latency]
    process_per_s: NotRequired[Numbers]
    budget_ms: NotRequired[Latency]


class Manifest(TypedDict):
    """run.json of a kept run."""

    id: Name
    machine: Name
    made_of: dict[str, str]
    parts: dict[str, str]


class RecordedParams(TypedDict):
    """What is read of the params.yaml of a kept run, whichever version of this project kept it."""

    model: dict[str, Any]
    sequence_length: Annotated[int, Field(ge=1)]
    report: dict[str, Any]
