"""Linear layers in FP8 (e4m3), as tensor cores from Ada on multiply it: one static scale a tensor.

A tensor's scale is its largest absolute value over e4m3's largest number: of weights as they are, of activations as
calibration shows them.  What lies beyond saturates.  A scale a token would have to be found in each call.
"""

from collections.abc import Iterable
from typing import Any

import torch

from bench.core.files import first_line
from bench.runtimes.base.packed import PackedClassifier
from bench.runtimes.base.session import Unavailable

TYPE = getattr(torch, "float8_e4m3fn", None)
LARGEST = 448.0
"""e4m3's largest number (Micikevicius et al., FP8 Formats for Deep Learning, 2022)."""
MULTIPLE = 16
"""Of which both sizes of a weight must be a multiple: what `torch._scaled_mm` takes."""


class Fp8Linear(torch.nn.Linear):  # type: ignore[misc]
    """A linear layer that rounds its input to FP8, and returns the type it was given."""

    def __init__(self, linear: torch.nn.Linear, largest: torch.Tensor) -> None:
        """`largest`: an input's absolute value; Unavailable for sizes that `torch._scaled_mm` does not take."""
        super().__init__(linear.in_features, linear.out_features, device="meta")
        if linear.in_features % MULTIPLE or linear.out_features % MULTIPLE:
            sizes = f"{linear.in_features} to {linear.out_features}"
            raise Unavailable(f"FP8 takes sizes that are multiples of {MULTIPLE}, this model has a layer of {sizes}")
        scale = scale_of(linear.weight)
        self.weight = torch.nn.Parameter(to_fp8(linear.weight, scale), requires_grad=False)
        self.bias = linear.bias
        self.register_buffer("weight_scale", scale)
        self.register_buffer("input_scale", scale_of(largest))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Take `[…, in_features]` of FP16 and return `[…, out_features]`, added up and biased in one product."""
        made = torch._scaled_mm(
            to_fp8(hidden.flatten(0, -2), self.input_scale),
            self.weight.t(),
            self.input_scale,
            self.weight_scale,
            bias=self.bias,
            out_dtype=hidden.dtype,
            use_fast_accum=True,
        )
        return made.unflatten(0, hidden.shape[:-1])


def scale_of(values: torch.Tensor) -> torch.Tensor:
    """Return the scale of a tensor, float32 without dimensions; 1 for one of zeros."""
    scale = values.detach().abs().max().float() / LARGEST
    return torch.where(scale > 0, scale, 1.0)


def to_fp8(values: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Return values / scale, saturated: a cast alone makes NaN of what is too large."""
    return (values.float() / scale).clamp(-LARGEST, LARGEST).to(TYPE)


def quantize(classifier: PackedClassifier, rows: Iterable[tuple[torch.Tensor, ...]]) -> None:
    """Put an `Fp8Linear` in the place of each linear layer that all tokens of a row go through.

    `rows`: arguments of `classifier.logits`, whose activations the scales come from.  The head sees one token a
    sentence and stays as it is.  Unavailable where PyTorch, the GPU or the model does not take FP8.
    """
    if TYPE is None or not hasattr(torch, "_scaled_mm"):
        raise Unavailable(f"PyTorch {torch.__version__} has no torch._scaled_mm for FP8")
    places = [(parent, name) for parent in classifier.model.modules() for name in parent._modules]
    with torch.no_grad():
        largest = _largest_inputs(classifier, rows)
        for parent, name in places:
            if (linear := parent._modules[name]) in largest:
                made = Fp8Linear(linear, largest[linear])
                _try(made)
                setattr(parent, name, made)


def _largest_inputs(
    classifier: PackedClassifier, rows: Iterable[tuple[torch.Tensor, ...]]
) -> dict[torch.nn.Module, torch.Tensor]:
    """Return by linear layer the largest absolute value of the inputs that it was given for all tokens."""
    largest: dict[torch.nn.Module, torch.Tensor] = {}
    tokens = 0

    def look(linear: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        if given[0].shape[:-1].numel() == tokens:
            seen = given[0].abs().max()
            largest[linear] = torch.maximum(largest.get(linear, seen), seen)

    linears = [module for module in classifier.model.modules() if type(module) is torch.nn.Linear]
    handles = [linear.register_forward_pre_hook(look) for linear in linears]
    for row in rows:
        tokens = row[0].numel()
        classifier.logits(*row)
    for handle in handles:
        handle.remove()
    return largest


def _try(linear: Any) -> None:
    try:
        linear(torch.zeros(MULTIPLE, linear.in_features, dtype=torch.float16, device=linear.weight.device))
    except RuntimeError as problem:
        raise Unavailable(f"torch._scaled_mm does not multiply FP8 here: {first_line(problem)}") from None
