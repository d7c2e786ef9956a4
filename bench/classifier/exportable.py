"""Forms of the same model for the exporter; the first that keeps the model's logits is taken.

A simple graph is not right for every architecture: an additive 4-D mask drops a decoder's causal mask and is read the
other way round by DeBERTa.  So each form is tried on real sentences.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.classifier.model import logits_of
from bench.core.errors import ModelError
from bench.core.model_inputs import largest_difference
from bench.inputs.encoded import Encoded

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Form:
    """How attention is computed, and whether the mask is handed on as it is or as an additive 4-D one."""

    attention: str
    has_additive_mask: bool

    def __str__(self) -> str:
        mask = "an additive 4-D mask" if self.has_additive_mask else "transformers' own mask"
        return f"{self.attention} attention with {mask}"


FORMS = (Form("eager", True), Form("eager", False), Form("sdpa", True), Form("sdpa", False))
"""The simplest graph first: eager attention is what fusion knows, an additive mask needs no nodes that build one."""


def exportable(classifier: Any, form: Form) -> torch.nn.Module:
    """Wrap the classifier so that it takes tensors in the order of `INPUT_NAMES` and gives logits.

    The additive mask is `(1 - mask) * lowest float`.  Token types that are not given are a constant 0 of shape
    `[1, 1]`: transformers' own buffer is expanded to the batch in the graph, on the CPU.
    """
    import torch

    class Exportable(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.classifier = classifier
            parameters = inspect.signature(classifier.forward).parameters
            has_types = "token_type_ids" in parameters and bool(getattr(classifier.config, "type_vocab_size", 0))
            self.has_types = has_types
            self.register_buffer("no_types", torch.zeros(1, 1, dtype=torch.int64))

        def forward(
            self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
        ) -> torch.Tensor:
            mask = attention_mask
            if form.has_additive_mask:
                kept = attention_mask[:, None, None, :].to(torch.float32)
                mask = (1.0 - kept) * torch.finfo(torch.float32).min
            named = {"input_ids": input_ids, "attention_mask": mask}
            if token_type_ids is not None:
                named["token_type_ids"] = token_type_ids
            elif self.has_types:
                named["token_type_ids"] = self.no_types
            logits: torch.Tensor = self.classifier(**named).logits
            return logits

    return Exportable().eval()


def faithful_forms(
    classifier: Any, encoded: Encoded, reference: NDArray[np.float32], max_abs_diff: float
) -> Iterator[Form]:
    """Yield the forms whose logits are the reference's within `max_abs_diff`; ModelError if there is none.

    The classifier's attention is left as the form has it while it is looked at.
    """
    differences = []
    for form in FORMS:
        difference = _try(classifier, form, encoded, reference)
        if isinstance(difference, float) and difference <= max_abs_diff:
            yield form
        else:
            differences.append(f"{form}: {difference if isinstance(difference, str) else f'off by {difference:.3g}'}")
    if len(differences) == len(FORMS):
        raise ModelError(
            f"this {classifier.config.model_type} model cannot be written down for the exporter without changing its "
            f"logits ({'; '.join(differences)})"
        )


def _try(classifier: Any, form: Form, encoded: Encoded, reference: NDArray[np.float32]) -> float | str:
    """Return the largest difference to the reference, or why the model does not take this form."""
    try:
        classifier.set_attn_implementation(form.attention)
        if classifier.config._attn_implementation != form.attention:
            return f"has no {form.attention} attention"
        return largest_difference(logits_of(exportable(classifier, form), encoded), reference)
    except Exception as problem:  # whatever an architecture's own code raises on a mask that it does not know
        return type(problem).__name__
