"""What was measured of a variant, in the closed loop (Report) and under load (Served): built, stored, checked again.

A file may hold more than is named here; what has its default is left out of it.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from bench.core.schemas import Amount, Count, Latency, Number, ServingStatus, Status

AA_ROW = "a/a"
"""The name of the A/A row, the baseline's second one in the passes: no variant's key can hold a slash."""


class Stored(BaseModel):
    """A part of a JSON file: a text is no number."""

    model_config = ConfigDict(strict=True)

    def as_dict(self, **given: Any) -> dict[str, Any]:
        """Return what the file holds; `given`: as for pydantic's `model_dump`."""
        return self.model_dump(exclude_defaults=True, **given)


class GpuReading(Stored):
    """What the GPU's own counters say of one process's runs of a cell, each only where the GPU offers it."""

    sm_clock_mhz: Number | None = None
    temperature_c: Number | None = None
    power_w: Number | None = None
    energy_j: Number | None = None
    window_seconds: Amount | None = None
    busy_percent: Number | None = None
    throttling: str | None = None
    other_gpu_processes: Count | None = None


class Profile(Stored):
    """An average run under the profiler; `kernels`: milliseconds by name, the longest first."""

    kernel_launches: Amount
    gpu_busy_ms: Amount
    kernels: dict[str, Amount]


class Evidence(Stored):
    """What a session shows of its device, precision, threads; `product_weights`: elements of GEMM weights by type."""

    device: list[str] = []
    providers: list[str] = []
    nodes_placed: dict[str, int] = {}
    operators_elsewhere: dict[str, int] = {}
    """Those that another provider than the first one runs."""
    provider_options: dict[str, str] = {}
    weight_bytes: dict[str, int] = {}
    product_weights: dict[str, int] = {}
    cpu_threads: int | None = None
    matmul_precision: str | None = None
    convolutions_in_tf32: bool | None = None
    attention: str | None = None
    compile: str | None = None
    uncompiled_calls: int | None = None
    captures: int | None = None
    captures_mib: Number | None = None
    precision_hint: str | None = None
    streams: int | None = None
    nodes: int | None = None
    operators: dict[str, int] = {}


class Work(Stored):
    """Tokens, and pairs of tokens, batch by batch of a workload epoch; `data_tokens`: a sentence's, over all data."""

    given_tokens: list[Count]
    given_pairs: list[Count]
    computed_tokens: list[Count]
    computed_pairs: list[Count]
    data_tokens: Latency | None = None


class Cell(Stored):
    """A variant at one batch size."""

    status: Status
    reason: str = ""


class BlockTimes(Stored):
    """What each block of a cell gave: its pass, its process, the median and the mean of its calls."""

    passes: list[int]
    processes: list[int]
    block_p50_ms: list[Latency]
    block_mean_ms: list[Latency]

    @model_validator(mode="after")
    def one_figure_a_block(self) -> Self:
        if not len(self.passes) == len(self.processes) == len(self.block_p50_ms) == len(self.block_mean_ms):
            raise ValueError(f"{len(self.passes)} passes; processes, block_p50_ms or block_mean_ms of another number")
        return self


class TimedCell(BlockTimes, Cell):
    """A cell with its figures: measured, or rejected for what they show.

    `part_p95_ms`: of parts of its passes.  `gpu`, `gpu_mib`, `profile` and `operators`: of a process that ran alone,
    for rows that may be a pick.  `latencies_ms`: the single calls of each block, for a CSV of their own.
    """

    p50_ms: Latency
    p95_ms: Latency | None = None
    mean_ms: Latency
    samples_per_s: Latency
    work: Work
    runs: Count
    part_p95_ms: list[Latency] = []
    max_abs_diff: Amount | None = None
    relative_error: Amount | None = None
    agreement: Number | None = None
    checked_sentences: Count | None = None
    proof: str | None = None
    gpu: GpuReading | None = None
    gpu_runs: Count | None = None
    gpu_mib: Number | None = None
    profile: Profile | None = None
    operators: dict[str, Amount] = {}
    latencies_ms: list[list[float]] = []

    @model_validator(mode="after")
    def a_run_a_block(self) -> Self:
        if self.runs < len(self.passes):
            raise ValueError(f"{self.runs} runs in {len(self.passes)} blocks")
        return self


