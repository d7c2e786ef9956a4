"""The quality gate: are the timed logits the model's logits?

Every run of the timed session is compared with the fp32 reference, so a row cannot
be fast and wrong.  The absolute error of a logit means little without the spread
of the logits (0.01 is nothing for a trained model and much for a random one), hence

    relative error = largest absolute difference / standard deviation of the reference logits

where the standard deviation is over sentences, averaged over labels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.params import Gate
from bench.inputs.batches import Batch

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Comparison:
    """How far the logits of some runs are from the reference."""

    max_abs_diff: float
    agreeing: int
    compared: int
    sentences: int
    fault: str = ""

    @property
    def agreement(self) -> float:
        """Share of compared predictions whose most likely label is the reference's."""
        return self.agreeing / self.compared if self.compared else 0.0


def compare(outputs: Iterable[tuple[Batch, Logits]], reference: Logits) -> Comparison:
    """Compare logits `[batch, labels]` of each run with the reference rows of its sentences."""
    largest, agreeing, compared = 0.0, 0, 0
    seen: set[int] = set()
    for batch, logits in outputs:
        wanted = reference[batch.indices]
        fault = _fault_of(logits, wanted)
        if fault:
            return Comparison(float("inf"), agreeing, compared, len(seen), fault)
        largest = max(largest, float(np.abs(logits - wanted).max()))
        agreeing += int((logits.argmax(axis=1) == wanted.argmax(axis=1)).sum())
        compared += len(wanted)
        seen.update(batch.indices.tolist())
    if not compared:
        return Comparison(float("inf"), 0, 0, 0, "no logits to compare")
    return Comparison(largest, agreeing, compared, len(seen))


def _fault_of(logits: Logits, wanted: Logits) -> str:
    if logits.size == 0:
        return "the output is empty"
    if logits.shape != wanted.shape:
        return f"the output has shape {list(logits.shape)}, wanted {list(wanted.shape)}"
    if not np.isfinite(logits).all():
        return "the output holds NaN or infinity"
    return ""


def reference_spread(reference: Logits) -> float:
    """Return the standard deviation of the reference logits over sentences, averaged over labels."""
    return float(reference.std(axis=0).mean())


def gate_verdict(comparisons: list[Comparison], spread: float, gate: Gate) -> tuple[dict[str, Any], str]:
    """Return (figures of a cell, reason for rejection or an empty string)."""
    fault = next((comparison.fault for comparison in comparisons if comparison.fault), "")
    if fault:
        return {}, fault
    largest = max(comparison.max_abs_diff for comparison in comparisons)
    compared = sum(comparison.compared for comparison in comparisons)
    agreement = sum(comparison.agreeing for comparison in comparisons) / compared
    relative = largest / spread if spread > 0 else float("inf")
    figures = {
        "max_abs_diff": largest,
        "relative_error": relative,
        "agreement": agreement,
        "checked_sentences": max(comparison.sentences for comparison in comparisons),
    }
    if not relative <= gate.max_relative_error:
        return figures, f"relative error {relative:.3g} is above {gate.max_relative_error:g}"
    if agreement < gate.min_agreement:
        return figures, f"agreement {agreement:.1%} is below {gate.min_agreement:.1%}"
    return figures, ""
