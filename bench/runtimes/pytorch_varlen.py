"""PyTorch without padding: packed sentences, attention by FlashAttention's kernel for unlike lengths (varlen).

A call is one CUDA graph, copies in and out included, so that its time on the host is that of filling one buffer and of
one launch.  A graph is made for a bucket: so many tokens and so many sentences at most, whatever their lengths; of each
bucket there is one for each batch that may be in flight, with page-locked buffers of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from bench.core.model_inputs import AnyBatch, PackedBatch, Padding
from bench.core.reports import Evidence
from bench.runtimes.base.session import Computed, Logits, Pending, Session, SessionSpec, Unavailable

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from bench.runtimes.base import fp8, packed, torch_model

LIBRARIES = ("torch", "transformers")
SUPPORTED = frozenset({("cuda", "fp16"), ("cuda", "fp8")})
PADDINGS: tuple[Padding, ...] = ("none",)
OPTIONS: dict[str, tuple[str | bool | int, ...]] = {"compile": (True, False)}
FLASH_CAPABILITY = (8, 0)
"""FlashAttention 2 needs Ampere or newer (its README)."""
SENTENCE_STEPS = (1, 4, 16, 64, 256)
TOKEN_STEP, LARGE_TOKEN_STEP = 64, 256
LARGE = 2048
"""Tokens from which on buckets are of the large step: few graphs, and never more than an eighth of a row unused."""
WARM_UPS = 2
CALIBRATED_TOGETHER = 16
"""Sentences of a row that FP8 is calibrated with."""
MIB = 2**20


def import_libraries() -> None:
    global fp8, packed, torch, torch_model  # noqa: PLW0603  (no timed call imports)
    import torch

    from bench.runtimes.base import fp8, packed, torch_model


def open_session(spec: SessionSpec) -> Session:
    """Load the classifier from the folder `spec.graph`; Unavailable if it, PyTorch or the GPU does not take rows."""
    import_libraries()
    is_compiled = bool(spec.options.get("compile"))
    torch_model.check_gpu(is_compiled)
    if torch.cuda.get_device_capability() < FLASH_CAPABILITY:
        found = ".".join(map(str, torch.cuda.get_device_capability()))
        raise Unavailable(f"FlashAttention needs compute capability 8.0, this GPU has {found}")
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        raise Unavailable(f"PyTorch {torch.__version__} has no varlen_attn: it came with 2.10") from None
    torch.set_num_threads(spec.cpu_threads)
    torch.set_float32_matmul_precision("highest")
    model = torch_model.load_model(spec)
    packed.join_projections(model)
    classifier = packed.PackedClassifier(model, spec.sequence_length, varlen_attn)
    if spec.precision == "fp8":
        fp8.quantize(classifier, calibration_rows(classifier, spec))
        torch.cuda.empty_cache()
    return VarlenSession(classifier, is_compiled, spec.in_flight)


def calibration_rows(classifier: packed.PackedClassifier, spec: SessionSpec) -> Iterator[tuple[torch.Tensor, ...]]:
    """Yield the arguments of `PackedClassifier.logits` for INT8's calibration sentences, without unused tokens."""
    import numpy as np

    from bench.inputs.batches import pad
    from bench.inputs.encoded import load_encoded

    assert spec.calibration
    sentences = load_encoded(spec.calibration).first(spec.calibration_sentences)
    for begin in range(0, len(sentences), CALIBRATED_TOGETHER):
        batch = pad(sentences, np.arange(begin, min(begin + CALIBRATED_TOGETHER, len(sentences))), "none")
        assert isinstance(batch, PackedBatch)
        sizes = sizes_of(batch.shape, classifier.longest)
        memory = np.zeros(sum(sizes), dtype=np.int32)
        HostRow(memory, batch.shape, classifier.longest, classifier.offset).fill(batch)
        yield arguments(torch.from_numpy(memory).to(classifier.model.device), sizes)


def arguments(row: torch.Tensor, sizes: Sequence[int]) -> tuple[torch.Tensor, ...]:
    """Return the arguments of `PackedClassifier.logits` that a row's numbers are."""
    ids, positions, types, starts, first = row.split(sizes)
    return ids.unsqueeze(0), positions.unsqueeze(0), types.unsqueeze(0), starts, first


