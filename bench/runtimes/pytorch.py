"""PyTorch: eager, compiled, and dynamic INT8 on the CPU."""

from __future__ import annotations

import importlib.util
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.core.model_inputs import INPUT_NAMES, Padding
from bench.runtimes.base.session import (
    Computed,
    Logits,
    Session,
    SessionSpec,
    TokenArray,
    Unavailable,
    computed_as_given,
)

if TYPE_CHECKING:
    import torch

LIBRARIES = ("torch", "transformers")
SUPPORTED = frozenset({("cpu", "fp32"), ("cpu", "int8"), ("cuda", "fp32"), ("cuda", "tf32"), ("cuda", "fp16")})
PADDINGS: tuple[Padding, ...] = ("fixed", "longest")
OPTIONS: dict[str, tuple[str | bool | int, ...]] = {"compile": ("default", "reduce-overhead", "max-autotune")}
TRIED_TOKENS = 16
MATMUL_PRECISION = {"tf32": "high"}
"""torch.set_float32_matmul_precision: `highest` keeps strict float32, `high` allows TF32."""


def import_libraries() -> None:
    """Import PyTorch and transformers: seconds, and much longer on a slow disk."""
    import torch  # noqa: F401
    from transformers import AutoModelForSequenceClassification  # noqa: F401


def open_session(spec: SessionSpec) -> Session:
    """Load the classifier from the folder `spec.graph` in the precision asked for."""
    import torch

    if spec.device == "cuda" and not torch.cuda.is_available():
        raise Unavailable("PyTorch sees no CUDA GPU (CPU build of PyTorch, or a driver that is too old)")
    if spec.device == "cuda" and "compile" in spec.options and importlib.util.find_spec("triton") is None:
        raise Unavailable("torch.compile needs Triton on the GPU, and it is not installed (pip has it for Linux alone)")
    torch.set_num_threads(spec.cpu_threads)
    if torch.get_num_interop_threads() != 1:
        torch.set_num_interop_threads(1)
    torch.set_float32_matmul_precision(MATMUL_PRECISION.get(spec.precision, "highest"))
    torch.backends.cudnn.allow_tf32 = spec.precision == "tf32"  # convolutions take TF32 unless told otherwise
    model = _load(spec)
    if "compile" in spec.options:
        return CompiledSession(model, spec)
    return EagerSession(model, spec)


def _load(spec: SessionSpec) -> Any:
    import torch
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    dtype = torch.float16 if spec.precision == "fp16" else torch.float32  # whatever the checkpoint was saved in
    model = AutoModelForSequenceClassification.from_pretrained(
        spec.graph, local_files_only=True, use_safetensors=True, dtype=dtype
    )
    model = model.eval().to(spec.device)
    if spec.precision != "int8":
        return model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, but torchao has no CPU path of comparable speed
        return torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)