def _kind(cell: Any) -> str:
    if isinstance(cell, dict):
        return "<timed>" if "p50_ms" in cell or cell.get("status") == "measured" else "<untimed>"
    return "<timed>" if isinstance(cell, TimedCell) else "<untimed>"


AnyCell = Annotated[Annotated[TimedCell, Tag("<timed>")] | Annotated[Cell, Tag("<untimed>")], Discriminator(_kind)]


class Process(Stored):
    """What one process of a variant took beside its blocks; `is_alone`: no other ran, and nothing was compiled."""

    process: Count = 0
    is_alone: bool = False
    unfinished: str = ""
    load_seconds: Amount | None = None
    start_seconds: Amount | None = None
    first_run_ms: Amount | None = None
    peak_host_mib: Amount | None = None
    peak_gpu_mib: Number | None = None
    warm_up_gpu_mib: Number | None = None


class Labels(Stored):
    """What a row and the fp32 reference get right of all labelled sentences."""

    labelled: Annotated[int, Field(ge=1)]
    right: Count
    reference_right: Count
    only_reference: Count
    only_row: Count


class EngineRecord(Stored):
    """artifacts/engines/KEY/build.json; `folder`: where its engine lies, `machine`: which one built it."""

    status: Literal["built", "skipped", "rejected", "failed"]
    reason: str = ""
    folder: str = ""
    build_seconds: Amount | None = None
    session_without_cache_seconds: Amount | None = None
    seconds_by_batch_size: dict[str, Amount] = {}
    engine_bytes: Count | None = None
    tensorrt: str | None = None
    gpu: str | None = None
    machine: str | None = None


class PassConditions(Stored):
    """What a pass met: other load, stops by a quota, the fixed loop's time and the GPU's counters."""

    number: Count
    seconds: Amount
    other_load_cores: Amount
    quota_throttled_seconds: Number
    host_loop_ms: Latency
    gpu: GpuReading | None = None


class TimingSession(Stored):
    """The passes of a report, the A/A row, and rows to compare through; `cut_short`: why the passes ended early."""

    id: str
    machine: str = ""
    seed: int
    passes: list[PassConditions]
    seconds: dict[Literal["start", "passes", "calls"], Amount] = {}
    cut_short: str = ""
    twin: dict[str, BlockTimes]
    anchors: dict[str, dict[str, BlockTimes]]


class Report(Stored):
    """artifacts/samples/KEY.json; `cells` by batch size."""

    cells: dict[str, AnyCell]
    evidence: Evidence = Evidence()
    accuracy: Labels | None = None
    processes: list[Process]
    remark: str = ""
    engine: EngineRecord | None = None
    session: TimingSession | None = None
    failure: str = ""
    fingerprint: str = ""

    def timed(self) -> dict[str, TimedCell]:
        """Return the cells that have figures, measured or rejected, by batch size."""
        return {size: cell for size, cell in self.cells.items() if isinstance(cell, TimedCell)}

    def measured(self) -> dict[str, TimedCell]:
        return {size: cell for size, cell in self.timed().items() if cell.status == "measured"}


class LoadFigures(Stored):
    """What came of one load: requests, batches, and how busy the sessions and the GPU were."""

    queries: Annotated[int, Field(ge=1)]
    mean_batch: Amount
    busy_share: Amount
    tokens_computed: Amount | None = None
    gpu: GpuReading | None = None


class Offline(LoadFigures):
    """All requests at once."""

    per_s: Latency


class SingleStream(LoadFigures):
    """One request after another."""

    is_overloaded: bool
    p50_ms: Latency
    p95_ms: Latency
    p99_ms: Latency


class RatePoint(SingleStream):
    """A trial of a `rate`: `sent_per_s` came of it; `number`: of its pass, `keeps`: its p99 was within the budget."""

    number: Count = 0
    rate: Latency
    keeps: bool
    late: Count
    sent_per_s: Latency
    answered_per_s: Amount | None = None


class ServingProcess(Stored):
    """What one serving process of a row did; both ends of the curve are of the first one."""

    process: Count
    points: Annotated[list[RatePoint], Field(min_length=1)]
    shapes: Count | None = None
    late_captures: int
    peak_host_mib: Amount | None = None
    gpu_mib: Number | None = None
    single_stream: SingleStream | None = None
    offline: Offline | None = None


