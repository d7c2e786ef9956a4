"""The quality gate: are the timed logits the model's logits?

Every run of the timed session is compared with the fp32 reference, so a row cannot be fast and wrong.  The absolute
error of a logit means little without the spread of the logits (0.01 is nothing for a trained model), hence

    relative error = largest absolute difference / standard deviation of the reference logits

where the standard deviation is over sentences, averaged over labels.  What agreement is depends on the model's task:

    single_label  share of sentences whose most likely label is the reference's
    multi_label   share of labels that are on the reference's side of the threshold (logit 0, probability ½)
    regression    Pearson's correlation of the outputs with the reference's
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.model_inputs import IntArray, Task, largest_difference
from bench.core.params import Gate, Tolerances
from bench.core.reports import Labels

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Comparison:
    """How far the logits of some runs are from the reference.

    `sums`: of x, y, x², y² and xy, x the outputs and y the reference's, from which the correlation follows.
    """

    max_abs_diff: float
    agreeing: int
    compared: int
    sentences: int
    fault: str = ""
    sums: list[float] = field(default_factory=list)


def compare(outputs: Iterable[tuple[IntArray, Logits]], reference: Logits, task: Task = "single_label") -> Comparison:
    """Compare logits `[batch, labels]` of each run with the reference rows of its sentences, by their numbers."""
    differences: list[float] = []
    agreeing, compared = 0, 0
    sums = np.zeros(5)
    seen: set[int] = set()
    for indices, logits in outputs:
        wanted = reference[indices]
        if fault := _fault_of(logits, wanted):
            return Comparison(float("inf"), agreeing, compared, len(seen), fault)
        differences.append(largest_difference(logits, wanted))
        same = _same_decisions(logits, wanted, task)
        agreeing += int(same.sum())
        compared += same.size
        sums += _sums(logits, wanted)
        seen.update(indices.tolist())
    if not compared:
        return Comparison(float("inf"), 0, 0, 0, "no logits to compare")
    kept_sums = sums.tolist() if task == "regression" else []
    return Comparison(max(differences), agreeing, compared, len(seen), sums=kept_sums)


def _same_decisions(logits: Logits, wanted: Logits, task: Task) -> NDArray[np.bool_]:
    if task == "single_label":
        return np.asarray(logits.argmax(axis=1) == wanted.argmax(axis=1))
    return np.asarray((logits > 0) == (wanted > 0))


def _sums(logits: Logits, wanted: Logits) -> NDArray[np.float64]:
    x, y = logits.astype(np.float64).ravel(), wanted.astype(np.float64).ravel()
    return np.array([x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum()])


def agreement_of(comparisons: list[Comparison]) -> float:
    """Return the agreement of several comparisons together: a share of the decisions, or the correlation.

    0.0 without any comparison, or where a correlation has no meaning.
    """
    compared = sum(comparison.compared for comparison in comparisons)
    if not compared:
        return 0.0
    if not all(comparison.sums for comparison in comparisons):
        return sum(comparison.agreeing for comparison in comparisons) / compared
    x, y, xx, yy, xy = np.sum([comparison.sums for comparison in comparisons], axis=0) / compared
    spreads = (xx - x * x) * (yy - y * y)
    return float((xy - x * y) / math.sqrt(spreads)) if spreads > 0 else 0.0


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


def tolerances(gate: Gate, is_real: bool) -> Tolerances:
    """Return what a precision may differ by: random weights may have limits of their own."""
    return gate if is_real or gate.synthetic is None else gate.synthetic


def gate_verdict(comparisons: list[Comparison], spread: float, gate: Tolerances) -> tuple[dict[str, Any], str]:
    """Return (figures of a cell, reason for rejection or an empty string)."""
    fault = next((comparison.fault for comparison in comparisons if comparison.fault), "")
    if fault:
        return {}, fault
    largest = max(comparison.max_abs_diff for comparison in comparisons)
    agreement = agreement_of(comparisons)
    relative = largest / spread if spread > 0 else float("inf")
    figures = {
        "max_abs_diff": largest,
        "relative_error": relative,
        "agreement": agreement,
        "checked_sentences": max(comparison.sentences for comparison in comparisons),
    }
    if not relative <= gate.max_relative_error:
        return figures, f"relative error {relative:.3g} is above {gate.max_relative_error:g}"
    if not agreement >= gate.min_agreement:
        return figures, f"agreement {agreement:.1%} is below {gate.min_agreement:.1%}"
    return figures, ""


def compare_labels(predicted: NDArray[np.int64], reference: NDArray[np.int64], labels: NDArray[np.int64]) -> Labels:
    """Count on the labelled sentences (label 0 or more) what a row and the reference get right.

    `only_reference` and `only_row`: sentences that one of the two alone gets right.
    """
    known = labels >= 0
    row, truth = predicted[known] == labels[known], reference[known] == labels[known]
    return Labels(
        labelled=int(known.sum()),
        right=int(row.sum()),
        reference_right=int(truth.sum()),
        only_reference=int((truth & ~row).sum()),
        only_row=int((row & ~truth).sum()),
    )


def accuracy_fault(counts: Labels | None, gate: Gate) -> str:
    """Return why a row's accuracy is too far below the reference's; empty if it is not, or is not known."""
    if not counts or gate.max_accuracy_loss is None:
        return ""
    loss = (counts.reference_right - counts.right) / counts.labelled
    if loss <= gate.max_accuracy_loss:
        return ""
    return f"accuracy is {loss:.2%} of the sentences below fp32's, allowed: {gate.max_accuracy_loss:.2%}"