class VarlenSession(Session):
    """Captured CUDA graphs for each bucket of tokens and sentences, captured on its first run."""

    def __init__(self, classifier: packed.PackedClassifier, is_compiled: bool, in_flight: int = 1) -> None:
        self._classifier = classifier
        self._places = range(in_flight)
        self._submitted = 0
        self._uncompiled_calls = 0
        self._is_compiled = is_compiled
        self._logits: Callable[..., torch.Tensor] = self._counted
        if is_compiled:
            torch._dynamo.config.cache_size_limit = 64
            self._logits = torch.compile(self._counted, dynamic=True, fullgraph=True)
        self._graphs: dict[tuple[int, int], list[CapturedRow]] = {}
        self._pool = torch.cuda.graph_pool_handle()
        self._capture_bytes = 0

    def run(self, batch: AnyBatch) -> Logits:
        return self.submit(batch).result()

    def submit(self, batch: AnyBatch) -> Pending:
        """Launch the batch's graph; of two in flight each has a place of its own, in turns."""
        assert isinstance(batch, PackedBatch)
        bucket = bucket_of(*batch.shape)
        if bucket not in self._graphs:
            self._graphs[bucket] = self._captured(bucket)
        self._submitted += 1
        return self._graphs[bucket][self._submitted % len(self._places)].submit(batch)

    def _captured(self, bucket: tuple[int, int]) -> list[CapturedRow]:
        before = torch.cuda.memory_reserved()
        with torch.inference_mode(), torch_model.compiling("cuda"):
            rows = [CapturedRow(self._logits, bucket, self._classifier, self._pool) for _ in self._places]
        self._capture_bytes += torch.cuda.memory_reserved() - before
        return rows

    def computed(self, batch: AnyBatch) -> Computed:
        """Return the bucket; of its unused tokens sentences are made that nothing is taken from."""
        assert isinstance(batch, PackedBatch)
        sentences, tokens = bucket_of(*batch.shape)
        unused = split(tokens - len(batch.ids), self._classifier.longest)
        return Computed((sentences, tokens), tokens, int((batch.lengths**2).sum()) + sum(part**2 for part in unused))

    def free_cached_memory(self) -> None:
        torch.cuda.empty_cache()

    def evidence(self) -> Evidence:
        return Evidence(
            **torch_model.shown_by(self._classifier.model),
            attention="varlen_attn",
            compile="any shape" if self._is_compiled else "no",
            captures=len(self._graphs),
            captures_mib=self._capture_bytes / MIB,
            uncompiled_calls=self._uncompiled_calls if self._is_compiled else None,
        )

    def _counted(self, *arguments: torch.Tensor) -> torch.Tensor:
        if not torch.compiler.is_compiling():  # compiled code holds no trace of this branch
            self._uncompiled_calls += 1
        return self._classifier.logits(*arguments)


def bucket_of(sentences: int, tokens: int) -> tuple[int, int]:
    """Return (sentences, tokens), both rounded up to what a graph is made for."""
    slots = next((step for step in SENTENCE_STEPS if step >= sentences), -(-sentences // 256) * 256)
    step = TOKEN_STEP if tokens <= LARGE else LARGE_TOKEN_STEP
    return slots, -(-tokens // step) * step


def split(tokens: int, longest: int) -> list[int]:
    """Return the lengths of the sentences that unused tokens are made to: none is longer than `longest`."""
    return [longest] * (tokens // longest) + ([tokens % longest] if tokens % longest else [])


class CapturedRow:
    """The buffers of one bucket and the graph that copies in, computes and copies out."""

    def __init__(
        self,
        logits: Callable[..., torch.Tensor],
        bucket: tuple[int, int],
        classifier: packed.PackedClassifier,
        pool: Any,
    ) -> None:
        sizes = sizes_of(bucket, classifier.longest)
        self._host = torch.zeros(sum(sizes), dtype=torch.int32, pin_memory=True)
        self._device = torch.zeros(sum(sizes), dtype=torch.int32, device="cuda")
        self._row = HostRow(self._host.numpy(), bucket, classifier.longest, classifier.offset)
        one = torch.ones(1, dtype=torch.int64).numpy()
        self._row.fill(PackedBatch(one, one))

        def step() -> torch.Tensor:
            self._device.copy_(self._host, non_blocking=True)
            return logits(*arguments(self._device, sizes))

        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                made = step()
        torch.cuda.current_stream().wait_stream(stream)
        self._logits = torch.zeros(made.shape, dtype=torch.float32, pin_memory=True)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=pool):
            self._logits.copy_(step(), non_blocking=True)
        self._done = torch.cuda.Event()
        self._sentences = 0

    def submit(self, batch: PackedBatch) -> Pending:
        """Launch the graph on a batch; the one before must have been waited for."""
        self._row.fill(batch)
        self._sentences = len(batch)
        self._graph.replay()
        self._done.record()
        return self

    def result(self) -> Logits:
        """Wait for logits `[sentences, labels]`, and return them."""
        self._done.synchronize()
        host: Logits = self._logits[: self._sentences].numpy().copy()
        return host


def sizes_of(bucket: tuple[int, int], longest: int) -> tuple[int, ...]:
    """Return how many numbers a row has of each kind: ids, positions, types, starts, places of first tokens."""
    slots, tokens = bucket
    unused = -(-LARGE_TOKEN_STEP // longest)
    return tokens, tokens, tokens, slots + unused + 1, slots


class HostRow:
    """The numbers of a row in one piece of host memory, int32: what the graph's copy takes to the GPU."""

    def __init__(self, memory: NDArray[np.int32], bucket: tuple[int, int], longest: int, offset: int) -> None:
        """`offset`: the number of a sentence's first position."""
        import numpy as np

        self._offset = offset
        self._places = np.arange(bucket[1])
        parts = np.split(memory, np.cumsum(sizes_of(bucket, longest))[:-1])
        self.ids, self.positions, self.types, self.starts, self.first = parts
        self._unused = longest * np.arange(1, len(self.starts))

    def fill(self, batch: PackedBatch) -> None:
        """Write a batch; unused tokens become sentences of their own, none of which begins beyond the row."""
        (sentences, used), tokens = batch.shape, len(self.ids)
        ends = batch.lengths.cumsum()
        self.ids[:used], self.ids[used:] = batch.ids, 0
        begins = ends - batch.lengths
        self.positions[:used] = self._places[:used] - begins.repeat(batch.lengths) + self._offset
        self.positions[used:] = self._offset
        if batch.types is not None:
            self.types[:used] = batch.types
        self.starts[1 : sentences + 1] = ends
        unused = used + self._unused[: len(self.starts) - sentences - 1]
        self.starts[sentences + 1 :] = unused.clip(None, tokens)
        self.starts[: len(self.first)].clip(None, tokens - 1, out=self.first)