class NoopProcess(Stored):
    """What the no-op backend did: `points` only where it was measured."""

    status: ServingStatus
    reason: str = ""
    points: list[RatePoint] = []


class ServingSession(Stored):
    """The passes that a row was served in; `null`: the no-op backend beside it, `cut_short`: why they ended early."""

    id: str
    machine: str = ""
    seed: int
    null: NoopProcess | None = None
    passes: list[PassConditions] = []
    cut_short: str = ""


class ServingSettings(Stored):
    """What a row is served with; `cpu_threads`: of each session, where it computes on the CPU."""

    model_config = ConfigDict(strict=True, frozen=True)

    in_flight: Annotated[int, Field(ge=1)]
    max_batch: Annotated[int, Field(ge=1)]
    instances: Annotated[int, Field(ge=1)]
    cpu_threads: Annotated[int, Field(ge=1)] | None = None

    def text(self) -> str:
        """Write them: batches of at most 8, 2 in flight, 2 sessions, 1 thread each."""
        many, each = ("s", " each") if self.instances > 1 else ("", "")
        threads = f", {self.cpu_threads} thread{'s' * (self.cpu_threads > 1)}{each}" if self.cpu_threads else ""
        return (
            f"batches of at most {self.max_batch}, {self.in_flight} in flight, {self.instances} session{many}{threads}"
        )


class SettingsTrial(Stored):
    """One trial of settings at a rate; `reason`: why there was none.  An overloaded one has no p99."""

    settings: ServingSettings
    rate: Latency | None = None
    p99_ms: Latency | None = None
    keeps: bool = False
    reason: str = ""


class ServingSearch(Stored):
    """The search for better settings: the best (None: the row's), and what they did in its passes or why nothing."""

    trials: list[SettingsTrial] = []
    ended: str = ""
    settings: ServingSettings | None = None
    processes: list[ServingProcess] = []
    reason: str = ""


class Served(Stored):
    """artifacts/served/KEY.json."""

    status: ServingStatus
    reason: str = ""
    max_abs_diff: Amount | None = None
    relative_error: Amount | None = None
    agreement: Number | None = None
    checked_sentences: Count | None = None
    requests: Count | None = None
    replayed_batches: Count | None = None
    processes: list[ServingProcess]
    closed_loop_per_s: Latency | None = None
    expected_per_s: Amount | None = None
    session: ServingSession | None = None
    budget_ms: Latency
    max_batch: Annotated[int, Field(ge=1)]
    max_delay_ms: Amount
    instances: Annotated[int, Field(ge=1)]
    in_flight: Annotated[int, Field(ge=1)] = 1
    input: Literal["tokens", "text"] = "tokens"
    tokenizer_threads: Count | None = None
    search: ServingSearch | None = None
    failure: str = ""
    fingerprint: str = ""

    @model_validator(mode="after")
    def both_ends_are_known(self) -> Self:
        if self.processes and not any(each.single_stream and each.offline for each in self.processes):
            raise ValueError("processes: none with single_stream and offline")
        return self

    def ends(self) -> tuple[SingleStream, Offline]:
        """Return what came of requests one after another, and of all at once; StopIteration if nothing was."""
        found = [(each.single_stream, each.offline) for each in self.processes]
        return next((single, offline) for single, offline in found if single and offline)


class TokenizingTime(Stored):
    """How long a tokenizer takes for so many sentences, in one thread and in all that it has."""

    batch_size: Annotated[int, Field(ge=1)]
    one_thread_ms: Latency
    ms: Latency


class ServedText(Served):
    """artifacts/served_text/DEVICE.json: the row that sustained most requests, served from text with these `settings`.

    `tokens_per_s`: what it sustained from tokens, in the session `tokens_session`.
    """

    variant: str = ""
    settings: ServingSettings | None = None
    tokens_session: str = ""
    tokens_per_s: Latency | None = None
    tokenizing: list[TokenizingTime] = []


def rate_text(per_s: float) -> str:
    """Write a rate, a second, without an exponent: 0.042, 38.2, 1205."""
    if per_s < 1:
        return f"{per_s:.2g}"
    return f"{per_s:.1f}" if per_s < 100 else f"{per_s:.0f}"
