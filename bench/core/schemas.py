"""What each JSON file between the stages holds; checked as it is read.

A file may hold more than is named here.  Numbers are finite.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

Number = Annotated[float, Field(allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Latency = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Versions = dict[str, str | None]


class Cpu(TypedDict):
    """The CPU that `probe` found."""

    model: str
    cores: int


class Cuda(TypedDict):
    """The GPU that `probe` found."""

    gpu: str
    count: int
    memory_mib: int
    compute_capability: str
    driver: str
    cuda: str | None
    cudnn: str | None


class Environment(TypedDict):
    """metrics/env.json."""

    cpu: Cpu
    cuda: Cuda | None
    os: str
    python: str
    versions: Versions
    runtimes: dict[str, Versions]


class Provenance(TypedDict):
    """metrics/model.json."""

    model: str
    model_is_real: bool
    sentences: str


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
    workload: WorkloadSizes
    parity_max_abs_diff: Amount


class Seconds(TypedDict):
    """metrics/convert/NAME.json."""

    seconds: Amount


class DevicePeaks(TypedDict):
    """What a device reached at most."""

    operations_per_s: dict[str, Latency]
    bytes_per_s: Latency
    idle_w: NotRequired[Amount | None]


class Peaks(TypedDict):
    """metrics/peaks.json."""

    cpu: DevicePeaks | None
    cuda: DevicePeaks | None


class EngineRecord(TypedDict):
    """artifacts/engines/KEY/build.json."""

    status: Literal["built", "skipped", "rejected"]
    reason: NotRequired[str]
    folder: NotRequired[str]
    build_seconds: NotRequired[Amount]
    tensorrt: NotRequired[str]
    gpu: NotRequired[str]


class Cell(TypedDict):
    """A variant at one batch size, as its report holds it."""

    status: Literal["measured", "off", "skipped", "out_of_memory", "rejected"]
    reason: NotRequired[str]
    p50_ms: NotRequired[Latency]
    p95_ms: NotRequired[Latency]
    mean_ms: NotRequired[Latency]
    samples_per_s: NotRequired[Latency]
    rounds: NotRequired[list[int]]
    process_p50_ms: NotRequired[list[Latency]]
    process_p95_ms: NotRequired[list[Latency]]
    process_mean_ms: NotRequired[list[Latency]]
    process_runs: NotRequired[list[int]]
    runs: NotRequired[int]
    host_loop_ms: NotRequired[list[Latency]]
    gpu: NotRequired[list[dict[str, Any]]]


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


class Report(TypedDict):
    """artifacts/samples/DEVICE/KEY.json."""

    cells: dict[str, Cell]
    processes: list[dict[str, Any]]
    evidence: NotRequired[dict[str, Any]]
    accuracy: NotRequired[Number | None]
    session: NotRequired[Session]
    fingerprint: NotRequired[str]
