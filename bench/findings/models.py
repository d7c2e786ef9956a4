"""What a run shows: the types of results/findings.json, from which docs/findings.schema.json is made.

Latencies are in ms, rates a second, durations in seconds, memory in MiB, shares and losses between 0 and 1.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from bench.core.params import Device, Precision
from bench.statistics.intervals import Verdict
from bench.summary.comparisons import Comparison

Result = Literal["upheld", "refuted", "undecided", "not tested"]


class Finding(BaseModel):
    """A part of the findings: never changed, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Cell(Finding):
    """A measured row at one batch size."""

    variant: str
    batch_size: int
    p50_ms: float
    samples_per_s: float


class Fastest(Finding):
    """The cell with the lowest p50 at a batch size, and those that it is not surely faster than, fastest first.

    `smallest`: the smallest difference to these that the run could have told; None where its width is not the reason.
    """

    cell: Cell
    ties: list[Cell]
    smallest: float | None = None
    is_only: bool
    baseline: str | None
    speedup: float | None


class Pair(Finding):
    """Two rows compared at one batch size; one row at two; or under load, without batch sizes.

    `host_bound`: the first one's time on the GPU and p50, where the host takes the larger part of it.
    """

    first: str
    second: str
    comparison: Comparison
    first_batch: int | None = None
    second_batch: int | None = None
    host_bound: tuple[float, float] | None = None

    @property
    def verdict(self) -> Verdict:
        """Return faster, slower, tie or inconclusive; a tie that only noise makes is inconclusive."""
        return "inconclusive" if self.comparison.is_within_noise else self.comparison.verdict


class Pick(Finding):
    """The cell with the most throughput of those whose p95 and memory are within the limits; None: none is known to.

    `p95_high_ms`: the upper limit of its p95, None from few runs.  `ties`: cells that may have as much throughput,
    compared with it.  `unknown`: cells that may fit as well or, without a pick, might fit, but whose p95 or memory is
    not known.
    """

    budget_ms: float
    cell: Cell | None
    p95_high_ms: float | None
    ties: list[Pair]
    unknown: list[Cell]


class FromText(Finding):
    """What the row that sustains most from tokens sustains from text, and its tokenizer on so many threads.

    `tokenizer_cores`: from so many on the tokenizer is not the bottleneck.  `shares`: of a call that tokenizing takes,
    in the smallest batch and in the largest.
    """

    variant: str
    requests_per_s: float | None
    is_lower_bound: bool
    reason: str | None
    of_tokens: float | None
    threads: int
    tokenizer_per_s: float | None
    tokenizer_cores: int | None
    is_bottleneck: bool
    shares: tuple[float, float] | None


class OverHttpLoad(Finding):
    """Requests with so many texts each; `of_text`: of the texts/s in the measuring process, those over HTTP.

    `busy_share`: of the time the sessions ran; `reason`: why no rate is sustained.
    """

    texts: int
    requests_per_s: float | None
    reason: str
    of_text: float | None
    control_per_s: float | None
    is_client_bound: bool
    busy_share: float | None = None
    server_cores: float | None = None
    client_cores: float | None = None


class OverHttp(Finding):
    """What a row sustains in its deployed folder over HTTP, beside the same in the measuring process; right labels."""

    variant: str
    tokens_per_s: float | None
    text_per_s: float | None
    loads: list[OverHttpLoad]
    right: int | None = None
    reference_right: int | None = None
    labelled: int | None = None


class Assumption(Finding):
    """A common assumption, tested: by `tested` comparisons, of which `deciding` led to the result."""

    claim: str
    result: Result
    tested: int = 0
    deciding: list[Pair] = []


class PrecisionSpeedup(Finding):
    """How many times as fast as fp32 a precision is at each batch size, in one runtime without further options."""

    runtime: str
    padding: str
    precision: Precision
    by_batch: dict[int, Comparison]


class ByVariant(Finding):
    """What a variant's batch sizes show together; `ends` are its smallest and its largest one.

    `gemm_share`: of the operators' time on the CPU; `gpu_share`: of p50 the GPU works.  `limit_share`: how close it
    comes to what the measured peaks allow, at most.  `break_even`: after how many calls the set-up cost has paid for
    itself at a batch size, against the baseline; `break_even_cuda`: against ONNX Runtime's CUDA provider.
    """

    variant: str
    ends: list[int]
    best: Cell
    gemm_share: list[float]
    gpu_share: list[float]
    kernels: list[int]
    limit_share: float | None
    limited_by: str | None
    cold_start_seconds: float | None
    cuda_graphs: int | None
    warm_up_gpu_mib: float | None
    setup_seconds: float | None
    break_even: dict[int, int]
    break_even_cuda: dict[int, int]


