"""What a measuring process asks of a runtime."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from bench.core.model_inputs import AnyBatch, Padding
from bench.core.reports import Evidence

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Logits: TypeAlias = "NDArray[np.float32]"


class Unavailable(Exception):
    """The runtime cannot run on this machine; its rows are `skipped` with this reason."""


class Unfit(Exception):
    """The runtime runs here, but does not take this model; its rows are `rejected` with this reason."""


@dataclass(frozen=True)
class SessionSpec:
    """A variant, as a runtime loads it."""

    device: str
    precision: str
    graph: Path
    options: dict[str, str | bool | int]
    batch_sizes: list[int]
    sequence_length: int
    cpu_threads: int
    padding: Padding = "fixed"
    multiple_of: int = 1
    engine: Path | None = None
    engine_options: dict[str, Any] = field(default_factory=dict)
    in_flight: int = 1
    """Batches that may be submitted and not waited for yet."""
    calibration: Path | None = None
    """Where the sentences lie whose activations FP8's scales come from."""
    calibration_sentences: int = 1


@dataclass(frozen=True)
class Computed:
    """The work of a runtime for one batch, padding included."""

    shape: tuple[int, ...]  # what kernels, captures and engines are made for
    tokens: int  # those that go through the layers
    pairs: int  # of tokens whose attention is computed


class Pending(Protocol):
    """A batch that was submitted."""

    def result(self) -> Logits:
        """Wait for its float32 logits `[batch, labels]`, and return them."""


@dataclass(frozen=True)
class Deferred:
    """A batch that runs once somebody waits for it, in the thread of who does."""

    session: "Session"
    batch: AnyBatch

    def result(self) -> Logits:
        return self.session.run(self.batch)


class Session(ABC):
    """A loaded model: host arrays in, host logits out; by default one for all shapes, always ready."""

    is_for_one_batch_size: bool = False
    """Whether each batch size has a session of its own, whose memory and load time are its own too."""

    is_of_fixed_sizes: bool = False
    """Whether it is compiled or captured for the batch sizes of its spec: other batches are then filled up to one."""

    def prepare(self, batch_size: int) -> None:  # noqa: ARG002  (for those who need it)
        """Open what this batch size needs and is not open yet; it is then ready for its first run."""
        return

    @abstractmethod
    def run(self, batch: AnyBatch) -> Logits:
        """Return float32 logits `[batch, labels]`; with padding `none` the batch is a PackedBatch."""

    def submit(self, batch: AnyBatch) -> Pending:
        """Begin a batch, from any thread; at most `in_flight` of the spec are begun and not waited for.

        A session that computes nothing unless somebody waits has its batch laid out meanwhile, no more.
        """
        return Deferred(self, batch)

    def computed(self, batch: AnyBatch) -> Computed:
        """Return what `run` computes for a batch: arrays `[batch, length]` as they are."""
        sentences, length = batch.shape
        return Computed(batch.shape, sentences * length, sentences * length * length)

    def free_cached_memory(self) -> None:
        """Give cached device memory back after a batch size that did not fit."""
        return

    def operator_ms(self, batches: Sequence[AnyBatch]) -> dict[str, float]:  # noqa: ARG002  (CPU rows)
        """Return the milliseconds that each kind of operator takes on the CPU, summed over `batches`; never timed."""
        return {}

    @abstractmethod
    def evidence(self) -> Evidence:
        """Return what the session shows of its device, precision and threads, read back from the runtime."""
