"""PyTorch: eager, compiled, and on the CPU dynamic INT8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bench.core.model_inputs import INPUT_NAMES, AnyBatch, IntArray, Padding
from bench.core.reports import Evidence
from bench.runtimes.base.session import Logits, Session, SessionSpec

if TYPE_CHECKING:
    import torch

    from bench.runtimes.base import torch_model

LIBRARIES = ("torch", "transformers")
SUPPORTED = frozenset(
    {("cpu", name) for name in ("fp32", "bf16", "int8")} | {("cuda", name) for name in ("fp32", "tf32", "fp16", "bf16")}
)
PADDINGS: tuple[Padding, ...] = ("fixed", "longest")
OPTIONS: dict[str, tuple[str | bool | int, ...]] = {"compile": ("default", "reduce-overhead", "max-autotune")}


def import_libraries() -> None:
    global torch, torch_model  # noqa: PLW0603  (no timed call imports, and whoever asks what is supported imports neither)
    import torch

    from bench.runtimes.base import torch_model


def open_session(spec: SessionSpec) -> Session:
    """Load the classifier from the folder `spec.graph` in the precision asked for."""
    import_libraries()
    is_compiled = "compile" in spec.options
    if spec.device == "cuda":
        torch_model.check_gpu(is_compiled)
    elif is_compiled:
        torch_model.check_compiler()
    torch.set_num_threads(spec.cpu_threads)
    if torch.get_num_interop_threads() != 1:
        torch.set_num_interop_threads(1)
    torch.set_float32_matmul_precision("high" if spec.precision == "tf32" else "highest")  # `high` allows TF32
    torch.backends.cudnn.allow_tf32 = spec.precision == "tf32"  # convolutions take TF32 unless told otherwise
    return (CompiledSession if is_compiled else EagerSession)(torch_model.load_model(spec), spec)


class EagerSession(Session):
    """The model as a user would call it, one kernel after another."""

    def __init__(self, model: Any, spec: SessionSpec) -> None:
        self._model = model
        self._spec = spec

    def run(self, batch: AnyBatch) -> Logits:
        with torch.inference_mode():
            logits = self._forward([torch.from_numpy(array).to(self._spec.device) for array in batch.arrays])
            host: Logits = logits.float().cpu().numpy()
        return host

    def _forward(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        logits: torch.Tensor = self._model(**dict(zip(INPUT_NAMES, inputs, strict=False))).logits
        return logits

    def free_cached_memory(self) -> None:
        torch.cuda.empty_cache()  # does nothing in a row of the CPU

    def operator_ms(self, batches: Sequence[AnyBatch]) -> dict[str, float]:
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            for batch in batches:
                self.run(batch)
        return {event.key: event.self_cpu_time_total / 1000 for event in profiler.key_averages()}

    def evidence(self) -> Evidence:
        return Evidence(
            **torch_model.shown_by(self._model),
            cpu_threads=torch.get_num_threads(),
            matmul_precision=torch.get_float32_matmul_precision(),
            convolutions_in_tf32=torch.backends.cudnn.allow_tf32,
            attention=getattr(self._model.config, "_attn_implementation", None),
            compile=str(self._spec.options.get("compile", "no")),
        )


class CompiledSession(EagerSession):
    """The model through torch.compile, one pair of buffers and one captured graph for each shape.

    With one length the code is compiled for each batch size; with lengths that differ it is compiled for all shapes.
    Host to host as every row: the one copy that takes both inputs to the device is part of a run.
    """

    is_of_fixed_sizes = True

    def __init__(self, model: Any, spec: SessionSpec) -> None:
        super().__init__(model, spec)
        self._buffers: dict[tuple[int, ...], InputBuffers] = {}
        self._uncompiled_calls = 0
        self._takes_boolean_mask = self._reads_boolean_mask()
        is_dynamic = spec.padding == "longest"
        mode = str(spec.options["compile"])
        self._compiled = torch.compile(self._from_stacked, mode=mode, dynamic=is_dynamic, fullgraph=True)
        torch._dynamo.config.cache_size_limit = max(64, 2 * len(spec.batch_sizes))

    def run(self, batch: AnyBatch) -> Logits:
        inputs, shape = batch.arrays, batch.shape
        with torch.inference_mode():
            if shape not in self._buffers:
                self._buffers[shape] = InputBuffers((len(inputs), *shape), self._spec.device)
            with torch_model.compiling(self._spec.device):
                host: Logits = self._compiled(self._buffers[shape].fill(inputs)).cpu().numpy()
        return host

    def evidence(self) -> Evidence:
        more = {"uncompiled_calls": self._uncompiled_calls, "captures": len(self._buffers)}
        return super().evidence().model_copy(update=more)

    def _from_stacked(self, stacked: torch.Tensor) -> torch.Tensor:
        if not torch.compiler.is_compiling():  # compiled code holds no trace of this branch
            self._uncompiled_calls += 1
        input_ids, mask, *types = stacked
        if self._takes_boolean_mask:
            mask = mask.bool()[:, None, None, :]
        return self._forward([input_ids, mask, *types]).float()

    def _reads_boolean_mask(self) -> bool:
        """Try whether the model reads a boolean 4-D mask rightly: nothing is then left to build in each call."""
        length = min(16, self._spec.sequence_length)
        ids = torch.arange(2 * length, device=self._spec.device).reshape(2, length) % self._model.config.vocab_size
        mask = torch.ones_like(ids)
        mask[1, length // 2 :] = 0
        with torch.inference_mode():
            try:
                required, got = (self._forward([ids, each]) for each in (mask, mask.bool()[:, None, None, :]))
            except Exception:  # what an architecture's own code raises on an unknown mask, or on ids of no sentence
                return False
        return got.shape == required.shape and bool(torch.allclose(got, required, rtol=0.02, atol=0.02))


class InputBuffers:
    """Fixed memory for the inputs of one shape: page-locked on the host, and on the device."""

    def __init__(self, shape: tuple[int, ...], device: str) -> None:
        """`shape`: `[inputs, batch, length]`."""
        self._host = torch.zeros(shape, dtype=torch.int64, pin_memory=device == "cuda")
        self._array = self._host.numpy()
        self._device = torch.zeros(shape, dtype=torch.int64, device=device)
        # CUDA graphs then read the inputs where they are, without a copy of their own.
        torch._dynamo.mark_static_address(self._device)

    def fill(self, inputs: Sequence[IntArray]) -> torch.Tensor:
        """Copy the inputs, int64 `[batch, length]` each, to the device in one piece; return them there."""
        for place, array in enumerate(inputs):
            self._array[place] = array
        return self._device.copy_(self._host, non_blocking=True)
