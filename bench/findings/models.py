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
    """Two rows compared at one batch size; one row at two; or under load, without batch sizes."""

    first: str
    second: str
    comparison: Comparison
    first_batch: int | None = None
    second_batch: int | None = None

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


Kind = Literal[
    "precision", "padding", "runtime", "tensorrt", "options", "batch", "served", "host", "text", "http", "settings"
]
"""What a finding is about: a claim on pairs of rows, then what the profile and requests under load show."""


class Traits(Finding):
    """What explains a row's time: its work, roofline and profile, and what it costs.

    `tokens`: computed for a sentence.  `gpu_share`: of p50 the GPU works; `gemm_share`: of the operators' time on the
    CPU.  `pays_after`: calls until set-up cost is repaid, against the baseline.
    """

    variant: str
    tokens: float | None
    limit_ms: float | None
    limit_share: float | None
    limited_by: str | None
    gpu_share: float | None
    kernels: int | None
    gemm_share: float | None
    accuracy_loss: float | None
    accuracy_loss_p: float | None
    pays_after: int | None


class Claim(Finding):
    """A common assumption on one device, tested: by `tested` comparisons, of which `deciding` led to the result.

    `change`: what the first of each pair has in place of what the second has.  `shown`: the fastest row's comparison
    at the smallest and the largest batch size, or the most refuting one; `traits`: of both rows of each of these.
    `widest`: of the undecided ones that of the largest difference that could not be told.
    `sure`: the logarithm of the effect that is sure at 95%, 0 for none.
    """

    kind: Kind
    device: Device
    claim: str
    change: tuple[str, str]
    result: Result
    tested: int
    faster: int
    deciding: list[Pair]
    undecided: int
    widest: Pair | None
    shown: list[Pair]
    traits: list[tuple[Traits, Traits]]
    sure: float


class Observation(Finding):
    """One finding of the notes; `weight`, by which they are ranked: the logarithm of the effect, times how sure it is.

    `claim`: for kinds that compare rows; `traits`: for `host`; other kinds are about the device's `served`.
    """

    kind: Kind
    device: Device
    weight: float
    claim: Claim | None = None
    traits: Traits | None = None


class PrecisionSpeedup(Finding):
    """How many times as fast as fp32 a precision is at each batch size, in one runtime without further options."""

    runtime: str
    padding: str
    precision: Precision
    by_batch: dict[int, Comparison]


class Noise(Finding):
    """How much of what was measured is noise.

    `controls`: how the baseline came out against itself at each batch size.
    """

    control: str | None
    controls: dict[int, Comparison]
    is_voided: bool
    other_load_cores: float


Busy = Literal["quota", "gpu shared", "cores busy"]
Disturbed = Literal["cut short", "unstable", "throttled", Busy, "clock unstable", "lengths", "unfinished", "remark"]


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


class Widespread(Finding):
    """What disturbed more than half of a device's cells, or cut its timing short; `most`: the largest value."""

    kind: Disturbed
    cells: int
    of: int
    most: float | str


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


class Searched(Finding):
    """The best settings that a search found for a row, measured beside its own: `gain` against these.

    `tried`: how many settings; `ended`: why the search ended early; `reason`: why there is no rate.
    """

    variant: str
    settings: str | None
    requests_per_s: float | None
    low: float | None
    high: float | None
    gain: Comparison | None
    ended: str | None
    reason: str | None
    tried: int


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

    `margin`: the smallest and the largest difference that decides nothing.  `rejected`: variants that were timed.
    """

    device: Device
    margin: tuple[float, float] | None
    fastest: list[Fastest]
    picks: list[Pick]
    precisions: list[PrecisionSpeedup]
    noise: Noise | None
    disturbances: list[Disturbance]
    widespread: list[Widespread]
    rejected: list[LeftOut]
    not_timed: list[LeftOut]
    served: Served | None


class Findings(Finding):
    """results/findings.json: what a run shows, the weightiest observation first, and a panel a device."""

    schema_version: Literal[2] = 2
    observations: list[Observation]
    undecided: list[Claim]
    panels: list[Panel]