class EagerSession:
    """The model as a user would call it, one kernel after another."""

    is_for_one_batch_size = False

    def __init__(self, model: Any, spec: SessionSpec) -> None:
        self._model = model
        self._device = spec.device
        self._spec = spec

    def prepare(self, batch_size: int) -> None:
        """One model takes every batch size; it is loaded."""

    def run(self, *inputs: TokenArray) -> Logits:
        import torch

        with torch.inference_mode():
            logits = self._forward([torch.from_numpy(array).to(self._device) for array in inputs])
            host: Logits = logits.float().cpu().numpy()
        return host

    def _forward(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        logits: torch.Tensor = self._model(**dict(zip(INPUT_NAMES, inputs, strict=False))).logits
        return logits

    def computed(self, *inputs: TokenArray) -> Computed:
        return computed_as_given(*inputs)

    def free_cached_memory(self) -> None:
        import torch

        if self._device == "cuda":
            torch.cuda.empty_cache()

    def operator_ms(self, batches: Sequence[tuple[TokenArray, ...]]) -> dict[str, float]:
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            for inputs in batches:
                self.run(*inputs)
        return {event.key: event.self_cpu_time_total / 1000 for event in profiler.key_averages()}

    def evidence(self) -> dict[str, Any]:
        import torch

        return {
            "device": sorted(
                {tensor.device.type for tensor in self._model.state_dict().values() if _is_tensor(tensor)}
            ),
            "weight_bytes": _weight_bytes(self._model),
            "product_weights": _product_weights(self._model),
            "cpu_threads": torch.get_num_threads(),
            "matmul_precision": torch.get_float32_matmul_precision(),
            "convolutions_in_tf32": torch.backends.cudnn.allow_tf32,
            "attention": getattr(self._model.config, "_attn_implementation", None),
            "compile": self._spec.options.get("compile", "no"),
        }


class CompiledSession(EagerSession):
    """The model through torch.compile, one compiled graph and one pair of buffers a batch size.

    Host to host as every row: the one copy that takes both inputs to the device is part of a run.
    """

    def __init__(self, model: Any, spec: SessionSpec) -> None:
        import torch

        super().__init__(model, spec)
        self._buffers: dict[int, InputBuffers] = {}
        self._uncompiled_calls = 0
        self._takes_boolean_mask = self._reads_boolean_mask()
        self._compiled = torch.compile(self._packed, mode=str(spec.options["compile"]), dynamic=False, fullgraph=True)
        torch._dynamo.config.cache_size_limit = max(64, 2 * len(spec.batch_sizes))

    def run(self, *inputs: TokenArray) -> Logits:
        import torch

        size = len(inputs[0])
        with torch.inference_mode():
            if size not in self._buffers:
                self._buffers[size] = InputBuffers((len(inputs), *inputs[0].shape), self._device)
            packed = self._buffers[size].fill(inputs)
            host: Logits = self._compiled(packed).cpu().numpy()
        return host

    def evidence(self) -> dict[str, Any]:
        return {**super().evidence(), "uncompiled_calls": self._uncompiled_calls}

    def _packed(self, packed: torch.Tensor) -> torch.Tensor:
        import torch

        if not torch.compiler.is_compiling():  # compiled code holds no trace of this branch
            self._uncompiled_calls += 1
        input_ids, mask, *types = packed
        if self._takes_boolean_mask:
            mask = mask.bool()[:, None, None, :]
        return self._forward([input_ids, mask, *types]).float()

    def _reads_boolean_mask(self) -> bool:
        """Tell whether the model reads a boolean 4-D mask rightly: nothing is then left to build in each call.

        Tried, not looked up: decoders would drop their causal mask, others read it the other way round or not at all.
        """
        import torch

        length = min(TRIED_TOKENS, self._spec.sequence_length)
        ids = torch.arange(2 * length, device=self._device).reshape(2, length) % self._model.config.vocab_size
        mask = torch.ones_like(ids)
        mask[1, length // 2 :] = 0
        with torch.inference_mode():
            wanted = self._forward([ids, mask])
            try:
                got = self._forward([ids, mask.bool()[:, None, None, :]])
            except Exception:  # whatever an architecture's own code raises on a mask that it does not know
                return False
        return got.shape == wanted.shape and bool(torch.allclose(got, wanted, rtol=0.02, atol=0.02))


class InputBuffers:
    """Fixed memory for the inputs of one batch size: page-locked on the host, and on the device."""

    def __init__(self, shape: tuple[int, ...], device: str) -> None:
        """`shape`: `[inputs, batch, sequence_length]`."""
        import torch

        self._host = torch.zeros(shape, dtype=torch.int64, pin_memory=device == "cuda")
        self._array = self._host.numpy()
        self._device = torch.zeros(shape, dtype=torch.int64, device=device)
        # CUDA graphs then read the inputs where they are, without a copy of their own.
        torch._dynamo.mark_static_address(self._device)

    def fill(self, inputs: Sequence[TokenArray]) -> torch.Tensor:
        """Copy the inputs, int64 `[batch, sequence_length]` each, to the device in one piece; return them there."""
        for place, array in enumerate(inputs):
            self._array[place] = array
        return self._device.copy_(self._host, non_blocking=True)


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "device") and hasattr(value, "element_size")


def _weight_bytes(model: Any) -> dict[str, int]:
    """Return the bytes of all weights by dtype, packed INT8 weights of quantized layers included."""
    sizes: Counter[str] = Counter()
    for tensor in model.state_dict().values():
        if _is_tensor(tensor) and tensor.dim() > 0:
            sizes[str(tensor.dtype).removeprefix("torch.")] += tensor.numel() * tensor.element_size()
    for module in model.modules():
        if callable(getattr(module, "weight", None)):
            weight = module.weight()
            sizes[str(weight.dtype).removeprefix("torch.")] += int(np.prod(weight.shape)) * weight.element_size()
    return dict(sizes)


def _product_weights(model: Any) -> dict[str, int]:
    """Return the elements of the weights of all linear layers and convolutions by dtype, quantized ones included."""
    import torch
    from transformers.pytorch_utils import Conv1D

    products = (torch.nn.Linear, torch.nn.modules.conv._ConvNd, Conv1D)
    elements: Counter[str] = Counter()
    for module in model.modules():
        weight: Any = getattr(module, "weight", None)
        if callable(weight):
            weight = weight()
        elif not isinstance(module, products):
            continue
        elements[str(weight.dtype).removeprefix("torch.")] += weight.numel()
    return dict(elements)