class Energy(Finding):
    """A cell's energy a sample, idle power included."""

    cell: Cell
    mj_per_sample: float


class Noise(Finding):
    """How much of what was measured is noise.

    `controls`: how the baseline came out against itself at each batch size.
    """

    control: str | None
    controls: dict[int, Comparison]
    is_voided: bool
    other_load_cores: float


Disturbed = Literal[
    "cut short",
    "unstable",
    "throttled",
    "quota",
    "gpu shared",
    "cores busy",
    "clock unstable",
    "lengths",
    "unfinished",
    "remark",
]


class Remark(Finding):
    """What a reader must know of a row's rate: requests/s of the no-op backend, captures while serving, or p50 of
    SingleStream over that of batch 1.
    """

    kind: Literal["generator-bound", "saturates", "lower bound", "late captures", "queue"] | Disturbed
    value: float | str | None = None


class Disturbance(Remark):
    """What disturbed a cell: in words how it was cut short or jumps, the reason of throttling, seconds, cores, the
    fixed loop's slowest time over its fastest, the mean length of its sentences over that of the data, or what became
    of the passes that are not timed.
    """

    variant: str
    batch_size: int


class LeftOut(Finding):
    """Variants and batch sizes that are no part of a comparison, for one reason; none for all sizes of a variant."""

    status: str
    reason: str
    variants: dict[str, list[int]]


class Sustained(Finding):
    """A row under load: requests/s within the budget, beside the first one's."""

    variant: str
    requests_per_s: float
    vs_best: Comparison | None
    remarks: list[Remark]


class Alternative(Finding):
    """What a row sustains within a budget; `fewer`: the rows that surely sustain fewer requests than it does."""

    variant: str
    padding: str
    requests_per_s: float
    low: float | None
    high: float | None
    is_lower_bound: bool
    memory_mib: float | None
    accuracy_loss: float | None
    cost_per_million_requests: float | None
    fewer: list[str]


class Budget(Finding):
    """The rows that sustain a rate within a latency budget, most requests first."""

    budget_ms: float
    rows: list[Alternative]


class TriedSettings(Finding):
    """What a search tried of a row: the highest rate that met the SLO, the lowest that missed it, or why none was."""

    settings: str
    met_per_s: float | None
    missed_per_s: float | None
    reason: str | None


class Searched(Finding):
    """The best settings that a search found for a row, measured beside its own: `gain` against these.

    `ended`: why the search ended early; `reason`: why there is no rate.
    """

    variant: str
    settings: str | None
    requests_per_s: float | None
    low: float | None
    high: float | None
    gain: Comparison | None
    ended: str | None
    reason: str | None
    tried: list[TriedSettings]


class Served(Finding):
    """A device's rows under load, most requests first, and within other budgets.

    `no_op_per_s`: what generator, queue and Python sustain by themselves.
    """

    budget_ms: float
    max_batch: int
    max_delay_ms: float
    instances: int
    in_flight: int = 1
    rows: list[Sustained]
    no_op_per_s: float | None
    from_text: FromText | None = None
    over_http: list[OverHttp] = []
    searched: list[Searched] = []
    budgets: list[Budget]
    not_served: list[LeftOut]


class Panel(Finding):
    """What the rows of one device show.

    `margin`: the smallest and the largest difference that decides nothing.  `paddings`: for each way to pad less its
    fastest row against the fastest of fixed length, at each batch size.  `tensorrt`: the fastest TensorRT row against
    ONNX Runtime's fastest CUDA row there.  `rejected`: variants that were timed.
    """

    device: Device
    margin: tuple[float, float] | None
    fastest: list[Fastest]
    picks: list[Pick]
    precisions: list[PrecisionSpeedup]
    paddings: dict[str, list[Pair]]
    tensorrt: list[Pair]
    variants: list[ByVariant]
    least_energy: Energy | None
    noise: Noise | None
    disturbances: list[Disturbance]
    rejected: list[LeftOut]
    not_timed: list[LeftOut]
    served: Served | None


class Findings(Finding):
    """results/findings.json: what a run shows, a panel a device."""

    schema_version: Literal[1] = 1
    assumptions: list[Assumption]
    panels: list[Panel]
